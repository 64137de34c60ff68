"""Exact top-N recommendations inside your own process."""

from shortlist._core import __version__
from shortlist.errors import BundleError, DataError, ShortlistError
from shortlist.index import Hits, Index, build_info, simd_level

__all__ = [
    "BundleError",
    "DataError",
    "Hits",
    "Index",
    "ShortlistError",
    "__version__",
    "build_info",
    "simd_level",
]
