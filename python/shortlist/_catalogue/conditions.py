"""`where=` as text: ``year >= 1990 and genres = 'Drama'``.

    condition   one of:  column = value     also ==, !=, <>, <, <=, >, >=
                         column in (value, …)     column not in (value, …)
                         column is null     column is not null
                and these put together with not, and, or (in this order) and parentheses
    column      a name, or a name in double quotes
    value       a number, a text in single quotes (two of them for one inside), true, false

Words may have capitals. A column of lists is equal to a value, or in a list of values, if one of
its entries is. What is compared with null is null; the whole counts as false where it is null.
"""

import re
from typing import Any, NamedTuple, NoReturn

import numpy as np

from shortlist._columns.reading import Array, to_array
from shortlist.errors import DataError

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
  | '(?P<text>(?:[^']|'')*)'
  | "(?P<quoted>(?:[^"]|"")+)"
  | (?P<word>[^\W\d]\w*)
  | (?P<sign><=|>=|!=|<>|==|[=<>(),])
  | (?P<end>$)
    )""",
    re.VERBOSE,
)
_COMPARISONS = {
    "=": "equal",
    "==": "equal",
    "!=": "not_equal",
    "<>": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}
_WORDS = ("and", "or", "not", "in", "is", "null")
_DEEPEST = 50  # of parentheses and "not"


class _Token(NamedTuple):
    """One piece of the text: its kind, its value, and where it begins."""

    kind: str
    value: Any
    start: int


def evaluate_text(where: str, table: Any) -> Array:
    """Evaluate a condition on a pyarrow Table.

    Returns
    -------
    ndarray of shape (n_rows,), bool

    Raises
    ------
    DataError
        The text is no condition, names a column that the table lacks, or compares what does not
        compare; the message says where.
    """
    return _flags(_Reader(where, table).read())


class _Reader:
    """Reads a condition from left to right, and evaluates it on the way."""

    def __init__(self, where: str, table: Any) -> None:
        import pyarrow
        import pyarrow.compute

        self._pa: Any = pyarrow
        self._pc: Any = pyarrow.compute
        self._where = where
        self._table = table
        self._tokens = _tokens(where)
        self._at = 0
        self._depth = 0

    def read(self) -> Any:
        """Evaluate the whole text."""
        result = self._any()
        if self._next.kind != "end":
            self._fail("'and', 'or' or the end")
        return result

    def _any(self) -> Any:
        result = self._all()
        while self._take("or"):
            result = self._pc.or_kleene(result, self._all())
        return result

    def _all(self) -> Any:
        result = self._one()
        while self._take("and"):
            result = self._pc.and_kleene(result, self._one())
        return result

    def _one(self) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"no more than {_DEEPEST} conditions inside one another")
        if self._take("not"):
            result = self._pc.invert(self._one())
        elif self._take("("):
            result = self._any()
            self._need(")")
        else:
            result = self._test()
        self._depth -= 1
        return result

    def _test(self) -> Any:
        column = self._step("a column", "word", "quoted")
        if column.value not in self._table.column_names:
            self._fail("a column of the item table", column)
        if self._take("is"):
            is_not = self._take("not")
            self._need("null")
            values = self._table.column(column.value)
            return self._pc.is_valid(values) if is_not else self._pc.is_null(values)
        is_not = self._take("not")
        if is_not or self._next.value == "in":
            self._need("in")
            self._need("(")
            found = self._compared(column, "equal")
            while self._take(","):
                found = self._pc.or_kleene(found, self._compared(column, "equal"))
            self._need(")")
            return self._pc.invert(found) if is_not else found
        sign = self._step("=, !=, <, <=, >, >=, 'in', 'not in' or 'is'", "sign")
        if sign.value not in _COMPARISONS:
            self._fail("=, !=, <, <=, > or >=", sign)
        return self._compared(column, _COMPARISONS[sign.value])

    def _compared(self, column: _Token, name: str) -> Any:
        """Compare a column with the value that comes next."""
        pa, values = self._pa, self._table.column(column.value)
        token = self._step("a number, a text in single quotes, true or false", "value")
        value = token.value
        try:
            if pa.types.is_temporal(values.type) and isinstance(value, str):
                value = pa.scalar(value).cast(values.type)
            if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
                return self._of_lists(values.combine_chunks(), name, value)
            return getattr(self._pc, name)(values, value).cast(pa.bool_())
        except (pa.ArrowException, TypeError, OverflowError):
            self._fail(f"a value that {column.value!r} ({values.type}) compares with", token)

    def _of_lists(self, lists: Any, name: str, value: Any) -> Any:
        """Say of each list whether an entry is equal, or whether none is."""
        if name not in ("equal", "not_equal"):
            raise TypeError(name)  # `_compared` says where
        hits = _flags(self._pc.equal(self._pc.list_flatten(lists), value))
        found = np.zeros(len(lists), dtype=np.bool_)
        found[to_array(self._pc.list_parent_indices(lists))[hits]] = True
        return self._pa.array(found == (name == "equal"), mask=_flags(lists.is_null()))

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, word: str) -> bool:
        """Go over a word or sign, if it comes next."""
        is_next = self._next.kind in ("key", "sign") and self._next.value == word
        self._at += is_next
        return is_next

    def _need(self, word: str) -> None:
        if not self._take(word):
            self._fail(repr(word))

    def _step(self, expected: str, *kinds: str) -> _Token:
        token = self._next
        if token.kind not in kinds:
            self._fail(expected)
        self._at += 1
        return token

    def _fail(self, expected: str, token: _Token | None = None) -> NoReturn:
        token = token or self._next
        found = "the end" if token.kind == "end" else repr(self._where[token.start :][:20])
        columns = ", ".join(f"{field.name} ({field.type})" for field in self._table.schema)
        raise DataError(
            f"where: {self._where!r:.200}: expected {expected} at character {token.start + 1}, "
            f"found {found}; the item table has {columns}"
        )


def _flags(values: Any) -> Array:
    """Return a pyarrow column of bool as NumPy: False where it is null."""
    import pyarrow.compute

    flags = np.zeros(len(values), dtype=np.bool_)
    flags[to_array(pyarrow.compute.indices_nonzero(values))] = True
    return flags


def _tokens(where: str) -> list[_Token]:
    """Cut a text into its pieces; the last one is its end."""
    tokens: list[_Token] = []
    at = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(where, at)
        if match is None or match.lastgroup is None:
            start = at + len(where[at:]) - len(where[at:].lstrip())
            raise DataError(
                f"where: {where!r:.200}: cannot read {where[start:][:20]!r} at character "
                f"{start + 1}; expected a condition such as \"year >= 1990 and genre = 'Drama'\""
            )
        tokens.append(_token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return tokens


def _token(kind: str, text: str, start: int) -> _Token:
    match kind:
        case "number":
            is_whole = text.lstrip("+-").isdigit()
            return _Token("value", int(text) if is_whole else float(text), start)
        case "text":
            return _Token("value", text.replace("''", "'"), start - 1)
        case "quoted":
            return _Token("quoted", text.replace('""', '"'), start - 1)
        case "word" if text.lower() in ("true", "false"):
            return _Token("value", text.lower() == "true", start)
        case "word" if text.lower() in _WORDS:
            return _Token("key", text.lower(), start)
    return _Token(kind, text, start)
