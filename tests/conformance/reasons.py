"""Reasons against the oracle's margins, of one stage; what is told of events is told of all."""

from dataclasses import replace

from conformance import tiny_model
from conformance.oracle import best_first

CLOSE = 1e-5  # of a drop and of a margin: float32 sums of an encoder


def assert_reasons(answer, oracle, case):
    """Raise AssertionError unless every reason is the one that the rules find, greedily."""
    for i, request in enumerate(case.requests):
        told = oracle.told(request, case)
        allowed = [
            item
            for item in oracle.items.values()
            if not (case.exclude_seen and item.item_id in told.seen) and case.allows(i, item)
        ]
        listed = [item for item in answer.item_ids[i].tolist() if item not in (-1, "")]
        if told.source == "popular":
            assert answer.reasons[i] == [[]] * case.top_n
            continue
        for item, reasons in zip(listed, answer.reasons[i], strict=False):
            check_one(oracle, told, allowed, item, reasons, case)


def check_one(oracle, told, allowed, item, reasons, case):
    """Check the reasons of one item, in their order."""

    def margin(told):
        """Its score, minus the top_n-th best of the others; the catalogue has no more than 64."""
        user = oracle.embedding(told)
        others = sorted(oracle.similarity(user, other) for other in allowed if other is not own)
        score = oracle.similarity(user, own)
        return score - (others[-case.top_n] if len(others) >= case.top_n else 0)

    own = oracle.items[item]
    scale = CLOSE * max(1.0, abs(oracle.similarity(oracle.embedding(told), own)))
    rest = pieces(oracle, told)
    for step in range(case.n_reasons):
        now = margin(told)
        left = [(piece, without(oracle, told, piece)) for piece in rest]
        drops = {piece: now - margin(less) for piece, less in left}
        if step >= len(reasons):
            assert max(drops.values(), default=0) <= scale
            return
        item_id, feature, drop, leaves = reasons[step]
        piece = (item_id, feature)
        assert abs(drops[piece] - drop) <= scale
        assert drops[piece] >= max(drops.values()) - scale
        rest.remove(piece)
        told = dict(left)[piece]
        best = [one for one, _ in ranking(oracle, told, allowed)[: case.top_n]]
        assert leaves == (item not in best)


def pieces(oracle, told):
    """What can be left out: items that the encoder looks at, and features."""
    window = told.history[-oracle.world.manifest["max_history"] :]
    ids = oracle.world.item_ids.tolist()
    items = dict.fromkeys((ids[row], None) for row, _, _ in window)
    given = [name for name, value in told.values.items() if tiny_model.is_given(value)]
    return [*items, *((None, name) for name in given)]


def without(oracle, told, piece):
    """The same without an item of the history, or a feature."""
    item_id, feature = piece
    ids = oracle.world.item_ids.tolist()
    history = [event for event in told.history if ids[event[0]] != item_id]
    values = {**told.values, feature: None} if feature else told.values
    has_any = any(tiny_model.is_known(f, values[f.name]) for f in oracle.world.features)
    source = told.source if history else "features" if has_any else "popular"
    return replace(told, source=source, history=history, values=values)


def ranking(oracle, told, allowed):
    """Items and scores of one stage, or the popular ones where nothing is known."""
    if told.source == "popular":
        return best_first([(item.item_id, item.popularity) for item in allowed])
    user = oracle.embedding(told)
    return best_first([(item.item_id, oracle.similarity(user, item)) for item in allowed])
