"""The compiled library that hosts in other languages load."""

from pathlib import Path

from shortlist import _core


def plugin_path() -> str:
    """Return the path of `libshortlist.so`.

    It holds the search itself, the C ABI of `shortlist.h` with its engine for whole bundles, and
    the ONNX Runtime operators of `recommend.onnx`. This package runs on the very same library: a
    host that loads it into this process shares its threads (`set_num_threads`).

    Examples
    --------
    >>> import ctypes
    >>> library = ctypes.CDLL(plugin_path())
    >>> library.shortlist_abi_version()
    5
    """
    return str(Path(_core.__file__).with_name("libshortlist.so"))
