"""Train user and item encoders and a reranker in TensorFlow / Keras 3.

The modules beside this file are public: `events`, `entities`, `formats`, `event_weights` and
`metrics`. So are `evaluate`, and the names in `__all__` of `config`, `data`, `cleaning`, `splits`
and `features`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shortlist.training.pipeline.evaluation import evaluate

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    """Import `evaluate` at its first use: every module below this one is lighter than it."""
    if name == "evaluate":
        from shortlist.training.pipeline.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
