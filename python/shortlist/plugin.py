"""The compiled library that hosts in other languages load."""

import ctypes
from pathlib import Path

from shortlist import _core


def plugin_path() -> str:
    """Return the path of `libshortlist.so`.

    It holds the search itself and the C ABI of `shortlist.h`. This package runs on the very same
    library: a host that loads it into this process shares its threads (`set_num_threads`).

    Examples
    --------
    >>> import ctypes
    >>> library = ctypes.CDLL(plugin_path())
    >>> library.shortlist_abi_version()
    3
    """
    return str(Path(_core.__file__).with_name("libshortlist.so"))


def has_onnx_operator() -> bool:
    """Say whether the library was built with `ai.shortlist.TopN`, for `recommend.onnx`.

    It is left out where ONNX Runtime's headers were missing when it was compiled.

    Examples
    --------
    >>> has_onnx_operator() in (True, False)
    True
    """
    return hasattr(ctypes.CDLL(plugin_path()), "RegisterCustomOps")
