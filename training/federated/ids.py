"""Schemes of item ids, so that parties mean the same item by the same id."""

from __future__ import annotations

import polars as pl

from shortlist.errors import DataError

SCHEMES = {
    "own": "ids as they are written",
    "gtin": "GTIN, EAN and UPC: 8, 12, 13 or 14 digits with a check digit",
    "isbn": "ISBN-10 and ISBN-13, with or without dashes",
}


def unified(ids: pl.Series, scheme: str, where: str) -> pl.Series:
    """Write ids in the one form of a scheme.

    Parameters
    ----------
    ids : polars.Series of Int64 or String
    scheme : str
        One of `SCHEMES`. A GTIN becomes 14 digits, an ISBN its 13.
    where : str
        Whose ids these are.

    Raises
    ------
    DataError
        An id is none of the scheme.
    """
    if scheme == "own":
        return ids
    distinct = ids.cast(pl.String).unique(maintain_order=True).to_list()
    write = _gtin if scheme == "gtin" else _isbn
    written = [write(text) for text in distinct]
    bad = [text for text, one in zip(distinct, written, strict=True) if one is None]
    if bad:
        raise DataError(
            f"{where}: got item_id {bad[0]!r}, which is no {scheme.upper()} ({len(bad):,} of "
            f"{len(distinct):,} ids are none), expected {SCHEMES[scheme]} as the plan says. Fix: "
            "name the column that has them (--column item_id=NAME)"
        )
    return ids.cast(pl.String).replace_strict(distinct, written, return_dtype=pl.String)


def _gtin(text: str) -> str | None:
    digits = text.strip().replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 14:
        return None
    digits = digits.zfill(14)  # leading zeros are lost where ids were numbers
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits))
    return digits if total % 10 == 0 and int(digits) > 0 else None


def _isbn(text: str) -> str | None:
    digits = text.strip().replace(" ", "").replace("-", "").upper()
    if len(digits) == 13 or not digits[:-1].isdigit() or not digits.isascii():
        long = _gtin(digits)
        return long[1:] if long is not None and long[1:4] in ("978", "979") else None
    digits = digits.zfill(10)
    if len(digits) != 10 or not (digits[-1].isdigit() or digits[-1] == "X"):
        return None
    values = [10 if digit == "X" else int(digit) for digit in digits]
    if sum(value * (10 - place) for place, value in enumerate(values)) % 11:
        return None
    body = "978" + digits[:9]
    check = -sum(int(d) * (3 if place % 2 else 1) for place, d in enumerate(body)) % 10
    return f"{body}{check}"
