"""What this build is and holds, for bug reports and `shortlist inspect`."""

import numpy as np

from shortlist import _core
from shortlist._runtime import describe_runtime
from shortlist.plugin import plugin_path


def build_info() -> dict[str, str]:
    """Return what a bug report needs: versions, compiler, what the library holds and finds.

    `onnxruntime` is the release and the library that an engine would run on, or why there is none;
    nothing of it is loaded for that.

    Examples
    --------
    >>> build_info()["holds"]
    'index, engine, ONNX Runtime operators'
    """
    return {
        "version": _core.__version__,
        "compiler": _core.compiler,
        "build_type": _core.build_type,
        "library": plugin_path(),
        "holds": "index, engine, ONNX Runtime operators",
        "c_abi": str(_core.c_abi_version),
        "onnxruntime_api": f"{_core.onnxruntime_api_version} or newer",
        "onnxruntime": describe_runtime(),
        "simd_level": _core.simd_level(),
        "simd_levels": ", ".join(_core.simd_levels()),
        "numpy": np.__version__,
    }
