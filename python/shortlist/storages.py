"""How an index may keep its vectors; docs/exact_top_n.md says what each costs."""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

Storage = Literal["float32", "float16", "bfloat16", "int8", "disk8", "disk4", "int4"]
STORAGES: tuple[str, ...] = get_args(Storage)
# The codes of the scan are the vectors: answers are approximate, and their recall is measured.
APPROXIMATE = ("int8", "int4")


@dataclass(frozen=True)
class IndexMemory:
    """Bytes of an index by part; see `Index.memory`.

    Attributes
    ----------
    codes, mapped_codes : int
        What a scan reads, in memory of this process or in a mapped file.
    rows, mapped_rows : int
        The vectors that scores are computed from, the same.
    ids : int
        Item ids and the table that finds them, about.
    """

    codes: int
    rows: int
    mapped_codes: int
    mapped_rows: int
    ids: int

    def to_dict(self) -> dict[str, int]:
        """Return the fields as a plain dict."""
        return asdict(self)
