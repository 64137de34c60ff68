"""The same table, however it was written, is the same to training, cleaning and the log."""

from __future__ import annotations

import datetime
import tempfile
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shortlist._columns.times import ODD, parse_time, time_column
from shortlist.errors import DataError
from shortlist.feedback.rows import id_type_of, read_columns, rows_of
from shortlist.training.cleaning import clean_events
from shortlist.training.data.events import read_events
from shortlist.training.data.time_text import text_microseconds

FIRST, LAST = 631_152_000, 1_750_000_000
SECONDS = st.integers(FIRST, LAST)
INT_IDS = st.integers(-(2**63) + 1, 2**63 - 1)
TEXT_IDS = st.text(
    st.characters(codec="utf-8", exclude_characters='"\t\r\n\0 ,'), min_size=1
).filter(lambda text: text == text.strip())
UTC = datetime.UTC


@st.composite
def tables(draw):
    """Draw events: ids of one type a column, seconds, kinds and values with gaps."""
    n = draw(st.integers(1, 12))
    columns = {}
    for name in ("user_id", "item_id"):
        ids = draw(st.sampled_from([INT_IDS, TEXT_IDS]))
        columns[name] = draw(st.lists(ids, min_size=n, max_size=n))
        if isinstance(columns[name][0], str):
            columns[name][0] = "x" + columns[name][0]  # not all of them plain integers
    columns["timestamp"] = draw(st.lists(SECONDS, min_size=n, max_size=n, unique=True))
    columns["kind"] = draw(st.lists(st.sampled_from(["view", "buy"]), min_size=n, max_size=n))
    # pandas writes at most 15 decimals into JSON.
    number = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) >= 1e-3)
    value = st.none() | number
    columns["value"] = draw(st.lists(value, min_size=n, max_size=n))
    return pl.DataFrame(columns, schema_overrides={"value": pl.Float64}, strict=False)


def in_times(frame: pl.DataFrame, form: str) -> pl.DataFrame:
    """Write the times of a table in another way."""
    seconds = pl.col("timestamp")
    moments = pl.from_epoch("timestamp")
    text = {
        "iso": "%Y-%m-%dT%H:%M:%SZ",
        "bigquery": "%Y-%m-%d %H:%M:%S UTC",
        "snowflake": "%Y-%m-%d %H:%M:%S.000 +00:00",
        "basic": "%Y%m%dT%H%M%SZ",
        "strokes": "%Y/%m/%d %H:%M:%S",
        "digits": "%Y%m%d%H%M%S",
    }
    if form in text:
        return frame.with_columns(moments.dt.strftime(text[form]).alias("timestamp"))
    numbers = {"s": seconds, "ms": seconds * 1000, "us": seconds * 10**6, "float": seconds * 1.0}
    typed = {
        "datetime": moments,
        "ns": moments.cast(pl.Datetime("ns")),
        "zoned": moments.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
    }
    return frame.with_columns((numbers | typed)[form].alias("timestamp"))


FORMS = (
    *("iso", "bigquery", "snowflake", "basic", "strokes", "digits"),
    *("s", "ms", "us", "float", "datetime", "ns", "zoned"),
)
# Text files: values are text, so times that are typed are written as their writer does it.
WRITERS = {
    "polars.csv": lambda f, p: f.write_csv(p),
    "polars.tsv": lambda f, p: f.write_csv(p, separator="\t", quote_style="never"),
    "polars.parquet": lambda f, p: f.write_parquet(p),
    "polars.arrow": lambda f, p: f.write_ipc(p),
    "stream.arrow": lambda f, p: f.write_ipc_stream(p),
    "pandas.csv": lambda f, p: f.to_pandas().to_csv(p, index=False),
    "pandas.csv.gz": lambda f, p: f.to_pandas().to_csv(p, index=False),
    "pandas.parquet": lambda f, p: f.to_pandas().to_parquet(p),
    "polars.jsonl": lambda f, p: plain_json(f).write_ndjson(p),
    "pandas.ndjson.gz": lambda f, p: (
        plain_json(f)
        .to_pandas()
        .to_json(p, orient="records", lines=True, compression="gzip", double_precision=15)
    ),
    "bom.csv": lambda f, p: f.to_pandas().to_csv(p, index=False, encoding="utf-8-sig"),
    "arrow.csv": lambda f, p: pa.csv.write_csv(plain_arrow(f), p),
    "arrow.parquet": lambda f, p: pa.parquet.write_table(plain_arrow(f), p),
    "dictionary.parquet": lambda f, p: pa.parquet.write_table(encoded(f), p),
    "spark.parquet": lambda f, p: spark_like(f, p),
}


def plain_json(frame: pl.DataFrame) -> pl.DataFrame:
    """JSON has no times: a program writes them as text."""
    if frame["timestamp"].dtype != pl.Datetime:
        return frame
    text = pl.col("timestamp").dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
    return frame.with_columns(text)


def plain_arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def encoded(frame: pl.DataFrame) -> pa.Table:
    table = plain_arrow(frame)
    for i, name in enumerate(table.column_names):
        if name != "timestamp" and not pa.types.is_floating(table.schema.types[i]):
            table = table.set_column(i, name, table[name].dictionary_encode())
    return table


def spark_like(frame: pl.DataFrame, path: Path) -> None:
    path.mkdir()
    half = frame.height // 2
    for i, part in enumerate((frame[:half], frame[half:], frame.clear())):
        part.write_parquet(path / f"part-{i:05d}-5b0c.c000.snappy.parquet")
    (path / "_SUCCESS").touch()


def rows(events: pl.DataFrame) -> list[tuple]:
    return sorted(events.rows(), key=repr)


def logged(frame) -> list[tuple]:
    columns = read_columns(frame)
    types = {name: id_type_of(columns[name]) for name in ("user_id", "item_id")}
    found = [row[:5] for row in rows_of(columns, types)]
    # NEEDED and then value: user, item, kind, time, value
    return sorted(
        ((u, i, t, k, None if v is None else float(np.float32(v))) for u, i, k, t, v in found),
        key=repr,
    )


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from(FORMS), st.sampled_from(sorted(WRITERS)))
def test_any_writer_and_any_form_of_times_is_read_the_same_everywhere(frame, form, writer):
    expected = rows(
        frame.select("user_id", "item_id", "timestamp", "kind", pl.col("value").cast(pl.Float32))
    )
    written = in_times(frame, form)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder) / writer
        WRITERS[writer](written, path)
        assert rows(read_events(path)) == expected
        assert rows(clean_events(path)[0]) == expected
    for table in (written, plain_arrow(written), written.to_pandas()):
        assert rows(read_events(table)) == expected
        assert rows(clean_events(table)[0]) == expected
    assert logged(written.to_dict(as_series=False)) == expected
    assert logged(plain_arrow(written)) == expected


CLOCK = st.sampled_from(
    ["", "T10", "T10:30", " 10:30:15", "t103015", "T10:30:15.25", " 9:5:1", "T24"]
)
ZONE = st.sampled_from(["", "Z", "z", " UTC", "+02:00", " -0330", "+05", "CEST", "+2", "+25:00"])
DATE = st.builds(
    lambda y, m, d, form: form.format(y=y, m=m, d=d),
    st.integers(0, 9999),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from(["{y:04d}-{m:02d}-{d:02d}", "{y:04d}/{m}/{d}", "{y:04d}{m:02d}{d:02d}"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.builds(lambda *parts: "".join(parts), DATE, CLOCK, ZONE), min_size=1))
@example(["0000-01-01"])
def test_the_expression_and_the_function_know_the_same_grammar(texts):
    frame = pl.DataFrame({"text": texts})
    found = frame.select(text_microseconds(pl.col("text"))).to_series().to_list()
    assert found == [parse_time(text) for text in texts]


DAYS = st.integers(20_240_101, 20_240_131)
CLOCKS = st.sampled_from([0, 1, 959, 1260, 2359, 2400])
MILLIS = st.integers(0, 60_000)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(-(10**6), 10**19),
            st.integers(19_000_101, 21_001_231),
            st.integers(19_000_101_000_000, 21_001_231_235_959),
            st.builds(lambda day, clock: day * 10**4 + clock, DAYS, CLOCKS),
            st.builds(lambda d, c, ms: (d * 10**4 + c) * 10**5 + ms, DAYS, CLOCKS, MILLIS),
            SECONDS,
            SECONDS.map(lambda second: second * 1000),
            st.floats(0, 1e12),
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
@example([2**63], True)
def test_numbers_mean_the_same_to_training_and_the_log(numbers, as_text):
    if not as_text and len({type(number) for number in numbers}) > 1:
        numbers = [float(number) for number in numbers]
    values = [repr(number) for number in numbers] if as_text else numbers
    if not as_text and any(type(n) is int and n >= 2**63 for n in numbers):
        numbers = values = [min(number, 2**63 - 1) for number in numbers]
    frame = pl.DataFrame(
        {"user_id": range(len(values)), "item_id": range(len(values)), "timestamp": values}
    )
    try:
        log = time_column("timestamp", values).tolist()
    except DataError:
        log = None
    try:
        trained = read_events(frame, allow_future=True)["timestamp"].to_list()
    except DataError:
        trained = None
    # The log also refuses what lies past the year 9999.
    # A program's numbers may count from anywhere; a table's may not.
    is_odd = not as_text and all(any(low <= n < high for low, high in ODD) for n in numbers)
    if (log is not None and not is_odd) or (
        trained is not None and max(map(abs, trained)) < 250_000_000_000
    ):
        # Both cut to seconds; a table's fractions are rounded to microseconds first.
        slack = 1 if any(type(number) is float for number in numbers) else 0
        assert trained is not None
        assert log is not None
        assert all(abs(a - b) <= slack for a, b in zip(trained, log, strict=True))


@pytest.mark.parametrize("column", ["user_id", "item_id", "timestamp", "value"])
@pytest.mark.parametrize(
    "writer", ["polars.csv", "polars.tsv", "pandas.csv.gz", "spark.parquet", "polars.jsonl"]
)
def test_what_is_not_accepted_is_refused_with_file_column_row_and_fix(tmp_path, column, writer):
    frame = pl.DataFrame(
        {"user_id": ["a", "b"], "item_id": ["c", "d"], "timestamp": ["2024-05-01"] * 2}
    ).with_columns(value=pl.Series(["1", "2"]))
    bad = {"user_id": "", "item_id": None, "timestamp": "soon", "value": "1,500.00"}[column]
    bad = "1.500,00" if writer == "polars.csv" and column == "value" else bad
    frame[1, column] = bad
    WRITERS[writer](frame, tmp_path / writer)
    with pytest.raises(DataError) as caught:
        read_events(tmp_path / writer)
    places = {"spark.parquet": "part-00001", "polars.jsonl": "line 2"}
    place = places.get(writer, "line 3")
    for part in (writer, f"column {column!r}", place, "Fix: "):
        assert part in str(caught.value)
