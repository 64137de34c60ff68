"""Which items come back: order and ties, exclusions, filters, short rows; metrics and storages."""

import numpy as np
import pyarrow.compute as pc
from conformance.bundles import STRANGE, TWINS, ZERO, items, texts
from conformance.case import Case, Filter, Where
from worlds import N_ITEMS

MASK = np.arange(N_ITEMS) % 3 == 0
MASKS = np.array([np.arange(N_ITEMS) % 4 == i for i in range(3)])
NEW_FILMS = Where(pc.field("year") >= 2010, lambda item: item["year"] >= 2010)
WAR = Where(
    pc.field("title") == "Film 8 ☕",  # null for every fifth item
    lambda item: item["title"] == "Film 8 ☕",
)
NOT_WAR = Where(
    ~(pc.field("title") == "Film 8 ☕"),
    lambda item: item["title"] is not None and item["title"] != "Film 8 ☕",
)
THREE = [{"history": items(3, 8)}, {"age": 50.0}, {}]
SOME = [
    {"history": items(3, 8)},
    {"history": items(*range(20)), "level": 1},
    {"city": "北京", "age": 40.0},
    {},
]


def twin(row):
    """The id of a row of `twins`."""
    return 139 - row


TIES = [
    Case(
        "of items with one vector the lower row comes first",
        "twins",
        [{"history": [twin(5)]}, {"history": [twin(TWINS[0])]}],
        top_n=40,
        counts=[39, 39],
    ),
    Case(
        "the lower rows of a tie come back where not all of it has room",
        "twins",
        [{"history": [twin(TWINS[0])]}],
        top_n=3,
        exclude_seen=False,
        first=[twin(TWINS[0])],
    ),
    Case(
        "a user of length zero is as near to everything: the lowest rows come back",
        "twins",
        [{"age": 30.0}],
        source=["features"],
        first=[twin(0)],
    ),
    Case(
        "an item of length zero has similarity 0",
        "twins",
        [{"history": [twin(ZERO)]}, {"history": [twin(2), twin(7)]}],
        top_n=40,
        exclude_seen=False,
    ),
]
EXCLUSIONS = [
    Case(
        "items of the history do not come back",
        "users",
        [{"history": items(3, 8, 3, 1)}, {"history": items(0)}],
        top_n=N_ITEMS,
        counts=[37, 39],
    ),
    Case(
        "items of the history may come back where that is asked for",
        "users",
        [{"history": items(3, 8)}],
        top_n=N_ITEMS,
        exclude_seen=False,
        counts=[40],
    ),
    Case(
        "items of a stored history may come back where that is asked for",
        "users",
        [{"user_id": 9}, {"user_id": 5, "history": items(9)}],
        top_n=N_ITEMS,
        exclude_seen=False,
        counts=[40, 40],
    ),
    Case(
        "rows are short where fewer items are allowed than are asked for",
        "users",
        [{"history": items(*range(35))}, {"city": "Köln"}, {}],
        top_n=55,
        counts=[5, 40, 40],
    ),
    Case(
        "nothing comes back to who has seen everything",
        "users",
        [{"history": items(*range(N_ITEMS))}, {"history": items(1)}],
        top_n=3,
        counts=[0, 3],
    ),
    Case("one item is the best one", "users", SOME, top_n=1),
]
FILTERS = [
    Case("one list says what all may get", "users", SOME, 5,
         filter=Filter(allow=items(1, 3, 5, 25, 26, 27))),
    Case("a list of each request says what it may get", "users", SOME, 5,
         filter=Filter(allow=[items(1, 3), items(2, 30, 31), [], items(39)]), counts=[1, 2, 0, 1]),
    Case("unknown ids of a list are ignored", "users", SOME, 5,
         filter=Filter(allow=[STRANGE, *items(30), 6]), counts=[1, 1, 1, 1]),
    Case("a list of unknown ids alone allows nothing", "users", SOME, 5,
         filter=Filter(allow=[STRANGE]), counts=[0, 0, 0, 0]),
    Case("a list of each request says what it may not get", "users", SOME, 40,
         filter=Filter(exclude=[items(1, 3), [STRANGE], items(*range(39)), []]),
         counts=[37, 20, 1, 40]),
    Case("a mask says what all may get", "users", SOME, 20, filter=Filter(mask=MASK)),
    Case("a mask of each request says what it may get", "users", SOME[:3], 20,
         filter=Filter(mask=MASKS)),
    Case("exclusion wins over a list of what is allowed", "users", SOME, 5,
         filter=Filter(allow=items(1, 30, 31), exclude=[items(30), [], items(1), items(30, 1)])),
    Case("a filter of texts says what all may get", "texts", [{"history": texts(3)}, {}], 5,
         filter=Filter(allow=texts(3, 7, 9), exclude=[texts(7), ["?"]]), counts=[1, 3]),
    Case("filters leave out what users have seen as well", "users",
         [{"user_id": 9}, {"user_id": 5, "history": items(4)}, {"user_id": 12}], 40,
         filter=Filter(allow=items(*range(8))), counts=[4, 4, 8]),
    Case("seen items that a filter allows may come back where that is asked for", "users",
         [{"history": items(3, 8)}], 5, exclude_seen=False, filter=Filter(allow=items(3, 9)),
         counts=[2]),
    Case("an expression on the item table says what all may get", "users", SOME, 20,
         filter=Filter(where=NEW_FILMS), counts=[10, 10, 10, 10]),
    Case("an expression that is null does not hold, nor does its contrary", "users", THREE, 40,
         filter=Filter(where=[WAR, NOT_WAR, NOT_WAR]), counts=[0, 31, 31]),
    Case("each request has an expression, or none", "users", SOME, 20,
         filter=Filter(where=[NEW_FILMS, None, WAR, None]), counts=[10, 20, 1, 20]),
]  # fmt: skip
MEASURED = [
    Case(
        f"scores are {what} of the stored vectors",
        bundle,
        [{"history": items(3, 8)}, {"history": items(30, 2, 17)}, {}],
        top_n=20,
        exclude_seen=False,
    )
    for bundle, what in {
        "plain": "cosines",
        "float16": "dot products, of 16 bits,",
        "bfloat16": "distances below zero, of 16 bits,",
        "int8": "dot products, of 8 bits,",
        "int8, cosine": "cosines, of 8 bits,",
        "disk8": "cosines, of vectors on disk behind codes of 8 bits,",
        "disk6": "cosines, of vectors on disk behind codes of 6 bits,",
        "disk4": "cosines, of vectors on disk behind codes of 4 bits,",
        "int4": "dot products, of 4 bits,",
        "int4, cosine": "cosines, of 4 bits,",
    }.items()
] + [
    Case(f"{metric} ranks by {what}", metric, [*SOME, {"city": "Köln", "age": -20.0}])
    for metric, what in {"dot": "dot product", "euclidean": "nearness"}.items()
]


def many(n):
    """Requests of every sort, in no order."""
    rng = np.random.default_rng(11)
    made = []
    for i in range(n):
        history = items(*rng.integers(0, N_ITEMS, rng.integers(0, 14)))
        request = {"history": [] if i % 5 == 0 else [STRANGE, *history]}
        request["city"] = ["Köln", "Paris", None][i % 3]
        request["tags"] = [["a", "b"], None, ["?"], [], ["?", "b"]][i // 5 % 5]
        made.append(request)
    return made


CUTS = [
    Case("a batch of any length is answered like its requests", "users", many(1_100)),
    Case("a batch of any length is answered like its requests, filters and all", "users",
         many(1_100), 5, filter=Filter(allow=[items(*range(i % 7, N_ITEMS, 3)) for i in
                                              range(1_100)])),
    Case("a batch with stored users is answered like its requests", "users",
         [r | {"user_id": [5, 9, 77, None][i % 4]} for i, r in enumerate(many(1_100))]),
    Case("a batch is answered like its requests in two stages", "network", many(1_100)),
    Case("one long list among short ones changes nothing", "users",
         [{"history": items(*[(3 * k) % 29 for k in range(20_000)] if i == 53 else [i % 40])}
          for i in range(60)]),
    Case("one long list of tags among short ones changes nothing", "users",
         [{"history": items(i % 40), "tags": ["?"] * 18_000 + ["a"] if i == 57 else ["b"]}
          for i in range(60)]),
]  # fmt: skip
CASES = TIES + EXCLUSIONS + FILTERS + MEASURED + CUTS
