"""Training brings its own settings of Keras, or says in one line which of the user's to change."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import pytest

from shortlist.errors import ShortlistError
from shortlist.training.config.environment import check_keras, choose_keras

PLAIN = {
    "floatx": "float32",
    "epsilon": 1e-07,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}
# Whatever room of the training comes first, an encoder computes in float32 on TensorFlow.
ENCODE = """
import sys
{first}
import keras
from shortlist.training.models.layers import l2_normalize
layer = keras.layers.Dense(2, kernel_initializer="ones")
print(keras.config.backend(), keras.config.floatx(), keras.config.epsilon(),
      keras.config.image_data_format(), layer(l2_normalize(keras.ops.ones((1, 4)))).dtype)
"""
FIRST = (
    "import shortlist.training.fit.fit",
    "import shortlist.training.fit.lazy_adam",
    "from shortlist.export import export_bundle",
    "import shortlist.export.graph",
    "import shortlist.training.models.losses",
)


def start(code, tmp_path, settings=None, **environment):
    home = tmp_path / "keras"
    home.mkdir()
    text = settings if isinstance(settings, str) else json.dumps(PLAIN | (settings or {}))
    (home / "keras.json").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, *(["-S"] if sys.flags.no_site else []), "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_HOME": str(home), **environment},
    )


@pytest.mark.parametrize(
    ("first", "settings", "environment"),
    [
        (FIRST[0], {"backend": "jax", "floatx": "float16"}, {"KERAS_BACKEND": "torch"}),
        (FIRST[1], {"floatx": "float64", "epsilon": 0.5}, {"TF_USE_LEGACY_KERAS": "1"}),
        (FIRST[2], {"backend": "nonesuch"}, {"KERAS_BACKEND": "", "KERAS_NNX_ENABLED": "1"}),
        (FIRST[3], {"image_data_format": "channels_first"}, {"KERAS_BACKEND": "jax"}),
        (FIRST[4], {"nnx_enabled": True, "floatx": "float64"}, {}),
        (FIRST[0], "{damaged", {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}),
        ("keras = __import__('keras'); keras.config.set_dtype_policy('mixed_float16')", None, {}),
    ],
)
def test_training_computes_in_float32_on_tensorflow(tmp_path, first, settings, environment):
    done = start(ENCODE.format(first=first), tmp_path, settings, **environment)
    assert done.returncode == 0, done.stderr
    expected = "tensorflow float32 1e-07 channels_last <dtype: 'float32'>"
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"floatx": "bfloat16"}, "floatx: got 'bfloat16', expected one of float16, float32"),
        ({"epsilon": 1}, "epsilon: got 1, expected a number such as 1e-07"),
        ({"image_data_format": None}, "image_data_format: got None, expected one of channels_last"),
    ],
)
def test_a_file_that_keras_refuses_is_named(tmp_path, settings, message):
    code = "import sys; from shortlist.cli import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\na,x,1\nb,y,2\n")
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--out", str(tmp_path / "x.shortlist")]
    done = start(code.replace("sys.argv[1:]", repr(argv)), tmp_path, settings)
    assert done.returncode == 1
    assert all(line.startswith("shortlist train: ") for line in done.stderr.splitlines())
    line = done.stderr.splitlines()[-1]
    assert f"keras.json: {message}" in line
    assert "correct it, or delete the file" in line


def test_another_backend_that_the_process_already_has_is_named(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ShortlistError, match="set KERAS_BACKEND=tensorflow before"):
        check_keras(keras)


def test_a_process_that_has_keras_keeps_its_environment(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    choose_keras()
    assert os.environ["KERAS_BACKEND"] == "jax"
