"""What answers are made of, asked for alone: embeddings, and scores of given items."""

import numpy as np
import pyarrow as pa
import pytest
from c_engine import CEngine, column, lists
from c_library import address, call, size
from c_requests import columns_of, random_requests

import shortlist


@pytest.fixture(scope="module", params=["bundle", "text_bundle"])
def engines(request):
    world = request.getfixturevalue(request.param)
    with shortlist.load(world.path) as engine, CEngine(world.path) as c_engine:
        yield world, engine, c_engine


def user_column(world, users):
    is_text = world.item_ids.dtype.kind == "U"
    return column("user_id", np.array(users, object if is_text else np.int64))


@pytest.mark.parametrize("n", [0, 1, 40, 1300])
def test_user_embeddings_are_those_of_python(engines, n):
    world, engine, c_engine = engines
    requests = random_requests(world, n, seed=n)
    found = c_engine.encode_users(columns_of(world, requests), n)
    assert found.tobytes() == engine.encode_users(requests).tobytes()


def test_embeddings_of_stored_users_are_made_from_what_is_stored(engines):
    world, engine, c_engine = engines
    users = list(world.users)
    found = c_engine.encode_users([user_column(world, users)], len(users))
    assert found.tobytes() == engine.encode_users({"user_id": users}).tobytes()


@pytest.mark.parametrize("n", [0, 1, 25, 1300])
def test_item_embeddings_are_those_of_python(engines, n):
    world, engine, c_engine = engines
    known = world.item_ids.tolist()
    strange = "?" if isinstance(known[0], str) else 7
    kind = object if isinstance(known[0], str) else np.int64
    ids = [strange if i % 4 == 0 else known[i % 40] for i in range(n)]
    genres = [["war"] * (i % 3) + ["?"] * (i % 2) for i in range(n)]
    years = np.array([np.nan if i % 5 == 0 else 1900 + i for i in range(n)], np.float32)
    table = pa.table({
        "item_id": pa.array(ids, pa.string() if kind is object else pa.int64()),
        "genres": pa.array(genres, pa.list_(pa.string())),
        "year": pa.array([None if np.isnan(year) else float(year) for year in years], pa.float32()),
    })  # fmt: skip
    item_id, more = column("item_id", np.array(ids, kind)), column("year", years)
    found = c_engine.encode_items([item_id, lists("genres", genres, object), more], n)
    assert found.tobytes() == engine.encode_items(table).tobytes()
    alone = engine.encode_items(table.select(["item_id"]))
    assert c_engine.encode_items([item_id], n).tobytes() == alone.tobytes()


def test_scores_are_those_of_python(bundle):
    n, rng = 1300, np.random.default_rng(3)
    requests = random_requests(bundle, n)
    asked = rng.choice([*bundle.item_ids, -1], (n, 9))  # some twice, some places empty
    columns = columns_of(bundle, requests)
    with shortlist.load(bundle.path) as engine, CEngine(bundle.path) as c_engine:
        for some in (1, 40, n):
            part = {name: values[:some] for name, values in requests.items()}
            expected = engine.score(part, asked[:some])
            columns = columns_of(bundle, part)
            for stages in (0, 2):
                found = c_engine.score(columns, asked[:some].tolist(), stages=stages)
                assert found.tobytes() == expected.tobytes()
    assert np.isneginf(expected[asked == -1]).all()


def test_scores_of_stored_users_are_those_of_python(bundle):
    users, asked = [*bundle.users, 77], [bundle.item_ids[:12].tolist()] * 4
    with shortlist.load(bundle.path) as engine, CEngine(bundle.path) as c_engine:
        found = c_engine.score([user_column(bundle, users)], asked)
        assert found.tobytes() == engine.score({"user_id": users}, asked).tobytes()


@pytest.mark.parametrize("stages", [1, 2])
def test_the_items_of_an_answer_have_the_scores_of_the_answer(bundle, stages):
    """Skips push here as they do there."""
    ids, n = bundle.item_ids.tolist(), 30
    columns = [lists("history", [[ids[i], ids[(7 * i + 3) % 40]] for i in range(n)], np.int64)]
    more = {"stages": stages, "skipped": [[ids[(i + 5) % 40]] * (i % 2) for i in range(n)]}
    with CEngine(bundle.path) as c_engine:
        answer = c_engine.recommend(columns, n, 9, **more)
        found = c_engine.score(columns, answer.item_ids.tolist(), **more)
    np.testing.assert_array_equal(found, answer.scores)


def test_one_stage_scores_by_similarity_also_what_came_later(engines):
    world = engines[0]
    known = world.item_ids.tolist()
    new, strange = ("新", "?") if isinstance(known[0], str) else (900, 7)
    history = lists("history", [[known[3]], []], object if isinstance(new, str) else np.int64)
    with CEngine(world.path) as c_engine:
        c_engine.upsert([new], [lists("genres", [["war"]], object)])
        view = c_engine.view()
        asked = [new, known[3], strange, known[8]]
        found = c_engine.score([history], [asked, asked], stages=1)
        users = c_engine.encode_users([history], 2)
        items = view.vectors(view.rows_of([new, known[3], known[8]]))
        view.close()
    unit = users[0] / np.linalg.norm(users[0])
    np.testing.assert_allclose(found[0, [0, 1, 3]], items @ unit, rtol=1e-5)
    assert np.isneginf(found[:, 2]).all()


def test_parts_take_what_they_fill(engines):
    c_engine = engines[2]
    embeddings = np.full((3, c_engine.info().dim), 7, np.float32)
    call("engine_encode_items", c_engine.handle, None, size(0), size(1), address(embeddings))
    assert (embeddings[1:] == 7).all()
    assert not (embeddings[0] == 7).any()
