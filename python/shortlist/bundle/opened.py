"""The bundle: one folder (or zip) of graphs, index and tables; a manifest vouches for them."""

import os
import tempfile
import weakref
from pathlib import Path
from typing import Any, Self

from shortlist import _temporary
from shortlist.bundle.fields import problem
from shortlist.bundle.files import check_folder, copy_folder, hold_folder, read_manifest
from shortlist.bundle.manifest import MANIFEST, Manifest
from shortlist.bundle.storages import index_parts
from shortlist.bundle.text import describe, outline, summarise
from shortlist.bundle.zipped import unpack

INDEX = "items.index"


class Bundle:
    """An opened bundle; `Bundle.open` is the way to get one.

    Attributes
    ----------
    path : Path
        Where it was opened from, a folder or a zip.
    name : str
        What messages call it: its own name, wherever a link or "." leads to it.
    directory : Path
        Where its files lie: a private temporary folder of a zip or a copy; of a folder a name that
        stays with it when it is renamed, so that another bundle may be put in its place while this
        one is in use.
    manifest : Manifest
        The checked content of manifest.json, read-only.
    """

    def __init__(self, path: Path, name: str, directory: Path, manifest: Manifest) -> None:
        self.path = path
        self.name = name
        self.directory = directory
        self.manifest = manifest
        self._let_go: weakref.finalize[[], Bundle] | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify: bool = True) -> Self:
        """Open a bundle folder or zip and verify it.

        Parameters
        ----------
        path : str or path
            `NAME.shortlist/`, or one zip of it. A symbolic link to a bundle is followed; links
            inside a bundle are refused.
        verify : bool
            Compare every file's size and sha256 with the manifest (reads every byte once). With
            False only the list of files and their sizes are compared.

        Returns
        -------
        Bundle
            Close it, or use it in a `with`, if it may be a zip: the unpacked files are temporary.

        Raises
        ------
        TypeError
            `path` is no path.
        BundleError
            A file is missing, extra, truncated, changed, a link, or the manifest is wrong; the
            message names the file, what was expected and what was found.
        """
        bundle = cls.hold(path)
        try:
            check_folder(bundle.directory, bundle.manifest.files, digests=verify, name=bundle.name)
        except BaseException:
            bundle.close()
            raise
        return bundle

    @classmethod
    def hold(cls, path: str | os.PathLike[str], *, copied: bool = False) -> Self:
        """Open a bundle of which only the manifest is checked: the compiled engine checks the rest.

        Parameters
        ----------
        path : str or path
        copied : bool
            Work on a private temporary copy of a folder, as on that of a zip.

        Raises
        ------
        TypeError, BundleError
            As `open`.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(
                f"path: got {type(path).__name__}, expected a str or path of a bundle such as "
                "'movies.shortlist'"
            )
        location = Path(path)
        name = location.resolve().name
        if location.is_dir():
            if not os.path.lexists(location / MANIFEST):
                actual = "no such file: the folder is no bundle"
                raise problem(str(location / MANIFEST), "a file", actual)
            is_temporary = copied
        elif location.is_file():
            is_temporary = True
        else:
            actual = "a special file" if location.exists() else "nothing there"
            raise problem(str(location), "a bundle folder or zip", actual)
        if is_temporary:
            held = _temporary.new_folder(Path(tempfile.gettempdir()) / name)
            directory, let_go = held.path, held.remove
        else:
            directory, let_go = hold_folder(location)
        try:
            if location.is_file():
                unpack(location, directory)
            elif copied:
                copy_folder(location, directory, name)
            bundle = cls(location, name, directory, read_manifest(directory, name))
        except BaseException:
            let_go()
            raise
        bundle._let_go = weakref.finalize(bundle, let_go)
        return bundle

    @property
    def version(self) -> str:
        """What impressions of the feedback log call this bundle: its version.

        Of a bundle written before there were versions, its name and the time it was made.
        """
        if self.manifest.lineage is not None:
            return self.manifest.version
        return f"{self.path.stem} {self.manifest.created}"

    def verify(self) -> None:
        """Compare every file's size and sha256 with the manifest.

        Raises
        ------
        BundleError
            At the first file that differs.
        """
        check_folder(self.directory, self.manifest.files, digests=True, name=self.name)

    def file(self, name: str) -> Path:
        """Return the path of one file of the bundle; it is good while the bundle is open.

        Raises
        ------
        BundleError
            The manifest does not list `name`.
        """
        if name not in self.manifest.files:
            there = ", ".join(sorted(self.manifest.files))
            raise problem(f"{self.name}/{name}", f"one of {there}", "no such entry")
        return self.directory / name

    def has(self, name: str) -> bool:
        """Say whether the bundle holds the file `name`."""
        return name in self.manifest.files

    def describe(self) -> dict[str, Any]:
        """Return what is inside as plain values, ready for `json.dumps`."""
        return describe(self.path, self.manifest, index_parts(self.file(INDEX)))

    def summary(self) -> str:
        """Return what is inside in words and numbers, some lines of text."""
        return summarise(self.path, self.manifest, index_parts(self.file(INDEX)))

    def outline(self) -> str:
        """Return what is inside on one screen: of each section what comes first."""
        return outline(self.path, self.manifest, index_parts(self.file(INDEX)))

    def close(self) -> None:
        """Delete temporary files, of a zip or a copy; a folder is left as it is."""
        if self._let_go is not None:
            self._let_go()

    def __enter__(self) -> Self:
        """Return the bundle itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the bundle."""
        self.close()

    def __repr__(self) -> str:
        """Name the bundle and its size."""
        m = self.manifest
        return f"Bundle({str(self.path)!r}: {m.n_items:,} items, dim {m.dim}, {m.metric})"
