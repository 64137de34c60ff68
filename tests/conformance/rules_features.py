"""Kinds and ages of events, and features of every kind: given, stored, missing."""

from conformance.bundles import STRANGE, items
from conformance.case import Case

H, S, F, P = "history", "stored history", "features", "popular"
DAY = 86_400.0
THREE = items(3, 8, 1)

EVENTS = [
    Case(
        "kinds and ages of events count, entry by entry",
        "events",
        [
            {"history": THREE, "history_kinds": ["view", "purchase", "view"],
             "history_ages": [4 * DAY, DAY, 60.0]},
            {"history": THREE, "history_kinds": ["purchase", "view", "view"],
             "history_ages": [2 * DAY, DAY, 0.0]},
            {"history": items(5), "history_kinds": ["view"], "history_ages": [9 * DAY]},
        ],
        source=[H, H, H],
    ),
    Case(
        "an unknown kind adds nothing, nor one that is not told",
        "events",
        [
            {"history": THREE, "history_kinds": ["gift", "", "view"]},
            {"history": THREE, "history_kinds": [None, "?", "view"]},
            {"history": THREE, "history_kinds": None},
            {"history": THREE},
        ],
    ),
    Case(
        "events without an age are taken at the usual pace",
        "events",
        [
            {"history": items(*range(9))},
            {"history": THREE, "history_ages": [None, 2 * DAY, None]},
            {"history": THREE, "history_ages": None},
        ],
    ),
    Case(
        "only differences of ages count",
        "events",
        [{"history": THREE, "history_ages": [more + age for age in (3 * DAY, DAY / 2, 0.0)]}
         for more in (0.0, 256.0, DAY)],
    ),
    Case(
        "events of unknown items go with them",
        "events",
        [
            {"history": [STRANGE, *items(3), 6, *items(8), STRANGE],
             "history_kinds": ["purchase", "view", "purchase", "purchase", "view"],
             "history_ages": [9 * DAY, 5 * DAY, 4 * DAY, DAY, 0.0]},
            {"history": [*items(3), STRANGE, *items(8)]},
            {"history": [STRANGE], "history_kinds": ["view"], "history_ages": [1.0]},
        ],
        source=[H, H, P],
    ),
    Case(
        "the last events of a long history keep what is told of them",
        "events",
        [{"history": items(*range(20)),
          "history_kinds": [["view", "purchase", "gift"][i % 3] for i in range(20)],
          "history_ages": [DAY * (20 - i) for i in range(20)]}],
    ),
    Case(
        "stored histories come with their kinds and times",
        "events",
        [{"user_id": 5}, {"user_id": 9}, {"user_id": 21}, {"user_id": 12}, {"user_id": 20}],
        source=[S, S, S, P, P],
    ),
    Case(
        "what is told of stored events is nothing to a history of the request",
        "events",
        [
            {"user_id": 9, "history": items(3, 4, 5, 6)},
            {"user_id": 9, "history": items(1), "history_kinds": ["purchase"]},
            {"user_id": 9, "history": [STRANGE], "history_kinds": ["purchase"]},
        ],
        source=[H, H, S],
    ),
    Case(
        "kinds and ages count before a second stage, which takes the items alone",
        "events, reranked",
        [
            {"history": THREE, "history_kinds": ["view", "purchase", "gift"],
             "history_ages": [4 * DAY, DAY, 0.0]},
            {"history": THREE},
        ],
    ),
]  # fmt: skip
GIVEN = {
    "city": "Köln", "level": 2, "tags": ["b"], "age": 41.0, "plan": "gold",
    "bio": "likes blue lamps", "joined": 1_699_000_000, "face": [0.5, -2.0, 1.0],
}  # fmt: skip
FEATURES = [
    Case(
        "features of every kind count",
        "every kind",
        [{name: value} for name, value in GIVEN.items()] + [GIVEN],
        source=[F] * 9,
    ),
    Case(
        "features of every kind count beside a history",
        "every kind",
        [{"history": items(7), name: value} for name, value in GIVEN.items()],
        source=[H] * 8,
    ),
    Case(
        "a missing value says nothing, not even one with a vector of its own",
        "every kind",
        [{"plan": None}, {"plan": ""}, {"bio": ""}, {"joined": None}, {"face": None}, {"tags": []}],
        source=[P] * 6,
    ),
    Case(
        "a missing value with a vector of its own counts where something else is known",
        "every kind",
        [
            {"history": items(3), "plan": None},
            {"history": items(3), "plan": "?"},
            {"city": "Köln", "plan": "free"},
            {"city": "Köln"},
        ],
        source=[H, H, F, F],
    ),
    Case(
        "stored features of every kind fill those that a request does not give",
        "every kind",
        [{"user_id": user} for user in (5, 9, 12, 20, 21)]
        + [{"user_id": 5, name: value} for name, value in GIVEN.items()],
        source=[S, S, F, P, S] + [S] * 8,
    ),
    Case(
        "a time after the newest event of the training has age 0, one before 1970 is fine",
        "every kind",
        [{"joined": 1_800_000_000}, {"joined": 1_700_000_000}, {"joined": -5_000_000}],
        source=[F, F, F],
    ),
    Case(
        "text of words that training never saw counts",
        "every kind",
        [{"bio": "never seen words"}, {"bio": "lamps"}],
        source=[F, F],
    ),
]
CASES = EVENTS + FEATURES
