"""Where this user keeps copies of what comes from elsewhere."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Return $SHORTLIST_CACHE, or ``shortlist`` in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("SHORTLIST_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "shortlist"
