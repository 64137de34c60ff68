"""Settings that a kind of training has to have: put in place, and refused where others were set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, Protocol

from shortlist.errors import DataError
from shortlist.training.config.sections import Config
from shortlist.training.config.settings import apply_overrides

__all__ = ["Refusal", "first_set", "with_wanted"]


class Refusal(Protocol):
    """Makes the error for a setting: its name, what it is, what it has to be, and why."""

    def __call__(self, name: str, got: object, expected: object, why: str) -> DataError:
        """Make the error."""


def with_wanted(
    config: Config,
    wanted: Mapping[str, tuple[object, str]],
    given: Collection[str],
    closed: Collection[str],
    kind: str,
    refused: Refusal,
) -> tuple[Config, list[str]]:
    """Replace settings that nobody set.

    Parameters
    ----------
    config : Config
    wanted : dict of str to (value, why)
        By name of the setting, such as ``split.protocol``.
    given : collection of str
        Settings that were set, if to their defaults. These stay, unless they are ``auto``.
    closed : collection of str
        Settings of `wanted` that may not be set to anything else.
    kind : str
        First word of the notes.
    refused : callable
        Makes the error of a closed setting.

    Returns
    -------
    config : Config
    notes : list of str
        What was replaced and why, as sentences.
    """
    replaced, notes = {}, []
    for name, (value, why) in wanted.items():
        section, _, key = name.partition(".")
        present = getattr(getattr(config, section), key)
        if present == value:
            continue
        if name not in given or present == "auto":
            replaced[name] = value
            notes.append(f"{kind}: {name} is {value!r}, not {present!r}: {why}")
        elif name in closed:
            raise refused(name, present, value, why)
    return apply_overrides(config, replaced), notes


def first_set(section: Any) -> tuple[str, object] | None:
    """Return name and value of the first setting of a section that is not its default."""
    default = type(section)()
    for field in fields(section):
        value = getattr(section, field.name)
        if value != getattr(default, field.name):
            return field.name, value
    return None
