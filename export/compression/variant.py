"""One smaller form of a bundle: what is done to it, and the doing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shortlist.bundle.manifest import MANIFEST
from shortlist.bundle.storages import ON_DISK
from shortlist.errors import DataError
from shortlist.export.compression.cut import cut_graphs, cut_index
from shortlist.export.compression.graphs import (
    ENCODER,
    ITEM_ENCODER,
    PLUGIN,
    PORTABLE,
    SESSION,
    read_graphs,
    transplant,
    write_graphs,
)
from shortlist.export.compression.names import shorten_names
from shortlist.export.compression.products import byte_products
from shortlist.export.compression.rows import read_index_again
from shortlist.export.compression.tables import byte_tables, digests
from shortlist.export.compression.users import write_short
from shortlist.export.tensors import DATA_FILE, INDEX_FILE
from shortlist.index import Index
from shortlist.shards import folder as shards
from shortlist.shards.sharded import write_beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shortlist.bundle import Bundle
    from shortlist.bundle.storages import Storage
    from shortlist.export.host_graphs import Answer

__all__ = ["Recipe", "write_variant"]

USERS = "users.arrow"
FOLLOWERS = "followers.arrow"
WHOLE = ("float32", *ON_DISK)  # storages that keep every number


@dataclass(frozen=True)
class Recipe:
    """What is done to the files of a bundle.

    Attributes
    ----------
    int8 : bool
        Tables, and products of the user encoder, in 8-bit numbers.
    storage : str or None
        Of the item index; None leaves it.
    dim : int or None
        Numbers of an embedding that stay; None leaves them all.
    users : bool
        Keep the stored users.
    portable : bool
        Keep recommend_portable.onnx.
    followers : bool
        Keep followers.arrow, which lists of similar items can be made of.
    """

    int8: bool = False
    storage: Storage | None = None
    users: bool = True
    portable: bool = True
    dim: int | None = None
    followers: bool = True

    @property
    def name(self) -> str:
        """The steps as a few words; "as it is" where there are none."""
        steps = [
            f"dim {self.dim}" if self.dim else "",
            "int8" if self.int8 else "",
            f"storage {self.storage}" if self.storage else "",
            "" if self.users else "no users",
            "" if self.portable else "no portable graph",
            "" if self.followers else "no followers",
        ]
        return ", ".join(filter(None, steps)) or "as it is"


def write_variant(
    bundle: Bundle, recipe: Recipe, directory: Path, batches: Sequence[Answer]
) -> dict[str, Any]:
    """Write the files of a smaller bundle, all but its manifest.

    Parameters
    ----------
    bundle : Bundle
        Open; it stays as it is.
    recipe : Recipe
    directory : Path
        An empty folder.
    batches : sequence of dict of ndarray
        Inputs of the user encoder, such as requests make: needed for ``int8``.

    Returns
    -------
    dict
        Fields of the manifest that are others now.

    Raises
    ------
    DataError
        The index's rows are rounded already, and are to be stored otherwise.
    """
    _copy_tables(bundle, recipe, directory)
    graphs = read_graphs(bundle.directory)
    if not recipe.portable:
        graphs.pop(PORTABLE, None)
    if recipe.dim is not None:
        cut_graphs(graphs, recipe.dim)
    if recipe.int8:
        _round_products(graphs, batches)
        shared = digests(graphs[PLUGIN])
        for name, proto in graphs.items():
            byte_tables(proto, digests(proto) if name == ITEM_ENCODER else shared)
    fields = _store_index(bundle, recipe, directory, graphs)
    for proto in graphs.values():
        shorten_names(proto)
    write_graphs(graphs, directory)
    return fields | ({} if recipe.users else {"n_users": 0})


def _copy_tables(bundle: Bundle, recipe: Recipe, directory: Path) -> None:
    """Copy what is neither graph nor index."""
    left = {DATA_FILE, MANIFEST}
    left |= set() if recipe.users else {USERS}
    left |= set() if recipe.followers else {FOLLOWERS}
    for name in bundle.manifest.files:
        is_left = name.endswith((".onnx", ".index")) or name in left
        if is_left or name == shards.MANIFEST:
            continue
        if name == USERS:
            write_short(bundle.file(name), directory / name)
        else:
            shutil.copyfile(bundle.file(name), directory / name)


def _round_products(graphs: dict[str, Any], batches: Sequence[Answer]) -> None:
    """Round the products of the user encoder wherever it is part of a graph.

    A recurrent encoder keeps its own: its step, a graph apart, has to give what the whole gives.
    """
    if SESSION in graphs:
        return
    before = graphs[ENCODER]
    after = byte_products(before, batches)
    for name in (PLUGIN, PORTABLE):
        if name in graphs:
            transplant(before, after, graphs[name])
    graphs[ENCODER] = after


def _store_index(
    bundle: Bundle, recipe: Recipe, directory: Path, graphs: dict[str, Any]
) -> dict[str, Any]:
    """Write items.index, and its shards if there are any."""
    before, wanted = bundle.manifest.storage, recipe.storage or bundle.manifest.storage
    index_file = bundle.file(INDEX_FILE)
    if wanted == before and recipe.dim is None:
        shutil.copyfile(index_file, directory / INDEX_FILE)
        for name in bundle.manifest.files:
            if name == shards.MANIFEST or (name.endswith(".index") and name != INDEX_FILE):
                shutil.copyfile(bundle.file(name), directory / name)
        return {}
    if before not in WHOLE:
        flag = "--dim" if wanted == before else "--storage"
        raise DataError(
            f"{flag}: got {recipe.dim if wanted == before else wanted!r} for {bundle.name}, whose "
            f"rows are {before}, expected float32 rows: what {before} rounded is gone. Fix: leave "
            f"{flag} out, or export the run again with export.storage='float32'"
        )
    index = Index.load(index_file)
    if recipe.dim is not None:
        index = cut_index(index, recipe.dim)
    index = index.with_storage(wanted)  # type: ignore[arg-type]
    index.save(directory / INDEX_FILE)
    n_shards = sum(name.endswith(".index") for name in bundle.manifest.files) - 1
    if n_shards:
        write_beside(directory, index, n_shards)
    read_index_again(graphs, directory, index)
    recall = {} if index.recall is None else {"recall": index.recall}
    return {"storage": index.storage, "dim": index.dim, **recall}
