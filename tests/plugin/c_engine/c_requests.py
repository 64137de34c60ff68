"""The same requests for both engines, and the comparison of their answers."""

import numpy as np
from c_engine import column, lists

from shortlist.recommendations import SOURCES

MISSING = np.iinfo(np.int64).min


def random_requests(world, n, seed=7):
    """Histories of every length with unknown items, features of every kind, and nothing at all."""
    rng = np.random.default_rng(seed)
    unknown = "?" if world.item_ids.dtype.kind == "U" else 5
    histories = [rng.choice(world.item_ids, rng.integers(0, 14)).tolist() for _ in range(n)]
    return {
        "history": [
            [] if i % 5 == 0 else [unknown, *history[:2], unknown, *history[2:]]
            for i, history in enumerate(histories)
        ],
        "city": [["Köln", "Paris", None][i % 3] for i in range(n)],
        "level": [[None, 2, 17, None][i % 4] for i in range(n)],
        "tags": [[["a", "b"], None, ["?"], [], ["?", "b"]][i // 5 % 5] for i in range(n)],
        "age": [None if i % 10 else 33.0 for i in range(n)],
    }


def columns_of(world, requests):
    """The same requests as C columns: lists with splits, the rest in arrays."""
    is_text = world.item_ids.dtype.kind == "U"
    levels = [MISSING if level is None else level for level in requests["level"]]
    return [
        lists("history", requests["history"], object if is_text else np.int64),
        column("city", np.array([city or "" for city in requests["city"]], object)),
        column("level", np.array(levels, np.int64)),
        lists("tags", [tags or [] for tags in requests["tags"]], object),
        column("age", np.array([np.nan if v is None else v for v in requests["age"]], np.float32)),
    ]


def check_same(found, expected):
    assert found.item_ids.tolist() == expected.item_ids.tolist()
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert np.array_equal(found.rows, expected.indices)
    assert np.array_equal(found.counts, expected.counts)
    assert [SOURCES[code] for code in found.sources] == expected.source.tolist()
    assert found.stages.tolist() == expected.stages.tolist()
