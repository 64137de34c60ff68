"""What training needs of Keras, whatever the user's environment variables and keras.json say."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from shortlist.errors import ShortlistError

NEEDED = {"KERAS_BACKEND": "tensorflow", "KERAS_NNX_ENABLED": "0", "TF_USE_LEGACY_KERAS": "0"}
# What Keras accepts in its file; of a damaged file it reads nothing.
CHOICES = {
    "floatx": ("float16", "float32", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}


def require_tensorflow() -> None:
    """Say which extra to install where a package of training is missing, without importing any.

    Raises
    ------
    ShortlistError
        Names the first package that is missing.
    """
    for package in ("tensorflow", "keras", "tf2onnx", "onnx"):
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            raise ShortlistError(
                f"training needs the package {package!r}, which is not installed; "
                "install it with: pip install 'shortlist[train]'"
            )


def choose_keras() -> None:
    """Choose Keras 3 on TensorFlow for this process, unless Keras is already imported.

    Raises
    ------
    ShortlistError
        A keras.json with which nobody can import Keras.
    """
    if "keras" not in sys.modules:
        _check_file(Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json")
        os.environ.update(NEEDED)


def check_keras(keras: Any) -> None:
    """Compute in float32, as keras.json or the user's program may say otherwise.

    Raises
    ------
    ShortlistError
        Keras was imported before with another backend.
    """
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise ShortlistError(
            f"Keras: got the backend {backend!r}, with which this process imported it, expected "
            "'tensorflow'; set KERAS_BACKEND=tensorflow before Keras is first imported"
        )
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


def _check_file(path: Path) -> None:
    try:
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return
    settings = settings if isinstance(settings, dict) else {}
    wrong = {
        key: f"one of {', '.join(choices)}"
        for key, choices in CHOICES.items()
        if settings.get(key, choices[0]) not in choices
    }
    if not isinstance(settings.get("epsilon", 0.0), float):
        wrong["epsilon"] = "a number such as 1e-07"
    for key, expected in wrong.items():
        raise ShortlistError(
            f"{path}: {key}: got {settings[key]!r}, expected {expected}, as Keras refuses all else "
            "when it is imported; correct it, or delete the file (training computes in float32)"
        )
