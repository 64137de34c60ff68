"""Leaner graphs: what does not depend on a request is computed at export.

ONNX Runtime pays about a microsecond for every node it runs, whatever it does, so a small graph is
a fast one. `simplify` folds, merges and tabulates; every pass leaves what the graph computes, up to
float32 rounding, which the parity checks that follow prove.
"""

from shortlist.export.passes.naming import name_by_place
from shortlist.export.passes.simplify import simplify
from shortlist.export.passes.tidy import merge_opsets, tidy

__all__ = ["merge_opsets", "name_by_place", "simplify", "tidy"]
