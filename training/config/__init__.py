"""Settings of a run: TOML, presets, and what they may hold."""

from shortlist.training.config.sections import Config, EventsConfig
from shortlist.training.config.settings import load_config, presets

__all__ = ["Config", "EventsConfig", "load_config", "presets"]
