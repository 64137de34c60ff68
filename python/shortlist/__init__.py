"""Exact top-N recommendations inside your own process."""

from shortlist import _quiet  # noqa: F401, it takes interrupts from here on

# isort: split
from shortlist import batch, datasets
from shortlist._build import build_info
from shortlist._core import __version__
from shortlist._serving.sessions import Session, Sessions
from shortlist.batch import ScoreReport, score
from shortlist.bundle import Bundle
from shortlist.engine import Engine
from shortlist.errors import BundleError, DataError, ShortlistError
from shortlist.explanations import Explanations, Reason
from shortlist.exploration import Epsilon, Softmax
from shortlist.feedback import FeedbackLog
from shortlist.index import Index, simd_level
from shortlist.loading import load
from shortlist.plugin import plugin_path
from shortlist.recommendations import Hits, Recommendation, Recommendations, VariedHits
from shortlist.threads import get_num_threads, set_num_threads

__all__ = [
    "Bundle",
    "BundleError",
    "DataError",
    "Engine",
    "Epsilon",
    "Explanations",
    "FeedbackLog",
    "Hits",
    "Index",
    "Reason",
    "Recommendation",
    "Recommendations",
    "ScoreReport",
    "Session",
    "Sessions",
    "ShortlistError",
    "Softmax",
    "VariedHits",
    "__version__",
    "batch",
    "build_info",
    "datasets",
    "get_num_threads",
    "load",
    "plugin_path",
    "score",
    "set_num_threads",
    "simd_level",
]
