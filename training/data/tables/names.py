"""Which column of a table may be meant by a name of ours, for the fix that a message says."""

from __future__ import annotations

import difflib
import re

# How other systems call our columns.
_OTHERS = {
    "user_id": ("user", "customer", "client", "visitor", "member", "account", "person", "session"),
    "item_id": (
        *("item", "product", "article", "sku", "asin", "isbn", "ean", "movie", "book", "song"),
        *("track", "content", "listing"),
    ),
    "timestamp": ("time", "ts", "date", "datetime", "created", "when", "at"),
}


def nearest_column(name: str, columns: list[str]) -> str | None:
    """Return the column that may be meant by ``name``: by its words, its letters, or as the one id.

    Examples
    --------
    >>> nearest_column("item_id", ["title", "book_id"])
    'book_id'
    """
    plain = {column: re.sub(r"\W+", "_", column.lower()) for column in columns}
    words = {column: text.split("_") for column, text in plain.items()}
    for other in _OTHERS.get(name, ()):
        for column, text in plain.items():
            if other in words[column] or text.removesuffix("id") == other:
                return column
    near = difflib.get_close_matches(name, list(plain.values()), n=1, cutoff=0.75)
    if near:
        return next(column for column, text in plain.items() if text == near[0])
    ids = [column for column, text in plain.items() if text.endswith("id")]
    return ids[0] if name.endswith("_id") and len(ids) == 1 else None
