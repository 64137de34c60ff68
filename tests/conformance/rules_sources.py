"""What an answer is made from: histories, stored users, features, popular items."""

from conformance.bundles import STRANGE, items, texts
from conformance.case import Case

H, S, F, P = "history", "stored history", "features", "popular"

CASES = [
    Case(
        "an answer is made from the history, else from features, else of popular items",
        "users",
        [{"history": items(3, 8)}, {"city": "Köln"}, {}],
        source=[H, F, P],
    ),
    Case(
        "a stored history comes between history and features",
        "users",
        [{"user_id": 9, "history": items(8)}, {"user_id": 9}, {"user_id": 12}, {"user_id": 20}],
        source=[H, S, F, P],
        counts=[10, 10, 10, 10],
    ),
    Case(
        "an own history takes the stored one's place, and the items of both are left out",
        "users",
        [{"user_id": 9, "history": items(9, 3)}],
        top_n=40,
        source=[H],
        counts=[35],
    ),
    Case(
        "unknown items and values say nothing",
        "users",
        [
            {"history": [STRANGE]},
            {"city": "Paris"},
            {"level": 99},
            {"tags": ["?", "!"]},
            {"history": [STRANGE, 6], "city": "Paris", "level": 0},
        ],
        source=[P] * 5,
    ),
    Case(
        "unknown users say nothing",
        "users",
        [{"user_id": 77}, {"user_id": None}, {"user_id": 77, "history": items(4)}],
        source=[P, P, H],
    ),
    Case(
        "unknown items of a history are skipped, wherever they stand",
        "users",
        [
            {"history": [STRANGE, *items(3), 6, *items(8), STRANGE]},
            {"history": items(3, 8)},
            {"history": [*items(1, 2, 3, 4, 5), STRANGE, *items(6), 6]},
        ],
        source=[H, H, H],
    ),
    Case(
        "a history of unknown items alone gives way to the stored one",
        "users",
        [{"user_id": 5, "history": [STRANGE, 6]}, {"user_id": 12, "history": [STRANGE]}],
        source=[S, F],
    ),
    Case(
        "a stored history of unknown items alone gives way to features",
        "users",
        [{"user_id": 20, "city": "Köln"}, {"user_id": 20, "city": "Paris"}],
        source=[F, P],
    ),
    Case(
        "an empty history is none",
        "users",
        [{"history": []}, {"history": None}, {"history": [], "age": 31.0}, {"history": items(2)}],
        source=[P, P, F, H],
    ),
    Case(
        "requests that give nothing at all are answered with popular items",
        "users",
        [{}, {}, {}],
        source=[P, P, P],
    ),
    Case("no requests have no answers", "users", []),
    Case(
        "one request alone is answered as in a batch",
        "users",
        [{"history": items(7, 1), "tags": ["a"]}],
        source=[H],
    ),
    Case(
        "the encoder looks at the last events of a long history, and all of it is left out",
        "users",
        [{"history": items(*range(30, -1, -1))}, {"history": items(*range(5, -1, -1))}],
        top_n=40,
        counts=[9, 34],
    ),
    Case(
        "the last events are those of known items",
        "users",
        [{"history": [*items(1, 2, 3, 4, 5, 6, 7), *[STRANGE] * 9]}],
        top_n=40,
        counts=[33],
    ),
    Case(
        "a history of thousands of events is one like any other",
        "users",
        [{"history": items(*[(7 * i * i) % 23 for i in range(5_000)])}, {"history": items(3)}],
        top_n=40,
        source=[H, H],
        counts=[28, 39],
    ),
    Case(
        "an item that a history has twice counts twice, and is left out once",
        "users",
        [{"history": items(3, 8, 3)}, {"history": items(8, 3)}],
        top_n=40,
        counts=[38, 38],
    ),
    Case(
        "a stored history is cut like a given one",
        "users",
        [{"user_id": 21}, {"user_id": 21, "history": items(1)}],
        top_n=40,
        source=[S, H],
        counts=[27, 26],
    ),
    Case(
        "stored features fill those that a request does not give",
        "users",
        [
            {"user_id": 5, "history": items(9)},
            {"user_id": 5, "level": 3},
            {"user_id": 5, "age": None, "tags": None, "city": ""},
            {"user_id": 9, "city": "北京"},
            {"user_id": 12, "age": 50.0},
        ],
        source=[H, S, S, S, F],
    ),
    Case(
        "a value that is given stands, even if it is unknown",
        "users",
        [{"user_id": 5, "city": "Paris", "tags": ["?"]}, {"user_id": 12, "city": "?", "age": 1.0}],
        source=[S, F],
    ),
    Case(
        "an empty list of tags is none",
        "users",
        [{"user_id": 5, "tags": []}, {"user_id": 5, "tags": ["a", "b"]}, {"tags": []}],
        source=[S, S, P],
    ),
    Case(
        "a tag that is given twice counts twice",
        "users",
        [{"tags": ["a", "a"]}, {"tags": ["a"]}],
        source=[F, F],
    ),
    Case(
        "features count beside a history",
        "users",
        [
            {"history": items(3), "city": "北京", "level": 2, "tags": ["b", "?", "a"], "age": 44.0},
            {"history": items(3), "city": "Paris", "level": 17, "tags": ["?"], "age": None},
            {"history": items(3)},
        ],
        source=[H, H, H],
    ),
    Case(
        "every feature is enough for an answer from features",
        "users",
        [{"city": "Köln"}, {"level": 1}, {"tags": ["?", "b"]}, {"age": 18.5}],
        source=[F, F, F, F],
    ),
    Case(
        "histories are enough where nothing else is declared",
        "plain",
        [{"history": items(3, 8)}, {"history": [STRANGE]}, {}],
        source=[H, P, P],
    ),
    Case(
        "ids may be texts",
        "texts",
        [
            {"history": texts(3, 8)},
            {"history": ["?", *texts(5), "", "é"]},
            {"history": ["?"], "city": "Köln"},
            {"history": ["?", ""]},
        ],
        source=[H, H, F, P],
    ),
    Case(
        "ids of users may be texts",
        "texts",
        [{"user_id": "é9"}, {"user_id": "9"}, {"user_id": "é5", "history": texts(9)}],
        source=[S, P, H],
    ),
    Case(
        "popular items are those of most events, ties by the lower row",
        "users",
        [{}],
        top_n=40,
        counts=[40],
    ),
    Case(
        "scores of the model stand in for the number of events where it has them",
        "scored",
        [{}, {"history": items(3)}],
        source=[P, H],
    ),
]
