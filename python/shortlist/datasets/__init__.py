"""A bundle that comes with the package, to try things on."""

from pathlib import Path

__all__ = ["example_bundle"]


def example_bundle() -> Path:
    """Return the path of a tiny bundle: a made-up book shop of 48 books and 60 readers.

    Books are volumes of eight series (``"winter-garden-1"`` to ``"winter-garden-6"``) with a title,
    genres, a year and a price. Readers (``"ada"``) go through series in order. It is a whole bundle
    in 200 KB, for first steps, tests and documentation; its lists say nothing about other data.

    Returns
    -------
    Path
        A folder of the installed package. Do not write there: copy it to change it.

    Examples
    --------
    >>> import shortlist
    >>> with shortlist.load(shortlist.datasets.example_bundle()) as engine:
    ...     recs = engine.recommend({"history": [["winter-garden-1", "winter-garden-2"]]}, top_n=1)
    >>> recs.item_ids.tolist()
    [['winter-garden-3']]
    """
    return Path(__file__).parent / "books.shortlist"
