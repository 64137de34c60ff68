"""The settings as a page for people: every key with its value, its meaning, what is allowed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from shortlist.training.config.sections import Config
from shortlist.training.config.settings import SECTIONS, presets
from shortlist.training.config.values import toml_value

__all__ = ["describe_config"]


def describe_config(config: Config) -> str:
    """Write every setting as TOML with comments; `read_config` reads it back.

    Examples
    --------
    >>> page = describe_config(Config())
    >>> page.splitlines()[0]  # doctest: +ELLIPSIS
    '# Settings of `shortlist train`. Presets: beauty, cooccurrence, ease, ials, item-knn, ...
    """
    lines = [f"# Settings of `shortlist train`. Presets: {', '.join(presets())}"]
    for section in SECTIONS:
        values = getattr(config, section)
        summary = (type(values).__doc__ or "").partition(": ")[2].strip()
        lines += ["", f"# {summary[:1].upper()}{summary[1:]}", f"[{section}]"]
        tables: list[str] = []
        for item in dataclasses.fields(values):
            value, text = getattr(values, item.name), item.metadata["help"]
            if isinstance(value, dict):
                tables += [f"[{section}.{item.name}]  # {text}"]
                tables += [f"{toml_value(str(k))} = {toml_value(v)}" for k, v in value.items()]
            else:
                line = f"{item.name} = {toml_value(value)}"
                lines.append(f"{line:31} # {text}{_allowed(item.metadata)}")
        lines += tables
    return "\n".join(lines) + "\n"


def _allowed(rules: Mapping[str, Any]) -> str:
    if "choices" in rules:
        return f" ({', '.join(rules['choices'])})"
    low, high = rules.get("low", -math.inf), rules.get("high", math.inf)
    if low == -math.inf and high == math.inf:
        return ""
    return f" ({low:g} or more)" if high == math.inf else f" ({low:g} to {high:g})"
