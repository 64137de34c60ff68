"""Check and write single settings: typed, within their range, with messages that help."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from typing import Any

from shortlist.errors import DataError


def check_value(key: str, value: object, default: object, rules: Mapping[str, Any]) -> object:
    """Check one setting against the type of its default and its rules; give it back typed.

    Rules: ``low`` and ``high`` of numbers (also those in a list or a table), ``choices`` of text
    (with ``or_class`` also "module:Class"),
    ``parse`` of a table's entries that are no numbers, which are text as they are where
    ``is_text``. A list without ``low`` is one of text.
    """
    if isinstance(value, str) and not isinstance(default, str):
        value = _from_text(value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise DataError(f"{key}: got {value!r}, expected true or false")
        return value
    if isinstance(default, int | float):
        return _check_number(key, value, default, rules)
    if isinstance(default, tuple):
        return _check_list(key, value, rules)
    if isinstance(default, dict):
        return _check_table(key, value, rules)
    if not isinstance(value, str):
        raise DataError(f"{key}: got {value!r} ({type(value).__name__}), expected text")
    is_class = bool(rules.get("or_class")) and ":" in value
    if "choices" in rules and value not in rules["choices"] and not is_class:
        raise DataError(unknown(key, value, rules["choices"]))
    return value


def _check_list(key: str, value: object, rules: Mapping[str, Any]) -> object:
    is_text = "low" not in rules
    if not isinstance(value, list | tuple):
        wanted = 'text such as ["skip"]' if is_text else "integers such as [64, 32]"
        raise DataError(f"{key}: got {value!r}, expected a list of {wanted}")
    if not is_text:
        return tuple(_check_number(f"{key}[{i}]", v, 0, rules) for i, v in enumerate(value))
    for i, item in enumerate(value):
        if not isinstance(item, str):
            raise DataError(f"{key}[{i}]: got {item!r}, expected text")
    return tuple(value)


def _check_table(key: str, value: object, rules: Mapping[str, Any]) -> object:
    parse = rules.get("parse", lambda k, v: _check_number(k, v, 0.0, rules))
    if not isinstance(value, dict):
        wanted = 'column = "kind"' if "parse" in rules else "kind = number"
        raise DataError(f"{key}: got {value!r}, expected a table of {wanted}")
    if not rules.get("is_text"):
        value = {k: _from_text(v) if isinstance(v, str) else v for k, v in value.items()}
    return {k: parse(f"{key}.{k}", v) for k, v in value.items()}


def _check_number(key: str, value: object, default: float, rules: Mapping[str, Any]) -> float:
    wanted = "an integer" if isinstance(default, int) else "a number"
    low, high = rules.get("low", -math.inf), rules.get("high", math.inf)
    allowed = f">= {low}" if high == math.inf else f"from {low} to {high}"
    wanted += f" {allowed}" if (low, high) != (-math.inf, math.inf) else ""
    accepted: tuple[type, ...] = (int,) if isinstance(default, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, int | float) or type(value) not in accepted:
        raise DataError(f"{key}: got {value!r}, expected {wanted}")
    if not low <= value <= high:  # NaN fails this too
        raise DataError(f"{key}: got {value!r}, expected {wanted}")
    return float(value) if isinstance(default, float) else value


def _from_text(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def unknown(what: str, got: object, allowed: Any) -> str:
    """Word the message about a name that does not exist: what is allowed, the nearest, the fix."""
    names = [str(name) for name in allowed]
    near = difflib.get_close_matches(str(got), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    fix = "use one of these" if names else "leave it out"
    return f"{what}: got {got!r}, allowed: {', '.join(names) or '(none)'}{hint} Fix: {fix}"


def toml_value(value: object) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, dict):
        entries = (f"{toml_value(name)} = {toml_value(item)}" for name, item in value.items())
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)  # shortest text that reads back to the same float
    return str(value)


def _toml_text(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(c) or _toml_character(c) for c in text) + '"'


def _toml_character(character: str) -> str:
    return character if character.isprintable() else f"\\U{ord(character):08x}"
