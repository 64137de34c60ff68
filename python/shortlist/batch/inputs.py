"""What a job is given: files of requests, checked and cut before anything is scored."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from shortlist._columns.kinds import SUFFIX_HELP, TABLE_SUFFIXES, check_no_table_format, kind_of
from shortlist._columns.requests import RequestSchema
from shortlist._columns.tables import near_name
from shortlist.batch.formats import Arrow, Cut, Format, Parquet, even_cuts
from shortlist.batch.remote import local_bundle
from shortlist.batch.text import Csv, JsonLines
from shortlist.bundle import Bundle
from shortlist.bundle.manifest import MANIFEST
from shortlist.bundle.tables import map_file, read_table
from shortlist.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 65_536  # requests whose answers make one part, unless `partitions` says otherwise
_FORMATS: dict[str, Format] = {
    "parquet": Parquet(),
    "arrow": Arrow(),
    "text": Csv(),
    "json": JsonLines(),
}
_BLOCK = 1 << 22
_USERS = "users"  # those that the bundle stores


@dataclass(frozen=True)
class Fragment:
    """A run of one file's rows: what one part of the output answers.

    Attributes
    ----------
    path : str
        Of the file; of the bundle where its users are scored.
    kind : str
    cut : Cut
    identity : str
        Of its content, its file's name, and the cut.
    stamp : tuple of int
        Size and time of change that the file had when its content was hashed.
    bundle : str
        Identity of the bundle where its users are scored.
    """

    path: str
    kind: str
    cut: Cut
    identity: str
    stamp: tuple[int, int]
    bundle: str = ""

    @property
    def place(self) -> str:
        """Where its rows lie, in words."""
        if self.kind == _USERS:
            return f"{self.path}, users {self.cut.start:,} to {self.cut.stop - 1:,}"
        return f"{self.path}, {_FORMATS[self.kind].place(Path(self.path), self.cut)}"

    def tables(self, columns: RequestSchema, n_rows: int) -> Iterator[pa.Table]:
        """Read it as tables of `n_rows`, of which the last may be shorter.

        Raises
        ------
        DataError
            It is damaged, or its file is another one than when the job began.
        """
        if self.kind == _USERS:
            users = stored_users(self.path, self.bundle).slice(self.cut.start, self.cut.n_rows)
            return even_tables(iter([users]), n_rows)
        return even_tables(self._read(columns), n_rows)

    def _read(self, columns: RequestSchema) -> Iterator[pa.Table]:
        self._check_unchanged()
        try:
            yield from _FORMATS[self.kind].read(Path(self.path), self.cut, columns)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be read: {error}; expected a file that stays readable. Fix: "
                "mend that, then run the command again"
            ) from error
        self._check_unchanged()

    def _check_unchanged(self) -> None:
        try:
            is_same = _stamp(Path(self.path)) == self.stamp
        except OSError:
            is_same = False
        if not is_same:
            raise DataError(
                f"{self.path} was changed or removed while the job ran, expected the file that "
                "it began with. Fix: run the command again when the file is finished"
            )


@dataclass(frozen=True)
class Input:
    """One file of requests.

    Attributes
    ----------
    name : str
        Under the folder that was given, or the file's own.
    content : str
        Hash of its fragments' contents.
    fragments : tuple of Fragment
    """

    name: str
    content: str
    fragments: tuple[Fragment, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as the record of a job holds it."""
        n_rows = sum(fragment.cut.n_rows for fragment in self.fragments)
        return {"name": self.name, "content": self.content, "n_rows": n_rows}


def read_inputs(
    source: Any,
    bundle: tuple[str, str],
    columns: RequestSchema,
    partitions: int | None = None,
    out: Path | None = None,
) -> list[Input]:
    """Find, check and cut the requests of a job.

    Parameters
    ----------
    source : str, path, or a sequence of them; None
        Files, folders or patterns; None: the users that the bundle stores.
    bundle : tuple of str
        Its path or address, and its identity.
    columns : RequestSchema
    partitions : int or None
        About how many fragments there are in all, at least one a file.
    out : Path, optional
        Where answers go: in no folder of requests, or they would be requests the next time.

    Raises
    ------
    DataError
        Nothing is there; a file cannot be read; columns are unknown, or other than in the first
        file. Names the file and the column.
    """
    if source is None:
        return [_users_input(*bundle, partitions)]
    files = _files_of(source, out)
    kinds = {path: kind_of(path) for path, _ in files}
    for path, kind in kinds.items():
        if kind not in _FORMATS:
            raise DataError(
                f"{path} is an Arrow IPC stream, expected an Arrow file. Fix: write it with "
                "pyarrow.ipc.new_file"
            )
    schemas = [(path, _FORMATS[kinds[path]].schema(path, columns)) for path, _ in files]
    _check_columns(schemas, columns)
    n_rows = PART_ROWS
    if partitions is not None:
        n_all = sum(c.n_rows for path, _ in files for c in _FORMATS[kinds[path]].cuts(path, n_rows))
        n_rows = max(1, -(-n_all // partitions))
    names: Counter[str] = Counter()
    inputs = []
    for (path, name), (_, schema) in zip(files, schemas, strict=True):
        names[name] += 1  # files of one name in two folders are two
        called = f"{name}\n{names[name]}\n{schema}"
        inputs.append(_input(path, name, called, kinds[path], n_rows))
    if not any(one.fragments for one in inputs):
        raise DataError(f"requests: {len(files)} files hold no row, expected requests")
    return inputs


def _input(path: Path, name: str, called: str, kind: str, n_rows: int) -> Input:
    """Cut a file, and hash what each cut is made of."""
    form, stamp, fragments = _FORMATS[kind], _stamp(path), []
    content = hashlib.sha256()
    with path.open("rb") as file:
        hash_of = lru_cache(maxsize=4)(partial(_hash, file))  # cuts may share a row group
        for cut in form.cuts(path, n_rows):
            digest = " ".join(hash_of(*span) for span in form.spans(path, cut))
            identity = f"{called}\n{digest}\n{cut.start}\n{cut.stop}"
            fragments.append(Fragment(str(path), kind, cut, identity, stamp))
            content.update(identity.encode())
    return Input(name, content.hexdigest(), tuple(fragments))


def _hash(file: BinaryIO, start: int, stop: int) -> str:
    """Return the sha256 of some bytes of a file."""
    digest = hashlib.sha256()
    file.seek(start)
    while start < stop and (block := file.read(min(_BLOCK, stop - start))):
        digest.update(block)
        start += len(block)
    return digest.hexdigest()


def _files_of(source: Any, out: Path | None) -> list[tuple[Path, str]]:
    """Return the files of a source, and how each is called, in the order of names."""
    sources = [source] if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(sources, Sequence) or not sources:
        raise TypeError(
            f"source: got {source!r:.60}, expected a path, a list of paths, or None for the users "
            "that the bundle stores"
        )
    found: dict[Path, str] = {}
    for one in sources:
        if not isinstance(one, (str, os.PathLike)):
            raise TypeError(f"source: got {type(one).__name__} {one!r:.60}, expected a path")
        path = Path(one)
        matches = [path] if path.exists() else [Path(p) for p in sorted(glob.glob(str(one)))]
        if not matches:
            raise DataError(f"requests: no such file or folder: {path}. Fix: check the path")
        for match in matches:
            if out is not None and out.resolve().is_relative_to(match.resolve()):
                raise DataError(
                    f"out: got {out}, which is in {match}, whose files are requests; expected "
                    "another folder"
                )
            files = _inside(match) if match.is_dir() else [(match, match.name)]
            found |= {file.absolute(): name for file, name in files}
    return sorted(found.items(), key=lambda file: (file[1], str(file[0])))


def _inside(folder: Path) -> list[tuple[Path, str]]:
    """Return the tables in a folder; names that begin with _ or . are none."""
    check_no_table_format(folder)
    files = [
        (path, path.relative_to(folder).as_posix())
        for path in sorted(folder.rglob("*"))
        if not any(part[0] in "._" for part in path.relative_to(folder).parts)
        and path.name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES)
        and path.is_file()
    ]
    if not files:
        raise DataError(f"{folder} is a folder without tables, expected files: {SUFFIX_HELP}")
    return files


def _check_columns(files: Sequence[tuple[Path, pa.Schema]], columns: RequestSchema) -> None:
    """Refuse unknown columns, ids of a wrong type, and files that differ from the first."""
    first_path, first = files[0]
    for path, schema in files:
        for name in schema.names:
            if name not in columns.column_names:
                raise DataError(
                    f"{path}: unknown column {name!r}; {near_name(name, columns.column_names)}"
                    f"This bundle knows {', '.join(columns.column_names)}. Fix: leave it out"
                )
        if columns.id_name not in schema.names:
            raise DataError(
                f"{path}: no column 'user_id' among {', '.join(schema.names) or 'none'}; expected "
                "one: it names the answers"
            )
        _check_ids(path, schema, columns)
        _check_same(path, schema, first_path, first)


def _check_ids(path: Path, schema: pa.Schema, columns: RequestSchema) -> None:
    of_items = columns.history_dtype or "int64"
    wanted = {"user_id": _NOUNS[columns.id_dtype], "history": f"lists of {_NOUNS[of_items]}"}
    for name, expected in wanted.items():
        if name in schema.names:
            got = kind_of_type(schema.field(name).type)
            if got not in (expected, "nothing", "lists of nothing"):
                raise DataError(
                    f"{path}: column {name!r} is {schema.field(name).type}: {got}, expected "
                    f"{expected} as in this bundle. Fix: cast the column"
                )


def _check_same(path: Path, schema: pa.Schema, first_path: Path, first: pa.Schema) -> None:
    kinds, expected = (
        {field.name: kind_of_type(field.type) for field in one} for one in (schema, first)
    )
    for name in {**expected, **kinds}:
        got, before = kinds.get(name, "missing"), expected.get(name, "missing")
        if got != before and not {got, before} <= {before, "nothing", "lists of nothing"}:
            raise DataError(
                f"{path}: column {name!r} is {got}, but {before} in {first_path}; expected the "
                "same columns in all files. Fix: write the files alike, or score them apart"
            )


_NOUNS = {"int64": "whole numbers", "string": "text"}


def kind_of_type(kind: Any) -> str:
    """Say in words what an Arrow type holds; widths of numbers do not count."""
    import pyarrow.types as kinds

    if kinds.is_dictionary(kind) or kinds.is_run_end_encoded(kind):
        return kind_of_type(kind.value_type)
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return f"lists of {kind_of_type(kind.value_type)}"
    tests = {
        "nothing": kinds.is_null,
        "whole numbers": kinds.is_integer,
        "numbers": lambda one: kinds.is_floating(one) or kinds.is_decimal(one),
        "text": lambda one: (
            kinds.is_string(one) or kinds.is_large_string(one) or kinds.is_string_view(one)
        ),
    }
    return next((noun for noun, is_one in tests.items() if is_one(kind)), str(kind))


def even_tables(tables: Iterator[pa.Table], n_rows: int) -> Iterator[pa.Table]:
    """Cut and join tables so that each has `n_rows`, but for the last."""
    import pyarrow as pa

    left: list[pa.Table] = []
    n_left = 0
    for table in tables:
        while n_left + table.num_rows >= n_rows:
            yield pa.concat_tables([*left, table.slice(0, n_rows - n_left)])
            table, left, n_left = table.slice(n_rows - n_left), [], 0
        if table.num_rows:
            left, n_left = [*left, table], n_left + table.num_rows
    if left:
        yield pa.concat_tables(left)


def _users_input(bundle: str, identity: str, partitions: int | None) -> Input:
    n_users = stored_users(bundle, identity).num_rows
    n_rows = PART_ROWS if partitions is None else max(1, -(-n_users // partitions))
    fragments = [
        Fragment(bundle, _USERS, cut, f"users\n{cut.start}\n{cut.stop}", (0, 0), identity)
        for cut in even_cuts([n_users], n_rows, 0)
    ]
    return Input("users of the bundle", "", tuple(fragments))


def stored_users(bundle: str, identity: str) -> pa.Table:
    """Return the ids of the users that a bundle stores; read once as long as it stays as it is."""
    path = local_bundle(bundle, identity)
    manifest = Path(path) / MANIFEST
    return _read_users(path, _stamp(manifest if manifest.exists() else Path(path)))


@lru_cache(maxsize=1)
def _read_users(path: str, stamp: tuple[int, int]) -> pa.Table:
    with Bundle.hold(path) as bundle:
        manifest = bundle.manifest
        if not bundle.has("users.arrow"):
            raise DataError(
                f"{bundle.name} stores no users, so there are none to score; expected requests. "
                "Fix: give --requests, or export with export.store_users = true"
            )
        columns = {"user_id": manifest.user_id_dtype}
        table = read_table(map_file(bundle.file("users.arrow")), manifest.n_users, columns)
    return table.select(["user_id"])


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
