"""A bundle is what its manifest says, or a BundleError names the file, expected and found."""

import dataclasses
import errno
import json
import os
import shutil
import stat
import time

import numpy as np
import pyarrow as pa
import pytest
from worlds import BUNDLE_FILES as FILES
from worlds import edit_manifest

import shortlist.loading
from shortlist.bundle import Bundle, BundleWriter
from shortlist.errors import BundleError, ShortlistError

VERSION = {"version": "v1", "created": "2026-01-01"}


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=rf"tiny\.shortlist/{name}: expected a file, found no su"):
        shortlist.loading.load(copy)


@pytest.mark.parametrize("path", [None, 3, b"movies.shortlist"])
def test_what_is_no_path_is_a_type_error(path):
    with pytest.raises(TypeError, match=r"path: got \w+, expected a str or path of a bundle such"):
        shortlist.load(path)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named_with_both_sizes(copy, name):
    size = (copy / name).stat().st_size
    os.truncate(copy / name, size - 1)
    expected = rf"{name}: expected {size:,} bytes, found {size - 1:,} bytes"
    with pytest.raises(BundleError, match=expected):
        shortlist.loading.load(copy)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_found_by_its_hash(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(
        BundleError, match=rf"{name}: expected sha256 \w{{64}}, found sha256 \w{{64}}"
    ):
        shortlist.loading.load(copy)


def test_an_extra_file_is_refused(copy):
    (copy / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"notes\.txt: expected only files the manifest lists"):
        Bundle.open(copy)


def test_links_and_special_files_are_refused_without_being_read(copy, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(copy / "scorer.onnx", elsewhere)
    (copy / "scorer.onnx").symlink_to(elsewhere)
    with pytest.raises(BundleError, match=r"scorer\.onnx: expected a plain file, found a symbolic"):
        Bundle.open(copy)
    (copy / "scorer.onnx").unlink()
    os.mkfifo(copy / "scorer.onnx")  # opening a pipe for reading would wait for ever
    with pytest.raises(BundleError, match=r"scorer\.onnx: expected a plain file, found a fol"):
        Bundle.open(copy)


def test_a_link_to_a_whole_bundle_is_followed(world, tmp_path):
    (tmp_path / "current").symlink_to(world.path)
    with Bundle.open(tmp_path / "current") as bundle:
        assert bundle.manifest.n_items == bundle.manifest["n_items"] == 40
        assert dict(bundle.manifest) == bundle.manifest.to_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a JSON object in UTF-8"),
        (b"{", "expected a JSON object in UTF-8"),
        (b"\xff\xfe", "expected a JSON object in UTF-8"),
        (b"[" * 200_000, "expected a JSON object in UTF-8"),
        (b'{"format_version": ' + b"9" * 9000 + b"}", "expected a JSON object in UTF-8"),
        (
            b'{"dim": 8, "dim": 9}',
            "expected a JSON object in UTF-8, found .*'dim' twice in one obj",
        ),
        (b'{"recall": NaN}', "expected a JSON object in UTF-8, found .*NaN, which is no number"),
        (b'{"x": [-Infinity]}', "expected a JSON object in UTF-8, found .*-Infinity, which is no"),
        (b"[1]", "expected a JSON object, found a JSON list"),
        (b"{}", "expected format 'shortlist-bundle', found None"),
    ],
)
def test_a_manifest_that_is_no_manifest_is_refused(copy, content, message):
    (copy / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=rf"manifest\.json: {message}"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format_version", 2, "expected format_version 1, found 2; read it with the release"),
        ("format_version", True, "expected format_version 1, found True"),
        ("metric", "manhattan", "expected metric to be one of cosine, dot, euclidean"),
        (
            "storage",
            "float8",
            "expected storage to be one of float32, float16, bfloat16, int8, disk8, disk4, int4",
        ),
        ("storage", 3, "expected field 'storage' to be a storage"),
        ("recall", 1.5, "expected recall from 0 to 1"),
        ("recall", "high", "expected field 'recall' to be a number"),
        ("recall", True, "expected field 'recall' to be a number, found True"),
        ("max_history", 2**20 + 1, "expected max_history <= 1048576, found 1048577"),
        ("n_users", -1, "expected n_users >= 0, found -1"),
        ("dim", 0, "expected dim >= 1, found 0"),
        ("n_items", 2**64, r"expected n_items below 2\^63, found 18446744073709551616"),
        ("dim", "8", "expected field 'dim' to be a whole number, found '8'"),
        ("n_items", True, "expected field 'n_items' to be a whole number, found True"),
        ("item_id_dtype", "float", "expected item_id_dtype to be int64 or string"),
        ("features", [{"name": "x"}], "expected field 'side'"),
        ("features", [1], "expected every feature to be an object"),
        ("parity", None, "expected field 'parity' to be an object, found None"),
        ("files", {}, r"expected user_encoder\.onnx in 'files', found no file at all"),
        ("files", {"../../etc/passwd": {}}, "expected plain file names in 'files'"),
        ("files", {"/etc/passwd": {}}, "expected plain file names in 'files'"),
        ("files", {"manifest.json": {}}, "expected plain file names in 'files'"),
        ("files", {"a": {"size": -1, "sha256": "0" * 64}}, "expected size of a >= 0"),
        ("files", {"a": {"size": 2**63, "sha256": "0" * 64}}, r"expected size of a below 2\^63"),
        ("files", {"a": {"size": 1, "sha256": "0"}}, "expected sha256 of a to be 64 hex digits"),
    ],
)
def test_a_wrong_manifest_field_is_named(copy, field, value, message):
    edit_manifest(copy, lambda manifest: manifest.update({field: value}))
    with pytest.raises(BundleError, match=rf"manifest\.json: {message}"):
        Bundle.open(copy)


def test_parts_that_do_not_fit_together_are_refused_even_with_right_hashes(copy):
    for key, value in (
        ("dim", 9),
        ("n_items", 41),
        ("metric", "dot"),
        ("storage", "int8"),
        ("item_id_dtype", "string"),
    ):
        before = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))[key]
        edit_manifest(copy, lambda manifest, k=key, v=value: manifest.update({k: v}))
        with pytest.raises(
            BundleError, match=rf"items\.index: expected the manifest's {key} {value}"
        ):
            shortlist.loading.load(copy)
        edit_manifest(copy, lambda manifest, k=key, v=before: manifest.update({k: v}))
    edit_manifest(copy, lambda manifest: manifest["features"].pop(0))
    with pytest.raises(BundleError, match=r"recommend\.onnx: expected the manifest's inputs"):
        shortlist.loading.load(copy)


def rewrite(copy, name, data):
    """Replace a file and give the manifest its true hash, as an attacker would."""
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    (copy / name).write_bytes(data)
    (copy / "manifest.json").unlink()
    number = len(list(copy.parent.iterdir()))
    with BundleWriter(copy.parent / f"again{number}.shortlist") as writer:
        for file in copy.iterdir():
            shutil.copy(file, writer.directory)
        writer.write_manifest({key: v for key, v in manifest.items() if key != "files"})
        return writer.commit()


@pytest.mark.parametrize("name", ["recommend.onnx", "items.index"])
def test_a_graph_or_index_that_is_garbage_is_a_bundle_error(copy, name):
    path = rewrite(copy, name, b"garbage" * 100)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        shortlist.loading.load(path)


def test_a_table_that_is_garbage_is_a_bundle_error(copy):
    path = rewrite(copy, "items.arrow", b"ARROW1\0\0" + bytes(range(256)))
    with (
        shortlist.loading.load(path) as engine,
        pytest.raises(BundleError, match=r"items\.arrow: expected an Arrow IPC file"),
    ):
        _ = engine.items


def test_tables_with_other_rows_columns_or_ids_are_refused(world, copy):
    with pa.memory_map(str(copy / "items.arrow")) as source:
        items = pa.ipc.open_file(source).read_all()
    cases = [
        (items.slice(1), "expected 40 rows, found 39"),
        (items.drop_columns(["n_events"]), "expected a column 'n_events'"),
        (items.set_column(2, "n_events", pa.nulls(40, pa.int64())), "without nulls"),
        (items.take(np.arange(40)[::-1].copy()), r"expected the item ids of items\.index"),
    ]
    for number, (table, message) in enumerate(cases):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as stream:
            stream.write_table(table)
        path = shutil.copytree(world.path, copy.parent / f"{number}.shortlist")
        with (
            shortlist.loading.load(rewrite(path, "items.arrow", sink.getvalue())) as engine,
            pytest.raises(BundleError, match=rf"items\.arrow: .*{message}"),
        ):
            _ = engine.recommend([{}]).titles


def test_a_path_without_a_bundle_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"nowhere: expected a bundle folder or zip, found nothi"):
        Bundle.open(tmp_path / "nowhere")
    (tmp_path / "text.shortlist").write_text("hello")
    with pytest.raises(BundleError, match=r"text\.shortlist: expected a zip that can be read"):
        Bundle.open(tmp_path / "text.shortlist")


def test_verify_finds_what_changed_after_opening(copy):
    with Bundle.open(copy) as bundle:
        bundle.verify()
        data = bytearray((copy / "items.index").read_bytes())
        data[-1] ^= 1
        (copy / "items.index").write_bytes(data)
        with pytest.raises(BundleError, match=r"items\.index: expected sha256"):
            bundle.verify()


def test_messages_name_the_bundle_wherever_a_link_or_a_dot_leads_to_it(copy, tmp_path, monkeypatch):
    (tmp_path / "current").symlink_to(copy)
    monkeypatch.chdir(copy)
    for path in (".", tmp_path / "current"):
        with Bundle.open(path) as bundle:
            assert bundle.summary().startswith(f"{copy.name}: a bundle of format")
            with pytest.raises(BundleError, match=rf"^{copy.name}/none: expected one of"):
                bundle.file("none")
            index = copy / "items.index"
            data = index.read_bytes()
            index.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            with pytest.raises(BundleError, match=rf"^{copy.name}/items\.index: expected sha256"):
                bundle.verify()
            index.write_bytes(data)


def test_the_manifest_is_read_only_and_unknown_files_are_named(world):
    with Bundle.open(world.path) as bundle:
        with pytest.raises(dataclasses.FrozenInstanceError):
            bundle.manifest.dim = 3
        with pytest.raises(
            BundleError, match=r"nothing\.onnx: expected one of graphs\.data, item_e"
        ):
            bundle.file("nothing.onnx")
        assert bundle.has("scorer.onnx")
        assert "40 items, dim 8, cosine" in repr(bundle)


def test_a_manifest_gives_back_what_was_read_with_all_that_it_does_not_know(copy):
    def add(manifest):
        manifest |= {"later": {"x": [1]}, "lineage": {"ancestors": [], "by": "n", **VERSION}}
        manifest["features"][0]["later"] = 1
        manifest["second_stage"]["later"] = 2

    edit_manifest(copy, add)
    with Bundle.open(copy) as bundle:
        manifest = bundle.manifest
    text = (copy / "manifest.json").read_text(encoding="utf-8")
    assert json.dumps(manifest.to_dict()) == text
    assert manifest.own.to_dict() == {"by": "n", **VERSION}
    assert (manifest.version, manifest.own.parent, manifest.ancestors) == ("v1", None, ())
    assert manifest.second_stage.n_candidates == 12
    assert manifest.second_stage.measured == {"is_kept": True, "later": 2}
    assert manifest.files["items.index"].size == (copy / "items.index").stat().st_size
    assert manifest.features_of("user")[0].name == "city"
    assert manifest.training_section("model") == {"dim": 8}
    assert manifest.training_section("model", "dim", "deeper") == {}


def test_a_description_is_json_without_vocabularies_and_a_summary_names_every_file(world):
    with Bundle.open(world.path) as bundle:
        told = json.loads(json.dumps(bundle.describe()))
        text = bundle.summary()
    assert told["size"] == sum(file["size"] for file in told["files"].values())
    assert told["features"][0]["n_vocabulary"] == 2
    assert "vocabulary" not in told["features"][0]
    for name in (*FILES, "city", "HR@10", "cosine", "40 items", "3 users"):
        assert name in text


def test_replacing_a_bundle_is_one_step_and_other_things_are_never_overwritten(
    world, tmp_path, make_tiny_bundle
):
    path = tmp_path / "tiny.shortlist"
    make_tiny_bundle(path, with_users=False)
    old = Bundle.open(path)
    make_tiny_bundle(path)
    assert Bundle.open(path).has("users.arrow")
    assert not old.has("users.arrow")
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.shortlist"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o500 == 0o500
    for name in ("folder.shortlist", "file.shortlist"):
        other = tmp_path / name
        if name.startswith("folder"):
            other.mkdir()
            (other / "precious").write_text("x")
        else:
            other.write_text("precious")
        with pytest.raises(BundleError, match="expected a new name or an existing bundle"):
            BundleWriter(other)
    assert (tmp_path / "folder.shortlist" / "precious").read_text() == "x"


def test_without_the_exchange_call_two_renames_do_it(tmp_path, make_tiny_bundle, monkeypatch):
    path = tmp_path / "tiny.shortlist"
    make_tiny_bundle(path, with_users=False)
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    make_tiny_bundle(path)
    assert Bundle.open(path).has("users.arrow")
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.shortlist"]


def test_an_error_while_writing_leaves_nothing(tmp_path):
    def write_half():
        with BundleWriter(tmp_path / "new.shortlist") as writer:
            (writer.directory / "items.index").write_bytes(b"half")
            writer.commit()

    with pytest.raises(BundleError, match=r"manifest\.json: expected it written before commit"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_every_bundle_error_is_a_shortlist_error():
    assert issubclass(BundleError, ShortlistError)


def test_a_loaded_engine_keeps_to_its_own_files_when_folders_change_places(copy, world):
    with shortlist.load(world.path) as engine:
        expected = engine.encode_items({"item_id": [100]}).tolist()
    with shortlist.load(copy) as engine:
        copy.rename(copy.with_name("aside.shortlist"))
        copy.mkdir()
        (copy / "item_encoder.onnx").write_bytes(b"another bundle's")
        assert engine.encode_items({"item_id": [100]}).tolist() == expected  # opened only now


def test_a_call_that_outlives_its_engine_never_reads_another_bundle(
    world, make_tiny_bundle, tmp_path
):
    other = make_tiny_bundle(tmp_path / "other.shortlist", sign=-1)
    engine = shortlist.load(world.path)
    loaded = engine._switch.loaded  # as a call under way holds it
    core = loaded.core
    engine.close()
    with shortlist.load(other.path):  # its folder has the number that is free now
        user, history = next((u, h) for u, h in world.users.items() if len(h))
        expected = world.item_ids[np.asarray(history)].tolist()
        assert core.stored_user(user)[0] == expected
        with pytest.raises(ShortlistError, match="closed while this call was under way"):
            loaded.encode_items({"item_id": [100]})


def test_a_folder_that_cannot_be_opened_is_a_bundle_error(copy, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BundleError, match=r"tiny\.shortlist: expected a folder that can be read"):
        Bundle.open(copy)


def test_messages_name_the_bundle_and_no_descriptor(copy, monkeypatch):
    monkeypatch.chdir(copy)
    (copy / "items.index").write_bytes(b"x" * (copy / "items.index").stat().st_size)
    with pytest.raises(BundleError, match=r"^tiny\.shortlist/items\.index: ") as caught:
        Bundle.open(".")
    assert "/proc" not in str(caught.value)
    with pytest.raises(BundleError, match=r"^tiny\.shortlist/items\.index: ") as caught:
        shortlist.load(copy, verify=False)
    assert "/proc" not in str(caught.value)


def test_a_name_that_comes_again_and_again_costs_no_time(copy):
    names = "".join(f'"k{i}": 1, ' for i in range(200_000))
    for text in (f'{{{names} "k199999": 1}}', "{" + '"a": 1, ' * 500_000 + '"a": 1}'):
        (copy / "manifest.json").write_text(text, encoding="utf-8")
        start = time.process_time()
        with pytest.raises(BundleError, match="twice in one object"):
            Bundle.open(copy)
        assert time.process_time() - start < 5  # a quadratic reader takes hours


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_events": -1, "sha256": "0"}, "n_events >= 0, found -1"),
        ({"n_events": "7", "sha256": "0"}, "field 'n_events' to be a whole number, found '7'"),
        ({"n_events": 7, "sha256": "0", "until": 2**63}, r"until below 2\^63"),
        ({"n_events": 7, "sha256": "0", "until": 1.5}, "field 'until' to be a whole number"),
        (7, "data of a version to be an object, found 7"),
    ],
)
def test_the_numbers_of_a_lineage_are_checked(copy, fields, message):
    lineage = {**VERSION, "data": fields, "ancestors": []}
    edit_manifest(copy, lambda manifest: manifest.update(lineage=lineage))
    with pytest.raises(BundleError, match=rf"manifest\.json: expected {message}"):
        Bundle.open(copy)
