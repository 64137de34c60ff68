"""Train user and item encoders and a reranker in TensorFlow / Keras 3.

`train` does all of it: tables in, bundle out. The modules beside this file are public: `events`,
`entities`, `formats`, `event_weights` and `metrics`. So are the names in `__all__` of `config`,
`data`, `cleaning`, `splits` and `features`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shortlist.training.pipeline.train import train
    from shortlist.training.pipeline.train_report import TrainReport

__all__ = ["TrainReport", "train"]


def __getattr__(name: str) -> Any:
    """Import the pipeline when it is asked for."""
    if name in __all__:
        from shortlist.training.pipeline import train as pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
