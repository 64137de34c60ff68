"""JSON lines as events, items and users: typed values, records, and lines that are named."""

from __future__ import annotations

import gzip
import json

import pytest

from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.cleaning import clean_events
from shortlist.training.data.datasets import load_dataset
from shortlist.training.data.entities import read_items
from shortlist.training.data.events import read_events
from shortlist.training.data.formats import read_dataset

EVENTS = [
    {"user_id": "aä", "item_id": 7, "timestamp": "2024-05-01T10:00:00Z", "kind": "view"},
    {"user_id": "b2", "item_id": 8, "timestamp": "2024-05-01T10:00:01Z", "value": 2.5},
]
ROWS = [("aä", 7, 1714557600, "view", None), ("b2", 8, 1714557601, "event", 2.5)]


def text_of(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("e.jsonl", text_of(EVENTS)),
        ("e.ndjson", text_of(EVENTS).rstrip("\n")),
        ("e[1].jsonl", text_of(EVENTS)),
        ("e.jsonl", "\n" + text_of(EVENTS).replace("\n", "\r\n  \r\n")),
        ("e.jsonl", "\ufeff" + text_of(EVENTS)),
        ("e.jsonl", text_of(EVENTS).encode("utf-16")),
        ("e.jsonl.gz", gzip.compress(text_of(EVENTS).encode())),
        ("e.ndjson", gzip.compress(text_of(EVENTS).encode())),
    ],
    ids=["plain", "no end", "pattern", "blank lines", "mark", "utf-16", "gzip", "gzip by content"],
)
def test_events_are_read_from_json_lines(tmp_path, name, data):
    path = write(tmp_path / name, data)
    assert read_events(path).rows() == ROWS
    assert clean_events(path)[0].rows() == ROWS
    assert read_dataset(path).events.rows() == ROWS


def test_items_and_users_of_json_lines_keep_types_and_names_of_records(tmp_path):
    write(tmp_path / "events.jsonl", text_of(EVENTS))
    items = [
        {"item_id": 7, "code": "007", "size": {"w": 1.5}, "tags": ["x", "y"], "new": True},
        {"item_id": 8, "price": 3, "tags": []},
    ]
    write(tmp_path / "items.jsonl", text_of(items))
    write(tmp_path / "users.ndjson", text_of([{"user_id": "aä", "age": 30}]))
    dataset = load_dataset(tmp_path)
    assert dataset.items.to_dict(as_series=False) == {
        "item_id": [7, 8],
        "code": ["007", None],
        "size.w": [1.5, None],
        "tags": [["x", "y"], []],
        "new": [True, None],
        "price": [None, 3],
    }
    assert dataset.users["age"].to_list() == [30]
    assert dataset.text_tables == set()
    out = tmp_path / "clean.parquet"
    assert main(["clean", "--data", str(tmp_path), "--out", str(out)]) == 0
    nested = [{"who": {"id": "a"}, "item_id": 1, "timestamp": 1_700_000_000}]
    path = write(tmp_path / "nested.jsonl", text_of(nested))
    with pytest.raises(DataError, match=r"--column user_id=who\.id"):
        read_events(path)
    assert read_events(path, columns={"user_id": "who.id"})["user_id"].to_list() == ["a"]


def test_parts_may_lack_columns_that_have_no_value(tmp_path):
    folder = tmp_path / "events.jsonl"
    folder.mkdir()
    for number, event in enumerate(EVENTS):
        write(folder / f"part-{number}.jsonl", text_of([event]))
    assert read_events(folder).rows() == ROWS
    write(folder / "part-2.jsonl", text_of([{**EVENTS[0], "value": "no"}]))
    with pytest.raises(DataError, match=r"column 'value', part-2.jsonl, line 1: got 'no'"):
        read_events(folder)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1, 2]", "line 4: got '[1, 2]', expected a JSON object"),
        ('{"item_id": 1', "line 4: got '{\"item_id\": 1', which is no JSON"),
        ('{"item_id": NaN}', "line 4: .*NaN is no number of JSON; write null"),
        ('{"item_id": 3, "price": [1]}', "line 4: column 'price': got '[1]', a list, expected a"),
        ('{"item_id": 3, "price": true}', "line 4: column 'price': got 'true', true or false"),
        ('{"item_id": 3} {"item_id": 4}', "line 4: .*which is no JSON: Extra data"),
    ],
)
@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_a_line_that_is_none_is_named(tmp_path, line, said, pack):
    good = text_of([{"item_id": 1, "price": None}, {"item_id": 2, "price": 2}])
    path = write(tmp_path / "items.jsonl", pack("\n" + good + line + "\n"))
    escaped = said.replace("[", r"\[").replace("{", r"\{")
    with pytest.raises(DataError, match=f"items.jsonl, {escaped}.*Fix: "):
        read_items(path)


MIXED = [
    ({"item_id": "a"}, {"item_id": ["x"]}, "item_id", r"line 2: .*got '\[\"x\"\]', a list"),
    ({"item_id": "a"}, {"item_id": True}, "item_id", "line 2: .*got 'true', true or false"),
    ({"item_id": "a"}, {"item_id": {"id": "b"}}, "item_id", "line 2: .*an object"),
    ({"item_id": 1}, {"item_id": {"id": 2}}, "item_id", "line 2: .*an object"),
    ({"item_id": {"id": 2}}, {"item_id": 1}, "item_id", "line 1: .*an object"),
    ({"item_id": 1, "user": "u"}, {"item_id": 1, "user": {"id": 2}}, "user", "line 2: .*an object"),
    (
        {"item_id": 1, "u": {"id": "a"}},
        {"item_id": 1, "u": {"id": []}},
        "u.id",
        r"line 2: .*a list",
    ),
]


@pytest.mark.parametrize(("first", "second", "column", "said"), MIXED)
def test_a_value_that_is_no_id_beside_ids_is_named(tmp_path, first, second, column, said):
    own = {"user_id": "u", "timestamp": 1_700_000_000}
    path = write(tmp_path / "events.jsonl", text_of([own | first, own | second]))
    columns = {"user_id": column} if column.startswith("u") else {}
    for read in (read_events, clean_events):
        with pytest.raises(DataError, match=f"events.jsonl, {said}.*Fix: give the column one"):
            read(path, columns=columns)
    if column == "item_id":
        with pytest.raises(DataError, match=f"events.jsonl, {said}.*Fix: give the column one"):
            read_items(path, columns={"item_id": "item_id"})


def test_text_that_looks_like_json_is_an_id(tmp_path):
    events = [EVENTS[0] | {"item_id": text} for text in ("true", "[x]", '{"a": 1}')]
    path = write(tmp_path / "events.jsonl", text_of(events))
    assert set(read_events(path)["item_id"]) == {"true", "[x]", '{"a": 1}'}


@pytest.mark.parametrize("odd", [{"id": 2}, {"b": {"c": 2}}, True])
def test_what_cannot_be_read_in_a_column_that_is_not_used_does_not_matter(tmp_path, odd):
    first = {"b": 1} if "b" in (odd if isinstance(odd, dict) else ()) else 1
    events = [EVENTS[0] | {"x": first}, EVENTS[1] | {"x": odd}]
    path = write(tmp_path / "events.jsonl", text_of(events))
    assert read_events(path).rows() == ROWS
    assert clean_events(path)[0].rows() == ROWS


def test_other_files_called_json_lines_are_named(tmp_path):
    for data, said in (
        (b"", "is empty"),
        (b"PK\x03\x04....", "is a zip archive"),
        (b'{"item_id": 1, "t": "\xff"}\n', "line 1: byte 0xff is not UTF-8"),
        (b'[\n{"item_id": 1}\n]\n', r"line 1: got '\[', .*jq -c"),
        (b"item_id,price\n1,2\n", "line 1: got 'item_id,price', which is no JSON"),
    ):
        with pytest.raises(DataError, match=said):
            read_items(write(tmp_path / "items.jsonl", data))
    with pytest.raises(
        DataError, match=r"0 rows and|1 rows and 0 columns|have no column 'item_id'"
    ):
        read_items(write(tmp_path / "items.jsonl", "{}\n"))
    with pytest.raises(DataError, match=r"unknown file type '.json', expected one of .*\.jsonl"):
        read_items(write(tmp_path / "items.json", "{}\n"))
