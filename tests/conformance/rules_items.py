"""Items that came, changed, went and came back since the bundle was written."""

import pyarrow.compute as pc
from conformance.bundles import NEW, OTHER_NEW, STRANGE, items
from conformance.case import Case, Filter, Where
from worlds import N_ITEMS

H, F, P = "history", "features", "popular"
FILM = {"item_id": NEW, "title": "New film", "year": 1996, "genres": ["war"]}
MORE = {"item_id": OTHER_NEW, "genres": ["drama", "unheard of"]}
NEAR = {"city": "Köln"}
ALL = N_ITEMS + 2


def upserted(*rows):
    return ("upsert", list(rows))


def removed(*ids):
    return ("remove", list(ids))


CASES = [
    Case(
        "new items are found by their content, at once",
        "users",
        [{"history": items(3)}, NEAR, {}],
        top_n=ALL,
        changes=(upserted(FILM, MORE),),
        counts=[41, 42, 42],
    ),
    Case(
        "a compressed bundle takes new items too",
        "compressed",
        [{"history": items(3)}, NEAR, {}],
        top_n=ALL,
        stages=1,
        changes=(upserted(FILM, MORE),),
        counts=[41, 42, 42],
    ),
    Case(
        "a new item in a history is left out and says nothing",
        "users",
        [
            {"history": [*items(3), NEW]},
            {"history": items(3)},
            {"history": [NEW]},
            {"history": [NEW], "city": "Köln"},
            {"user_id": 9, "history": [NEW]},
        ],
        top_n=ALL,
        changes=(upserted(FILM),),
        source=[H, H, P, F, "stored history"],
        counts=[39, 40, 40, 40, 36],
    ),
    Case(
        "a new item in a history may come back where that is asked for",
        "users",
        [{"history": [*items(3), NEW]}, {"history": [NEW]}],
        top_n=ALL,
        exclude_seen=False,
        changes=(upserted(FILM),),
        counts=[41, 41],
    ),
    Case(
        "a new item of which nothing is known is near to nobody",
        "users",
        [{"history": items(3)}, {}],
        top_n=ALL,
        changes=(upserted({"item_id": NEW}, {"item_id": OTHER_NEW, "genres": ["?"]}),),
        counts=[41, 42],
    ),
    Case(
        "a known item that gets other content gets another vector, and keeps its row",
        "users",
        [{"history": items(3)}, NEAR, {}],
        top_n=ALL,
        changes=(upserted({"item_id": items(8)[0], "genres": ["war"], "year": None}),),
    ),
    Case(
        "a known item that gets another title stays where it is",
        "users",
        [{"history": items(3)}, NEAR],
        changes=(upserted({"item_id": items(8)[0], "title": "Renamed", "n_events": 99}),),
    ),
    Case(
        "a change of the number of events changes what is popular",
        "users",
        [{}],
        changes=(upserted({"item_id": items(8)[0], "n_events": 99}),),
        first=items(8),
    ),
    Case(
        "of popular items a new one comes last among equals",
        "users",
        [{}],
        top_n=ALL,
        changes=(upserted({"item_id": NEW, "n_events": 12}, {"item_id": OTHER_NEW}),),
    ),
    Case(
        "new items have no score of the model: they are its least popular",
        "scored",
        [{}],
        top_n=ALL,
        changes=(upserted({"item_id": NEW, "n_events": 50}),),
        counts=[41],
    ),
    Case(
        "a removed item never comes back, but still counts in histories",
        "users",
        [{"history": items(3, 8)}, {"history": items(8)}, NEAR, {}],
        top_n=ALL,
        exclude_seen=False,
        changes=(removed(*items(8, 0), STRANGE),),
        source=[H, H, F, P],
        counts=[38, 38, 38, 38],
    ),
    Case(
        "a removed item of a stored history still counts there",
        "users",
        [{"user_id": 9}],
        top_n=ALL,
        changes=(removed(*items(3, 10)),),
        source=["stored history"],
        counts=[35],
    ),
    Case(
        "an item that comes back is found again, and the encoder still knows it",
        "users",
        [{"history": items(8)}, {"history": items(3)}, {}],
        top_n=ALL,
        changes=(removed(*items(8)), upserted({"item_id": items(8)[0], "genres": ["war"]})),
        source=[H, H, P],
        counts=[39, 39, 40],
    ),
    Case(
        "an item that comes back has the last row of its equals",
        "twins",
        [{"city": "Köln"}, {}],
        top_n=ALL,
        changes=(
            removed(139 - 8, 139 - 9, NEW),
            upserted({"item_id": 139 - 9}, {"item_id": NEW}, {"item_id": 139 - 8, "n_events": 3}),
        ),
    ),
    Case(
        "new, changed and removed items go through filters",
        "users",
        [{"history": items(3)}, NEAR, {}],
        top_n=ALL,
        filter=Filter(
            allow=[NEW, OTHER_NEW, *items(3, 4, 8, 9)], exclude=[[], items(4), [OTHER_NEW]]
        ),
        changes=(upserted(FILM, MORE), removed(*items(9))),
        counts=[4, 4, 4],
    ),
    Case(
        "expressions see the items as they are now, and hold for none that is gone",
        "users",
        [{"history": items(3)}, NEAR, {}],
        top_n=ALL,
        filter=Filter(
            where=Where(
                ~(pc.field("year") < 2000),
                lambda item: item.get("year") is not None and not item["year"] < 2000,
            )
        ),
        changes=(
            upserted({"item_id": NEW, "year": 2024}, {"item_id": OTHER_NEW, "year": None}),
            upserted({"item_id": items(1)[0], "year": 2001}),
            removed(*items(39)),
        ),
        counts=[21, 21, 21],
    ),
    *(
        Case(
            f"of new items {title} knows the similarity alone",
            bundle,
            [{"history": items(2, 4)}, {"history": [*items(7), NEW]}],
            top_n=ALL,
            changes=(upserted(FILM, MORE), removed(*items(5)), upserted({"item_id": 105})),
            counts=[40, 40],
        )
        for title, bundle in {"a network": "network", "a table of counts": "counts"}.items()
    ),
    Case(
        "a changed item is the same to a reranker",
        "network",
        [{"history": items(2, 4)}],
        top_n=ALL,
        changes=(upserted({"item_id": items(8)[0], "genres": ["drama"]}),),
    ),
    Case(
        "items may come and go by texts",
        "texts",
        [{"history": ["é103", "新"]}, {}],
        top_n=ALL,
        changes=(upserted({"item_id": "新", "genres": ["war"]}), ("remove", ["é101", "?"])),
        counts=[38, 40],
    ),
    *(
        Case(
            f"new items are measured as {metric} says",
            metric,
            [{"history": items(3)}],
            top_n=ALL,
            changes=(upserted(FILM, MORE),),
        )
        for metric in ("dot", "euclidean")
    ),
]
