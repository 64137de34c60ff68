"""Settings of a run: TOML, presets, and what they may hold."""
