"""The rules by which one node, and those that make its inputs, become fewer.

A rule returns True if it changed the graph; it may only read values that exist at its node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shortlist.export.passes import algebra, idioms

if TYPE_CHECKING:
    from collections.abc import Callable

    from shortlist.export.passes.view import GraphView

RULES: tuple[Callable[[GraphView, Any], bool], ...] = (
    idioms.drop_casts,
    idioms.cast_later,
    idioms.drop_identities,
    idioms.drop_round_trips,
    idioms.transpose_before_softmax,
    idioms.compare_integers,
    idioms.choose_where,
    idioms.multiply_at_once,
    algebra.normalise_at_once,
    algebra.multiply_numbers,
    algebra.multiply_matrices,
    algebra.scale_weights,
    algebra.join_sums,
    algebra.add_while_multiplying,
)
