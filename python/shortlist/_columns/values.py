"""What a number and an id may look like, for requests, the feedback log, training and cleaning.

Text is turned into numbers only where it comes from a text file. `docs/data.md` has the table.
"""

from __future__ import annotations

FLOAT_MAX = 3.4028234663852886e38  # largest float32
EXACT = 2**53  # from here on a float64 holds no longer every whole number

# Text of a cell that means "nothing here" in a column of numbers, times or truth values. In a
# column of text it is text: "NA" may be Namibia.
MISSING_TEXTS = frozenset(
    form
    for text in (
        "",
        "NA",
        "N/A",
        "NaN",
        "NaT",
        "Null",
        "None",
        "Nil",
        "<NA>",
        "#N/A",
        "#NA",
        "-nan",
    )
    for form in (text, text.lower(), text.upper())
) | {"\\N"}  # as MySQL, Hive and PostgreSQL dump it
# Decimal numbers as every language writes them: no thousands, no decimal comma, no blanks within.
NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"


def means_missing(text: str) -> bool:
    """Say whether a cell of text means that there is no number, time or truth value."""
    return text.strip() in MISSING_TEXTS
