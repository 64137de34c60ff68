"""Why items are in an answer: what of a request, left out, makes each fall most."""

from conformance.bundles import STRANGE, items, texts
from conformance.case import Case, Filter

TOLD = [
    {"history": items(3, 8, 20)},
    {"history": [*items(1, 2, 3, 4, 5, 6, 7, 8), STRANGE, *items(9, 3)]},
    {"history": items(30, 31), "city": "Köln", "age": 22.0},
]

CASES = [
    Case("reasons are found one after another, each without those before", "plain",
         [{"history": items(3, 8, 20)}, {"history": items(*range(9))}, {"history": items(5)}],
         5, n_reasons=3),
    Case("what is older than the encoder looks is no reason of its own", "plain",
         [{"history": items(*range(20, 2, -1))}, {"history": items(1, 2, 3, 1, 5, 6, 7, 8, 1)}],
         4, n_reasons=2),
    Case("features are reasons beside items", "users", TOLD, 5, n_reasons=4),
    Case("features alone are reasons too", "users",
         [{"city": "Köln", "age": 31.5}, {"level": 2}, {"tags": ["a", "b"], "age": 20.0}], 4,
         n_reasons=2, source=["features"] * 3),
    Case("popular items have no reasons", "users", [{}, {"history": [STRANGE]}], 4, n_reasons=2,
         source=["popular"] * 2),
    Case("what is stored of a user is a reason as if it were given", "users",
         [{"user_id": 5}, {"user_id": 9}, {"user_id": 21}, {"user_id": 9, "age": 50.0}], 5,
         n_reasons=3),
    Case("stored kinds and times stay when an item is left out", "events",
         [{"user_id": 5}, {"user_id": 9}, {"user_id": 21}], 4, n_reasons=2),
    Case("texts have reasons", "texts", [{"history": texts(3, 8, 20)}, {"history": texts(1)}], 4,
         stages=1, n_reasons=2),
    *(Case(f"reasons go by the margins of the metric {metric}", metric, TOLD, 5, n_reasons=2)
      for metric in ("dot", "euclidean")),
    Case("what is left out may come back where seen items may", "plain",
         [{"history": items(3, 8, 20)}], 6, exclude_seen=False, n_reasons=2),
    Case("filters hold when the list is made again", "users", TOLD, 4,
         filter=Filter(allow=items(*range(10, 28))), n_reasons=2),
    Case("where all that is allowed is in the list, nothing leaves it", "users", TOLD, 12,
         filter=Filter(allow=items(*range(10, 18))), n_reasons=2),
]  # fmt: skip
