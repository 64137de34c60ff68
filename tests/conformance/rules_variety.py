"""What a list looks like as a whole: caps and quotas, in every source and both stages."""

from conformance.bundles import items
from conformance.case import Case, Filter, Quota
from worlds import N_ITEMS

ALL = [{"history": items(3, 8)}, {"user_id": 5}, {"age": 50.0}, {}]
LATE = Quota("year >= 2015", lambda item: item["year"] >= 2015, 4)
NEVER = Quota("year > 3000", lambda item: item["year"] > 3000, 2)
BRANDS = tuple(
    [("upsert", [{"item_id": items(i)[0], "year": 1980 + i % 7} for i in range(N_ITEMS)])]
)

# A quarter each of drama, of war, of both, and of none.
VALUES = [["drama"], ["war"], ["war", "drama"], []]
GENRES = (("upsert", [{"item_id": items(i)[0], "genres": VALUES[i % 4]} for i in range(N_ITEMS)]),)

CASES = [
    Case(
        "with diversity every item is as unlike those above it as the weight wants",
        "users",
        ALL,
        diversity=0.6,
    ),
    Case(
        "caps hold beside diversity",
        "users",
        ALL,
        diversity=0.3,
        at_most={"year": 1},
        changes=BRANDS,
    ),
    Case(
        "a list has what its user's history has of a column",
        "users",
        ALL,
        calibrate=("genres", "history", 0.8),
        changes=GENRES,
    ),
    Case(
        "a list has the shares of a column that are asked for",
        "users",
        ALL,
        calibrate=("genres", {"drama": 0.25, "war": 0.75}, 0.6),
        at_most={"year": 2},
        changes=GENRES,
    ),
    Case("popularity is taken off scores", "users", ALL, dampening=0.05),
    Case(
        "diversity weighs candidates in the order of a second stage",
        "network",
        [{"history": items(3, 8)}, {"history": items(30, 31, 2, 9)}, {}],
        top_n=6,
        diversity=0.6,
    ),
    Case(
        "popularity is taken off candidates in the order of a second stage",
        "network",
        [{"history": items(3, 8)}, {"history": items(30, 31, 2, 9)}, {}],
        top_n=6,
        dampening=0.05,
    ),
    Case(
        "dampened lists are calibrated, in the order of a second stage",
        "network",
        [{"history": items(3, 8)}, {"history": items(30, 31, 2, 9)}],
        dampening=0.02,
        calibrate=("genres", "history", 0.5),
        changes=GENRES,
    ),
    Case(
        "at most so many items of a value come back, and the list is shorter where no more fit",
        "users",
        ALL,
        at_most={"genres": 4},
        counts=[4, 4, 4, 4],
    ),
    Case(
        "caps of two columns hold at once",
        "users",
        ALL,
        at_most={"year": 1, "genres": 9},
        stages=1,
        changes=BRANDS,
    ),
    Case(
        "the second stage orders more candidates where caps leave too few",
        "network",
        [{"history": items(3, 8)}, {"history": items(30, 31, 2, 9)}],
        top_n=20,
        at_most={"year": 3},
        stages=2,
        changes=BRANDS,
        counts=[20, 20],
    ),
    Case(
        "what is excluded counts towards no cap",
        "users",
        ALL,
        at_most={"year": 1},
        changes=BRANDS,
        filter=Filter(exclude=[items(*range(0, N_ITEMS, 2))] * len(ALL)),
    ),
    Case("a quota has its places", "users", ALL, top_n=6, at_least=(LATE,), stages=1),
    Case("a quota has its places in the second stage", "network", ALL, top_n=6, at_least=(LATE,)),
    Case(
        "places of a quota that cannot be met are filled with others",
        "users",
        ALL,
        top_n=6,
        at_most={"genres": 5},
        at_least=(NEVER, LATE),
        counts=[5, 5, 5, 5],
    ),
]
