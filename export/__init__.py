"""Turn trained Keras models into a verified bundle."""

from typing import TYPE_CHECKING, Any

from shortlist.export.errors import ExportError
from shortlist.training.config.environment import choose_keras

if TYPE_CHECKING:
    from shortlist.export.writer import ExportReport, export_bundle

__all__ = ["ExportError", "ExportReport", "export_bundle"]

choose_keras()  # before modules here import Keras


def __getattr__(name: str) -> Any:
    """Import the writer, and TensorFlow with it, when it is asked for."""
    if name in ("ExportReport", "export_bundle"):
        from shortlist.export import writer

        return getattr(writer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
