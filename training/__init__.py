"""Train user and item encoders and a reranker in TensorFlow / Keras 3.

`train` does all of it: tables in, bundle out; `evaluate` measures a bundle. The modules beside this
file are public: `events`, `entities`, `formats`, `event_weights` and `metrics`. So are the names in
`__all__` of `config`, `data`, `cleaning`, `splits` and `features`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shortlist.training.pipeline.evaluation import evaluate
    from shortlist.training.pipeline.train import train
    from shortlist.training.pipeline.train_report import TrainReport

__all__ = ["TrainReport", "evaluate", "train"]


def __getattr__(name: str) -> Any:
    """Import the pipeline when it is asked for: every module below this one is lighter than it."""
    if name == "evaluate":
        from shortlist.training.pipeline import evaluation

        return evaluation.evaluate
    if name in __all__:
        from shortlist.training.pipeline import train as pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
