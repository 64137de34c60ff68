"""Readers of the common formats on small files, and detection that refuses to guess."""

import gzip
import re

import polars as pl
import pytest

from shortlist.errors import DataError
from shortlist.training.data.datasets import load_dataset
from shortlist.training.data.formats import detect_format, read_dataset
from shortlist.training.data.movielens import readable_title
from shortlist.training.splits.split import leave_one_out


def put(folder, **files):
    for name, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def pairs(dataset):
    return dataset.events.select("user_id", "item_id").rows()


ML_1M = {
    "ratings__dat": "2::10::5::978300760\n1::20::3::978302109\n1::10::4::978301968\n",
    "movies__dat": "10::Matrix, The (1999)::Action|Sci-Fi\n"
    "20::Misérables, Les (1998)::Drama\n".encode("latin-1"),
    "users__dat": "1::F::1::10::48067\n2::M::56::16::02138\n",
}
ML_100K = {
    "u__data": "196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
    "u__item": "242|Kolya (1996)|24-Jan-1997||http://x|0|1|0\n302|É (1997)|||http://y|1|0|1\n".encode(
        "latin-1"
    ),
    "u__genre": "unknown|0\nComedy|1\nDrama|2\n\n",
    "u__user": "196|49|M|writer|55105\n186|39|F|executive|00000\n",
}
ML_LATEST = {
    "ratings__csv": "userId,movieId,rating,timestamp\n1,1,4.5,964982703\n1,3,4.0,964981247\n",
    "movies__csv": 'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n'
    "3,Hyena Road,(no genres listed)\n",
}


def test_movielens_1m_folder_has_readable_titles_years_genres_and_users(tmp_path):
    dataset = read_dataset(put(tmp_path, **ML_1M), "movielens")
    assert pairs(dataset) == [(1, 10), (1, 20), (2, 10)]
    assert dataset.events["kind"].unique().to_list() == ["rating"]
    assert dataset.events["value"].to_list() == [4.0, 3.0, 5.0]
    assert dataset.items.rows() == [
        (10, "The Matrix (1999)", 1999, ["Action", "Sci-Fi"]),
        (20, "Les Misérables (1998)", 1998, ["Drama"]),
    ]
    assert dataset.users.rows()[1] == (2, 56, "M", "16", "02138")


def test_movielens_100k_folder_reads_genre_flags_in_latin_1(tmp_path):
    dataset = read_dataset(put(tmp_path, **ML_100K), "movielens")
    assert dataset.items.rows() == [
        (242, "Kolya (1996)", 1996, ["Comedy"]),
        (302, "É (1997)", 1997, ["Drama"]),
    ]
    assert dataset.users.rows()[0] == (186, 39, "F", "executive", "00000") or (
        dataset.users.rows()[0] == (196, 49, "M", "writer", "55105")
    )
    assert dataset.has_times


def test_movielens_latest_folder_or_its_ratings_file(tmp_path):
    put(tmp_path, **ML_LATEST)
    for path in (tmp_path, tmp_path / "ratings.csv"):
        dataset = read_dataset(path, "movielens")
        assert dataset.events["item_id"].to_list() == [3, 1]
        assert dataset.items.row(0) == (
            1,
            "The American President (1995)",
            1995,
            ["Comedy", "Drama"],
        )
        assert dataset.items.row(1) == (3, "Hyena Road", None, [])


@pytest.mark.parametrize(
    ("title", "readable"),
    [
        ("Usual Suspects, The (1995)", "The Usual Suspects (1995)"),
        ("Avventura, L' (1960)", "L'Avventura (1960)"),
        ("Postino, Il", "Il Postino"),
        (
            "To Wong Foo, Thanks for Everything! (1995)",
            "To Wong Foo, Thanks for Everything! (1995)",
        ),
        ("Am, I (1995) cut", "I Am (1995) cut"),
    ],
)
def test_trailing_articles_move_to_the_front(title, readable):
    assert readable_title(title) == readable


INTER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\t7\t4.5\t20\nu1\t8\t3\t10\n"
)


def test_recbole_folder_or_file_with_items_and_users(tmp_path):
    put(
        tmp_path,
        **{
            "shop__inter": INTER,
            "shop__item": "item_id:token\tmovie_title:token_seq\tclass:token_seq\tprice:float\t"
            'vector:float_seq\n7\tA "B" C\tx y\t1.5\t1 2\n8\tD\t\t\t3 4\n',
            "shop__user": "user_id:token\tage:token\nu1\t24\n",
        },
    )
    for path in (tmp_path, tmp_path / "shop.inter"):
        dataset = read_dataset(path, "recbole")
        assert dataset.events.rows() == [("u1", 8, 10, "rating", 3.0), ("u1", 7, 20, "rating", 4.5)]
        assert dataset.items.to_dicts() == [
            {
                "item_id": 7,
                "title": 'A "B" C',
                "class": ["x", "y"],
                "price": 1.5,
                "vector_0": 1.0,
                "vector_1": 2.0,
            },
            {
                "item_id": 8,
                "title": "D",
                "class": [],
                "price": None,
                "vector_0": 3.0,
                "vector_1": 4.0,
            },
        ]
        assert dataset.users.rows() == [("u1", "24")]


def test_recbole_without_times_keeps_file_order_and_given_parts_are_given(tmp_path):
    head = "user_id:token\titem_id:token\n"
    put(
        tmp_path,
        **{
            "a__train__inter": f"{head}1\t9\n1\t5\n",
            "a__valid__inter": f"{head}1\t7\n",
            "a__test__inter": f"{head}1\t3\n",
        },
    )
    dataset = read_dataset(tmp_path, "recbole")
    assert pairs(dataset) == [(1, 9), (1, 5), (1, 7)]
    assert dataset.test_events["item_id"].to_list() == [3]
    assert not dataset.has_times


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id\titem_id\n1\t2\n", "line 1: header field 'user_id', expected NAME:TYPE"),
        ("user_id:id\n1\n", "line 1: header field 'user_id:id', expected NAME:TYPE"),
        ("user:token\titem_id:token\n1\t2\n", "expected user_id:token among them"),
        ("user_id:token\titem_id:token\n", "a.inter has a header and no rows"),
        ("user_id:token\titem_id:token\n1\t\n", "column 'item_id', line 2: got nothing"),
        (
            "user_id:token\titem_id:token\n1\t2\t3\n",
            "a.inter, line 2: got 3 fields, expected 2 as in the header",
        ),
        (INTER.replace("4.5", "good"), "column 'value', line 2: got 'good', expected a number"),
    ],
)
def test_bad_recbole_files_are_named(tmp_path, text, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_dataset(put(tmp_path, a__inter=text) / "a.inter", "recbole")


@pytest.mark.parametrize("zipped", [False, True])
def test_sasrec_lines_keep_their_order(tmp_path, zipped):
    data = b"1 30\n1 10\n2 5\n1 20\n\n"
    name = "shop.txt.gz" if zipped else "shop.txt"
    (tmp_path / name).write_bytes(gzip.compress(data) if zipped else data)
    dataset = read_dataset(tmp_path / name, "sasrec")
    assert dataset.name == "shop"
    assert pairs(dataset) == [(1, 30), (1, 10), (1, 20), (2, 5)]
    assert not dataset.has_times
    assert leave_one_out(dataset).test["item_id"].to_list() == [20]


def test_s3rec_lines_are_one_user_each_with_text_ids(tmp_path):
    path = put(tmp_path, shop__txt="u1 b a c\nu2 a\nu3\n") / "shop.txt"
    dataset = read_dataset(path, "s3rec")
    assert pairs(dataset) == [("u1", "b"), ("u1", "a"), ("u1", "c"), ("u2", "a")]


def test_lightgcn_keeps_the_given_test_set_apart(tmp_path):
    put(tmp_path, train__txt="0 3 1 2\n1 4\n2\n", test__txt="0 4 0\n1\n")
    dataset = read_dataset(tmp_path, "lightgcn")
    assert pairs(dataset) == [(0, 3), (0, 1), (0, 2), (1, 4)]
    assert dataset.test_events.select("user_id", "item_id").rows() == [(0, 4), (0, 0)]
    assert read_dataset(tmp_path / "train.txt", "lightgcn").test_events.height == 2


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("sasrec", "1 2\n\n1 2 3\n", "shop.txt, line 3: got 3 fields, expected 2 (user item)"),
        ("s3rec", "1 2\n2 3\n1 4\n", "shop.txt, line 3: user '1' has a line already"),
        ("s3rec", "1\n2\n", "shop.txt: no line has an item"),
        ("lightgcn", "1 2\n", "no train.txt, expected train.txt and test.txt"),
        ("sasrec", "", "shop.txt is empty (0 bytes), expected 'user item' lines"),
        ("movielens", "1 2\n", "no MovieLens ratings, expected a folder with one of"),
        ("recbole", "1 2\n", "shop.txt: got a .txt, expected a .inter file or its folder"),
        ("events", "1 2\n", "shop.txt: unknown file type '.txt'"),
        ("csv", "1 2\n", "format: got 'csv', expected one of ['auto', 'movielens'"),
    ],
)
def test_a_file_of_another_format_is_named(tmp_path, format, text, message):
    path = put(tmp_path, shop__txt=text) / "shop.txt"
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_dataset(path, format)
    assert "Fix: " in str(caught.value)


def test_an_events_folder_brings_its_items_and_users(tmp_path):
    put(
        tmp_path,
        events__csv="user_id,item_id,timestamp\nu,i,1\n",
        items__csv="item_id,genres\ni,a|b\n",
        users__tsv="user_id\tage\nu\t9\n",
    )
    dataset = load_dataset(tmp_path, lists={"genres": "|"})
    assert dataset.items.rows() == [("i", ["a", "b"])]
    assert dataset.users.rows() == [("u", 9)]
    with pytest.raises(DataError, match="lists: no table has a column 'tags'"):
        load_dataset(tmp_path, lists={"tags": "|"})


def test_item_and_user_tables_can_be_given_beside_any_format(tmp_path):
    path = put(tmp_path, shop__txt="1 2\n1 3\n1 4\n") / "shop.txt"
    items = pl.DataFrame({"item_id": [4, 3], "title": ["four", "three"]})
    dataset = load_dataset(path, items=items)
    assert leave_one_out(dataset).catalogue.tolist() == [4, 3, 2]
    with pytest.raises(DataError, match=r"columns: got .* with format 'sasrec', expected format"):
        load_dataset(path, columns={"user_id": "u"})


@pytest.mark.parametrize(
    ("files", "path", "format"),
    [
        (ML_1M, ".", "movielens"),
        (ML_100K, "u.data", "movielens"),
        (ML_LATEST, ".", "movielens"),
        (ML_LATEST, "ratings.csv", "movielens"),
        ({"ratings__csv": "user_id,item_id,timestamp\n1,2,3\n"}, "ratings.csv", "events"),
        ({"a__inter": INTER}, ".", "recbole"),
        ({"a__inter": INTER}, "a.inter", "recbole"),
        ({"train__txt": "0 1\n", "test__txt": "0 2\n"}, ".", "lightgcn"),
        ({"a__txt": "1 2\n1 3\n"}, "a.txt", "sasrec"),
        ({"a__txt__gz": gzip.compress(b"1 2\n1 3\n", mtime=0)}, "a.txt.gz", "sasrec"),
        ({"a__txt": "1 2 3\n2 3\n"}, "a.txt", "s3rec"),
        ({"a__parquet": b""}, "a.parquet", "events"),
        ({"events__csv": "x"}, ".", "events"),
    ],
)
def test_auto_recognises_each_format(tmp_path, files, path, format):
    assert detect_format(put(tmp_path, **files) / path) == format


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({"a__txt": "1 2\n2 3\n"}, "a.txt", "could be sasrec or s3rec. Fix: say which"),
        (
            {"train__txt": "0 1 2\n1 5\n", "test__txt": "0 2\n"},
            "train.txt",
            "could be s3rec or lightgcn (give the folder)",
        ),
        ({**ML_1M, "a__inter": INTER}, ".", "could be movielens or recbole"),
        ({"readme__md": "x"}, ".", "format not recognised from ['readme.md'], expected one of"),
        ({"a__txt": "1 2 3\n1 3 4\n"}, "a.txt", "format not recognised from a.txt"),
        ({"a__json": "{}"}, "a.json", "format not recognised from a.json"),
        ({"a__txt": b"\x89PNG\0"}, "a.txt", "a.txt is a PNG image, expected lines of ids"),
    ],
)
def test_auto_refuses_to_guess(tmp_path, files, path, message):
    with pytest.raises(DataError, match=re.escape(message)):
        detect_format(put(tmp_path, **files) / path)


def test_a_path_that_does_not_exist_is_told_with_the_built_in_names(tmp_path):
    with pytest.raises(DataError, match=r"no such file or folder: .*movielens-100k, movielens-1m"):
        load_dataset(tmp_path / "nowhere")
