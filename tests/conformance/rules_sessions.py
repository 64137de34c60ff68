"""Sessions that keep a state; those that compute again are asked every rule that they can be."""

from conformance.bundles import STRANGE, items, texts
from conformance.case import Case, Filter

SEEN = [{"history": items(3, 8, 20)}, {"history": items(9, 9, STRANGE, 4)}, {}]

CASES = [
    Case("a state is what the whole history gives", "recurrent", SEEN, 6,
         source=["history", "history", "popular"]),
    Case("a state goes with the features of the request", "recurrent",
         [{"history": items(5), "city": "Köln", "age": 31.5}, {"city": "Oslo", "level": 2},
          {"history": [STRANGE], "tags": ["a", "b"]}], 5,
         source=["history", "features", "features"]),
    Case("a state has no more than the encoder looks at where a session begins", "recurrent",
         [{"history": items(*range(20))}], 5),
    Case("a state of texts", "recurrent, texts", [{"history": texts(3, 8, 20)}], 6),
    Case("filters hold for a state", "recurrent", SEEN, 6,
         filter=Filter(allow=items(*range(2, 15)), exclude=[items(4, 5), [], items(7)])),
    Case("lists with variety hold for a state", "recurrent", SEEN, 6, at_most={"year": 1},
         diversity=0.4),
    Case("shares of the history hold for a state", "recurrent", SEEN[:2], 6,
         calibrate=("genres", "history", 0.7)),
    Case("items that change are those that a state finds", "recurrent", SEEN, 6,
         changes=(("remove", items(1, 2, 9)),)),
    Case("what was seen may come back where it may", "recurrent", SEEN, 12, exclude_seen=False),
]  # fmt: skip
