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

import contextlib
import re
from typing import Any, NamedTuple, NoReturn

import numpy as np

from shortlist._columns.reading import Array, to_array
from shortlist._columns.times import parse_time
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
_LONGEST_NUMBER = 40  # digits that are read as a whole number; no type of a column has more


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
            values = [self._value()]
            while self._take(","):
                values.append(self._value())
            self._need(")")
            found = self._among(column, values)
            return self._pc.invert(found) if is_not else found
        sign = self._step("=, !=, <, <=, >, >=, 'in', 'not in' or 'is'", "sign")
        if sign.value not in _COMPARISONS:
            self._fail("=, !=, <, <=, > or >=", sign)
        return self._compared(column, _COMPARISONS[sign.value], self._value())

    def _value(self) -> _Token:
        return self._step("a number, a text in single quotes, true or false", "value")

    def _compared(self, column: _Token, name: str, token: _Token) -> Any:
        """Compare a column with a value."""
        pa, values = self._pa, self._table.column(column.value)
        try:
            if _is_list(pa, values.type):
                if name not in ("equal", "not_equal"):
                    raise TypeError(name)
                return self._of_lists(column, [token], is_equal=name == "equal")
            values, value = self._alike(values, token)
            return getattr(self._pc, name)(values, value).cast(pa.bool_())
        except (pa.ArrowException, TypeError, OverflowError):
            self._fail(f"a value that {column.value!r} ({values.type}) compares with", token)

    def _among(self, column: _Token, tokens: list[_Token]) -> Any:
        """Say of each row whether it is equal to one of the values; null where it is null."""
        values = self._table.column(column.value)
        if _is_list(self._pa, values.type):
            return self._of_lists(column, tokens, is_equal=True)
        return self._pa.array(self._is_in(column, values, tokens), mask=_flags(values.is_null()))

    def _is_in(self, column: _Token, values: Any, tokens: list[_Token]) -> Array:
        """Say of each value whether it is one of some, in one pass."""
        pa, same, wanted = self._pa, values, []
        for token in tokens:
            try:
                same, value = self._alike(values, token)
                self._pc.equal(same.slice(0, 0), value)  # of a kind that compares
            except (pa.ArrowException, TypeError, OverflowError):
                kind = self._table.schema.field(column.value).type
                self._fail(f"a value that {column.value!r} ({kind}) compares with", token)
            with contextlib.suppress(pa.ArrowException):  # 1.5 among whole numbers: never
                wanted.append(pa.scalar(value).cast(same.type))
        chosen = pa.array([value.as_py() for value in wanted], same.type)
        return _flags(self._pc.is_in(same, value_set=chosen))

    def _alike(self, values: Any, token: _Token) -> tuple[Any, Any]:
        """Return values and a value that Arrow compares: times as UTC moments."""
        pa, value = self._pa, token.value
        kind = values.type
        if not (isinstance(value, str) and (pa.types.is_timestamp(kind) or pa.types.is_date(kind))):
            return values, value
        if (moment := parse_time(value.strip())) is None:
            self._fail("a time such as '2026-05-01' or '2026-05-01T12:00:00Z'", token)
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        moments = values if pa.types.is_timestamp(kind) else values.cast(pa.timestamp("s"))
        return moments, pa.scalar(moment, pa.timestamp("us", zone))

    def _of_lists(self, column: _Token, tokens: list[_Token], *, is_equal: bool) -> Any:
        """Say of each list whether an entry is equal to one of the values, or whether none is."""
        lists = self._table.column(column.value).combine_chunks()
        lengths = to_array(self._pc.fill_null(self._pc.list_value_length(lists), 0))
        owners = np.repeat(np.arange(len(lists)), lengths)
        hits = self._is_in(column, self._pc.list_flatten(lists), tokens)
        found = np.zeros(len(lists), dtype=np.bool_)
        found[owners[hits]] = True
        return self._pa.array(found == is_equal, mask=_flags(lists.is_null()))

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


def _is_list(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


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
            is_whole = text.lstrip("+-").isdigit() and len(text) < _LONGEST_NUMBER
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
