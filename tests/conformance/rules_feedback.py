"""What users did since, from the feedback log: at once in their next answers. Skips push down."""

from conformance.bundles import NEW, STRANGE, items
from conformance.case import NOON, Act, Case
from worlds import N_ITEMS

H, S, F, P = "history", "stored history", "features", "popular"
DAY = 86_400


def acts(user_id, *steps):
    """Events a minute apart: an item, or (item, kind), or (item, kind, value)."""
    made = []
    for minute, step in enumerate(steps):
        item_id, kind, value = (
            (*step, None)[:3] if isinstance(step, tuple) else (step, "click", None)
        )
        made.append(Act(user_id, item_id, kind, NOON + 60 * minute, value))
    return made


def skips(*rows):
    return [(item_id, "skip") for item_id in items(*rows)]


LATER = NOON + DAY
CASES = [
    Case(
        "what users did follows their stored history, or the one of the request",
        "users",
        [{"user_id": 9}, {"user_id": 9, "history": items(30)}, {"user_id": 77}, {"user_id": 5}],
        log=(*acts(9, *items(20, 21)), *acts(77, *items(22))),
        top_n=N_ITEMS,
        source=[H, H, H, S],
        counts=[34, 33, 39, 37],
    ),
    Case(
        "an item that both have is kept where the log has it",
        "users",
        [{"user_id": 21}, {"user_id": 21, "history": items(20, 2)}],
        log=tuple(acts(21, *items(31, 20, 1))),
    ),
    Case(
        "the log is in the order of time, not of writing",
        "users",
        [{"user_id": 77}],
        log=tuple(acts(77, *items(*range(8))))[::-1],
        top_n=N_ITEMS,
        counts=[32],
    ),
    Case(
        "unknown items of the log say nothing",
        "users",
        [{"user_id": 77}, {"user_id": 78}, {"user_id": 9}],
        log=(*acts(77, STRANGE, *items(3)), *acts(78, STRANGE, (6, "skip")), *acts(9, STRANGE)),
        source=[H, P, H],
    ),
    Case(
        "what is skipped is left out and pushes what is like it down",
        "users",
        [{"user_id": 9}, {"user_id": 5}],
        log=tuple(acts(9, *skips(11))),
        top_n=N_ITEMS,
        source=[H, S],
        counts=[35, 37],
    ),
    Case(
        "several skips push by their mean, each once",
        "users",
        [{"user_id": 9}, {"user_id": 12}],
        log=(*acts(9, *skips(11, 12, 11), *items(30)), *acts(12, *skips(13))),
        top_n=N_ITEMS,
        source=[H, F],
        counts=[33, 39],
    ),
    Case(
        "a skip takes an item out of the history",
        "users",
        [{"user_id": 5}, {"user_id": 9}, {"user_id": 77, "history": items(1, 2)}],
        log=(*acts(5, *skips(1)), *acts(9, *skips(3, 4, 5, 6)), *acts(77, *skips(2))),
        top_n=N_ITEMS,
        source=[H, F, H],
        counts=[37, 36, 38],
    ),
    Case(
        "a skip takes an item out of the stored history that stands in for an unknown one",
        "users",
        [{"user_id": 9, "history": [STRANGE]}],
        log=tuple(acts(9, *skips(6))),
        top_n=N_ITEMS,
        source=[H],
        counts=[36],
    ),
    Case(
        "an item's newest event decides",
        "users",
        [{"user_id": 1}, {"user_id": 2}],
        log=(
            *acts(1, items(3)[0], items(8)[0], *skips(3)),
            *acts(2, *skips(3), items(8)[0], items(3)[0]),
        ),
        top_n=N_ITEMS,
        source=[H, H],
        counts=[38, 38],
    ),
    Case(
        "what the training took for a dislike is a skip",
        "users",
        [{"user_id": 1}, {"user_id": 2}],
        log=(
            *acts(1, *items(3), (items(8)[0], "hide")),
            *acts(2, (items(3)[0], "rating", 5.0), (items(8)[0], "rating", 1.0),
                  (items(9)[0], "rating", 2.0)),
        ),
        dislikes=(("skip", "hide"), 2.0),
        top_n=N_ITEMS,
        counts=[38, 37],
    ),
    Case(
        "skipped items are left out of popular ones, which nothing pushes",
        "users",
        [{"user_id": 77}, {}],
        log=tuple(acts(77, *skips(0, 1, 2, 3, 4, 5))),
        top_n=N_ITEMS,
        source=[P, P],
        counts=[34, 40],
    ),
    Case(
        "skipped items may come back where that is asked for, pushed down",
        "users",
        [{"user_id": 9}, {"user_id": 77}],
        log=(*acts(9, *skips(11)), *acts(77, *skips(2))),
        exclude_seen=False,
        top_n=N_ITEMS,
        counts=[40, 40],
    ),
    Case(
        "a skipped item that came later pushes too, one that is gone does not",
        "users",
        [{"user_id": 9}, {"user_id": 5}],
        changes=(("upsert", [{"item_id": NEW, "genres": ["war"]}]), ("remove", items(30))),
        log=(*acts(9, (NEW, "skip")), *acts(5, *skips(30))),
        top_n=N_ITEMS + 1,
        source=[H, H],
        counts=[35, 37],
    ),
    Case(
        "skips push before the candidates of a second stage are chosen",
        "network",
        [{"user_id": 9}, {"user_id": 12}, {"user_id": 5, "history": items(9)}],
        log=(*acts(9, *skips(11), *items(30)), *acts(12, *skips(13)), *acts(5, *skips(20))),
        source=[H, F, H],
    ),
    *(
        Case(
            f"skips push what is measured by {metric}",
            metric,
            [{"user_id": 9}],
            log=tuple(acts(9, *skips(11, 12))),
        )
        for metric in ("dot", "euclidean")
    ),
    Case(
        "events of the log come with their kinds, and with the ages they have now",
        "events",
        [
            {"user_id": 9},
            {"user_id": 77},
            {"user_id": 5, "history": items(30, 31), "history_kinds": ["view", "purchase"],
             "history_ages": [9.0 * DAY, 8.0 * DAY]},
            {"user_id": 9, "history": items(30)},
        ],
        log=(
            *acts(9, (items(20)[0], "purchase"), (items(21)[0], "gift"), *skips(4)),
            *acts(77, (items(20)[0], "view"), (items(22)[0], "purchase")),
            *acts(5, (items(20)[0], "view")),
        ),
        now=LATER,
        source=[H, H, H, H],
    ),
    Case(
        "events of the log that are newer than the request have age 0",
        "events",
        [{"user_id": 77}],
        log=tuple(acts(77, *items(20, 22, 24))),
        now=NOON + 60,
        source=[H],
    ),
    Case(
        "a log of texts is joined as well",
        "texts",
        [{"user_id": "é9"}, {"user_id": "x"}],
        log=(*acts("é9", "é120", ("é103", "skip")), *acts("x", ("é101", "skip"))),
        source=[H, P],
    ),
]  # fmt: skip
