"""Settings of a training run: TOML in, TOML out, presets by name, overrides from flags."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path

from shortlist._columns.files import read_text
from shortlist.errors import DataError
from shortlist.training.config.sections import Config
from shortlist.training.config.values import check_value, toml_value, unknown

PRESET_FOLDER = Path(__file__).parent / "presets"
CHOSEN_SECTIONS = ("model", "linear", "train", "scorer")  # they say what is trained
OPEN_SETTINGS = ("train.seed", "train.n_threads", "scorer.seed")
SECTIONS: tuple[str, ...] = tuple(section.name for section in dataclasses.fields(Config))


def presets() -> list[str]:
    """Names of the settings that come with shortlist."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.toml"))


def load_config(
    preset: str | None = None,
    path: str | Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Read a preset or a TOML file, then apply overrides; neither given: the defaults.

    Parameters
    ----------
    preset : str, optional
        One of `presets()`.
    path : path, optional
        TOML file; keys that are left out keep their defaults.
    overrides : mapping, optional
        ``{"train.seed": 1}``, as for `apply_overrides`.

    Raises
    ------
    DataError
        Both preset and path, an unknown preset, an unreadable file, or a bad key or value.
    """
    if preset is not None and path is not None:
        raise DataError(f"preset and path: got {preset!r} and {path!s}, expected only one of them")
    config = Config()
    if preset is not None:
        path = _preset_path(preset)
    if path is not None:
        config = read_config(path)
    return apply_overrides(config, overrides or {})


def leaves_open(
    preset: str | None = None,
    path: str | Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> bool:
    """Say whether `load_config` of the same leaves open what is trained, for `train` to choose.

    It does unless something of `CHOSEN_SECTIONS` but `OPEN_SETTINGS` is set, if to its default.
    """
    return not any(
        name.partition(".")[0] in CHOSEN_SECTIONS and name not in OPEN_SETTINGS
        for name in given_settings(preset, path, overrides)
    )


def given_settings(
    preset: str | None = None,
    path: str | Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> set[str]:
    """Name the settings that the same arguments of `load_config` set, if to their defaults."""
    if preset is not None:
        path = _preset_path(preset)
    tree = {} if path is None else tomllib.loads(read_text(path))
    names = {f"{section}.{key}" for section, values in tree.items() for key in values}
    return names | set(overrides or {})


def _preset_path(preset: str) -> Path:
    if preset not in presets():
        raise DataError(unknown("preset", preset, presets()))
    return PRESET_FOLDER / f"{preset}.toml"


def read_config(path: str | Path) -> Config:
    """Read a TOML file; DataError names the file, the key, what came and what is allowed."""
    try:
        text = read_text(path)
    except DataError as error:
        raise DataError(f"config: {error}") from error
    return from_toml(text, source=str(path))


def from_toml(text: str, *, source: str = "config") -> Config:
    """Parse TOML text into a Config."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{source}: not valid TOML: {error}") from error
    config = Config()
    for section, values in tree.items():
        if section not in SECTIONS:
            raise DataError(f"{source}: " + unknown("section", section, SECTIONS))
        if not isinstance(values, dict):
            raise DataError(f"{source}: {section}: got {values!r}, expected a [{section}] table")
        try:
            config = _replace(config, section, values)
        except DataError as error:
            raise DataError(f"{source}: {error}") from error
    return config


def to_toml(config: Config) -> str:
    """Write every setting as TOML; `from_toml` gives the same Config back."""
    lines: list[str] = []
    for section in SECTIONS:
        lines.append(f"[{section}]")
        tables: list[str] = []
        values = getattr(config, section)
        for item in dataclasses.fields(values):
            value = getattr(values, item.name)
            if isinstance(value, dict):
                tables.append(f"[{section}.{item.name}]")
                tables += [f"{toml_value(str(k))} = {toml_value(v)}" for k, v in value.items()]
            else:
                lines.append(f"{item.name} = {toml_value(value)}")
        lines += [*tables, ""]
    return "\n".join(lines)


def apply_overrides(config: Config, overrides: Mapping[str, object]) -> Config:
    """Replace single settings: ``apply_overrides(config, {"train.seed": 1})``.

    Text given for a setting that is not text is read as a TOML value, so flags can be passed on
    as they are. ``data.features.NAME`` declares one column, ``data.columns.NAME`` renames one,
    ``events.weights.KIND`` weights one kind; True for ``data.ignore.NAME`` adds a name to the list.
    """
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if section not in SECTIONS:
            raise DataError(unknown("section", section, SECTIONS) + f" (in override {key!r})")
        if not name:
            raise DataError(f"override {key!r}: expected SECTION.KEY, e.g. train.seed")
        table, _, entry = name.partition(".")
        present = getattr(getattr(config, section), table, None)
        if entry and isinstance(present, dict):
            name, value = table, {**present, entry: value}
        elif entry and isinstance(present, tuple) and value in (True, "true"):
            name, value = table, (*present, entry)
        config = _replace(config, section, {name: value})
    return config


def _replace(config: Config, section: str, values: Mapping[str, object]) -> Config:
    current = getattr(config, section)
    known = {item.name: item for item in dataclasses.fields(current)}
    checked: dict[str, object] = {}
    for name, value in values.items():
        if name not in known:
            raise DataError(unknown(f"key in [{section}]", name, list(known)))
        default = getattr(type(current)(), name)
        checked[name] = check_value(f"{section}.{name}", value, default, known[name].metadata)
    return dataclasses.replace(config, **{section: dataclasses.replace(current, **checked)})
