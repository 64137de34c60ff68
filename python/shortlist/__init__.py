"""Exact top-N recommendations inside your own process."""

from shortlist._core import __version__

__all__ = ["__version__"]
