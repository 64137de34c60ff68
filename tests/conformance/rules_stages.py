"""One stage or two: candidates, the reranker's order, who gets which."""

import numpy as np
import pyarrow.compute as pc
from conformance.bundles import STRANGE, TWINS, items, texts
from conformance.case import Case, Filter, Where
from worlds import N_ITEMS

H, S, F, P = "history", "stored history", "features", "popular"
MIXED = [{"history": items(3, 8)}, {"city": "Köln"}, {}, {"history": items(30, 31, 2, 9)}]
LONG = [
    {"history": items(*range(25, 13, -1))},  # 12 events: the encoder sees 6, the network 9
    {"history": [*items(*range(10)), STRANGE, *items(11, 12), STRANGE]},
    {"history": items(4)},
]

CASES = [
    *(
        Case(f"{title} puts the nearest candidates into a new order", bundle, MIXED)
        for title, bundle in {"a network": "network", "a table of counts": "counts"}.items()
    ),
    Case("a compressed bundle answers by what its tables hold now", "compressed", MIXED),
    Case("a compressed bundle finds the nearest of its rows", "compressed", MIXED, stages=1),
    *(
        Case(f"the history that {title} looks at has a length of its own", bundle, LONG)
        for title, bundle in {"a network": "network", "a table of counts": "counts"}.items()
    ),
    Case(
        "a short-sighted network looks at the last events alone",
        "texts",
        [{"history": texts(*range(25, 13, -1))}, {"history": [*texts(1, 2), "?", *texts(3, 4, 5)]}],
    ),
    Case(
        "requests without a history keep their first stage, or the popular list",
        "network",
        [{"history": items(1)}, {"user_id": 9}, {"user_id": 12}, {"city": "Köln"}, {}],
        source=[H, S, F, F, P],
    ),
    Case(
        "a stored history longer than the encoder's is the reranker's as well",
        "network",
        [{"user_id": 21}, {"user_id": 21, "city": "北京"}],
        source=[S, S],
    ),
    *(
        Case(f"one stage, asked for, is the nearest items, with {title}", bundle, MIXED, stages=1)
        for title, bundle in {
            "a network": "network",
            "a table of counts": "counts",
            "no second one": "users",
        }.items()
    ),
    Case("two stages may be asked for", "counts", MIXED, stages=2),
    Case(
        "one stage, asked for, is the stored users' too",
        "network",
        [{"user_id": 9}, {"user_id": 5, "history": items(9)}],
        stages=1,
    ),
    Case(
        "more items than candidates widen the first stage",
        "network",
        [{"history": items(3, 8)}, {"history": items(9)}, {"age": 20.0}, {}],
        top_n=30,
        counts=[30] * 4,
    ),
    Case(
        "rows of two stages are short where fewer items are allowed",
        "counts",
        [{"history": items(*range(33))}, {"history": items(3)}, {"age": 20.0}, {}],
        top_n=55,
        counts=[7, 39, 40, 40],
    ),
    Case(
        "who has seen everything has no candidates",
        "network",
        [{"history": items(*range(N_ITEMS))}, {"history": items(1)}],
        top_n=3,
        counts=[0, 3],
    ),
    Case(
        "seen items are candidates where they may come back",
        "counts",
        [{"history": items(2, 4, 8)}],
        exclude_seen=False,
        counts=[10],
    ),
    Case(
        "candidates are the nearest of those that a list allows",
        "network",
        MIXED,
        top_n=4,
        filter=Filter(allow=items(*range(1, 40, 2))),
        counts=[4] * 4,
    ),
    Case(
        "candidates are the nearest of those that each request's lists allow",
        "counts",
        MIXED,
        top_n=4,
        filter=Filter(
            allow=[items(*range(1, 40, 2)), items(3, 4), items(5), items(7, 8, 9, 10)],
            exclude=[items(1, 5), [], [], items(10)],
        ),
        counts=[4, 2, 1, 2],
    ),
    Case(
        "candidates are the nearest of those that an expression allows",
        "network",
        MIXED,
        filter=Filter(where=Where(pc.field("year") < 1990, lambda item: item["year"] < 1990)),
        counts=[8, 10, 10, 8],
    ),
    Case(
        "of equal items the lower rows are candidates",
        "twins, reranked",
        [{"history": items(TWINS[-1])}, {"history": items(2, 4, TWINS[0])}],
        top_n=3,
        exclude_seen=False,
    ),
    Case(
        "of equal scores of the second stage the lower row comes first",
        "three scores",
        [{"history": items(1, 13)}, {"history": items(8, 9)}, {"history": items(6)}],
        top_n=7,
    ),
    Case(
        "equal items stay in the order of their rows through two stages",
        "twins, reranked",
        [{"history": items(TWINS[1], 13)}, {"history": items(8, 9)}, {"history": items(6)}],
        top_n=30,
    ),
    Case(
        "unknown items are nothing to a reranker either",
        "counts",
        [{"history": [*items(2, 4), STRANGE, STRANGE, *items(8)]}, {"history": items(2, 4, 8)}],
    ),
    Case(
        "an item that a history has twice counts twice in a reranker",
        "counts",
        [{"history": items(4, 2, 4)}, {"history": items(2, 4)}],
    ),
    Case(
        "the mask of one request is nothing to another's candidates",
        "network",
        MIXED[:1] * 3,
        filter=Filter(mask=np.array([np.arange(N_ITEMS) % 3 == i for i in range(3)])),
    ),
]
