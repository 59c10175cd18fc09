"""Filters of tables as text: `area == "M1" and rate_hz > 1`. A filter is never run as code.

    condition   a comparison, a match, or the bare name of a boolean column; `not`, `and`, `or`
                and parentheses as in Python
    comparison  == != < <= > >=, also chained (`1 < rate_hz <= 5`), between columns and literals,
                one of them a column; `in` and `not in` a list of literals; `is None`, `is not None`
    match       area.startswith("M"), .endswith("1"), .contains("otor"), .glob("000128/*"), where
                * stands for any text, also with a slash in it, and ? for one character
    column      its name; col("SNR max") where that is no plain name; area.contains("a") and
                col("SNR max") > 2
    literal     "text", 1, -2.5, True, None

A comparison with a missing value (null) is unknown, as in SQL, polars and Arrow, and unlike
`pandas.DataFrame.query`. A row with a null `area` matches none of `area == "M1"`, `area != "M1"`,
`area not in ["M1"]` and `not area == "M1"`. It matches `area is None`, also written
`area == None`, and `area in ["M1", None]`. No row matches `in []`, every row matches `not in []`.
`and` and `or` are those of Kleene's logic: unknown `or` true is true.
NaN is a number and compares as in IEEE 754: every comparison with it is false except `!=`. So
`rate_hz != rate_hz` finds NaN; `not in` finds it too, and `is None` does not.

Text orders by code point. Two Unicode forms of a text are equal: `ë` as one letter, as keyboards
type it, and as `e` with a combining diaeresis, as macOS names files. Numbers compare in the wider
of both types, so that a 32-bit column is never equal to 0.1.
"""

from __future__ import annotations

import ast
import difflib
import functools
import operator
import re
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from neurobrick.catalog.names import same_name
from neurobrick.errors import FilterError, listed
from neurobrick.storage.names import composed

# The time in which Arrow binds an expression grows with the square of its terms: 500 take about
# 0.1 s. All texts of an `in` are one term.
LONGEST = 10_000
MOST_TERMS = 500
DEEPEST = 100

_HELP = (
    'a filter reads like area == "M1" and rate_hz > 1, of columns, literals, == != < <= > >=, in, '
    'is None, and, or, not, and name.startswith("x"), .endswith, .contains and .glob; '
    'a column that is no plain name is written col("SNR max")'
)
_INSTEAD: dict[type[ast.AST], str] = {
    ast.BitAnd: "write and",
    ast.BitOr: "write or",
    ast.Invert: "write not",
}
_SPELLED = {"null": "None", "none": "None", "true": "True", "false": "False"}
_COMPARED: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MATCHES: dict[str, Callable[[Any, str], Any]] = {
    "startswith": pc.starts_with,
    "endswith": pc.ends_with,
    "contains": pc.match_substring,
    "glob": lambda column, text: pc.match_substring_regex(column, _regex(text)),
}
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)


def parse(text: str | pc.Expression, columns: Collection[str]) -> pc.Expression:
    """`text` as an Arrow expression over a table with these columns.

    An Expression is returned unchanged. Types of columns are not known here; see `apply`.

    Raises FilterError for text that is empty, too long or nested too deeply, that names a column
    not in `columns`, or that is not in the language above. The message gives the place in the text
    and what to write instead.
    """
    if isinstance(text, pc.Expression):
        return text
    if not isinstance(text, str):
        kind = type(text).__name__
        raise FilterError(f"a filter is text, and {_shown(text)} is of type {kind}: {_HELP}")
    text = text.strip().replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise FilterError(f"the filter is empty; leave it out to keep every row, or: {_HELP}")
    if len(text) > LONGEST:
        raise FilterError(
            f"the filter {_shown(text)} has {len(text)} characters, and {LONGEST} is the most; "
            "filter in steps, or pass a pyarrow expression"
        )
    tree = _tree(text)
    if _terms(tree) > MOST_TERMS:
        raise FilterError(
            f"the filter {_shown(text)} has {_terms(tree)} names and numbers, and {MOST_TERMS} is "
            "the most; filter in steps, or pass a pyarrow expression"
        )
    return _Reader(text, columns).condition(tree)


def apply(table: pa.Table, text: str | pc.Expression) -> pa.Table:
    """The rows of `table` that match, in their order, with the table's schema.

    Raises FilterError as `parse` does, and for a filter that does not fit the types of the columns,
    such as text compared with a number.
    """
    expression = parse(text, table.column_names)
    try:
        return table.filter(expression)
    except _UNREADABLE as error:
        named = _mentioned(expression, table.schema) or list(table.schema)
        types = ", ".join(f"{field.name} ({field.type})" for field in named)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FilterError(
            f"filter {_shown(text)} does not fit the columns {types}: {reason}; compare text with "
            "text in quotes and numbers with numbers, match only text, and write a bare name "
            "only of a boolean column"
        ) from error


@dataclass(frozen=True)
class _Reader:
    """Translates the syntax tree of one filter. Any node that it does not know is an error."""

    text: str
    columns: Collection[str]

    def condition(self, node: ast.expr, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise FilterError(_too_deep(self.text))
        match node:
            case ast.BoolOp(op=op, values=values):
                joined = operator.and_ if isinstance(op, ast.And) else operator.or_
                return _joined(joined, [self.condition(value, depth + 1) for value in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.condition(operand, depth + 1)
            case ast.Compare():
                return self.comparison(node)
            case ast.Name() | ast.Attribute() | ast.Call(func=ast.Name(id="col")):
                return pc.field(self.column(node))
            case ast.Call():
                return self.match(node)
            case ast.Constant():
                self.fail(node, "is a literal alone; compare a column with it")
        self.unknown(node)

    def comparison(self, node: ast.Compare) -> Any:
        sides = [node.left, *node.comparators]
        pairs = zip(sides, node.ops, sides[1:], strict=False)
        return _joined(operator.and_, [self.pair(left, op, right) for left, op, right in pairs])

    def pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.In | ast.NotIn):
            is_member = self.member(left, right)
            return is_member if isinstance(op, ast.In) else ~is_member
        sides = [self.operand(left), self.operand(right)]
        if not any(isinstance(side, pc.Expression) for side in sides):
            self.fail(left, "is compared with another literal; compare a column")
        if None in [side for side in sides if not isinstance(side, pc.Expression)]:
            column = sides[0] if isinstance(sides[0], pc.Expression) else sides[1]
            if isinstance(op, ast.Is | ast.Eq):
                return column.is_null()
            if isinstance(op, ast.IsNot | ast.NotEq):
                return column.is_valid()
            self.fail(left, "is ordered against None; write is None or is not None")
        if isinstance(op, ast.Is | ast.IsNot):
            self.fail(right, "is not None, and is only takes None; write == or !=")
        return _COMPARED[type(op)](*_comparable(*sides))

    def member(self, left: ast.expr, right: ast.expr) -> Any:
        if not isinstance(right, ast.List | ast.Tuple):
            if isinstance(left, ast.Constant):
                self.fail(
                    right,
                    "is no list of literals. A filter cannot look inside a column of lists; for "
                    'a part of a text write name.contains("x"), otherwise filter in Python',
                )
            self.fail(right, 'is no list of literals; write such as area in ["M1", "PMd"]')
        column = self.operand(left)
        if not isinstance(column, pc.Expression):
            self.fail(left, "is a literal, and in takes a column before it")
        values = [self.literal(value) for value in right.elts]
        texts = [value for value in values if isinstance(value, str)]
        # is_in would cast the values to the column's type, and True to 1; == does not.
        cases = [column == _scalar(v) for v in values if not (v is None or isinstance(v, str))]
        if texts:
            # is_in is false for null; text != itself is never true, and null for null.
            form = _composed(column, *texts)
            members = pa.array([composed(text) for text in texts])
            cases += [form.isin(members) | (column != column)]
        if None in values:
            cases += [column.is_null()]
        return _joined(operator.or_, cases) if cases else pc.scalar(False)

    def match(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Attribute):
            self.unknown(node)
        if node.func.attr not in _MATCHES:
            near = _nearest(node.func.attr, _MATCHES)
            self.fail(node.func, f"is no match{near}; there is: {listed(_MATCHES)}")
        column = pc.field(self.column(node.func.value))
        match node:
            case ast.Call(args=[ast.Constant(value=str())], keywords=[]):
                text = str(self.literal(node.args[0]))
            case _:
                self.fail(node, f'takes one text; write .{node.func.attr}("x")')
        if node.func.attr == "glob" and "[" in text:
            self.fail(node, "has a [, and glob knows * and ? alone; join matches with or")
        return _MATCHES[node.func.attr](_composed(column, text), composed(text))

    def operand(self, node: ast.expr) -> Any:
        """A field, or the literal's own value."""
        if isinstance(node, ast.Constant | ast.UnaryOp) and not _is_not(node):
            return self.literal(node)
        if isinstance(node, ast.List | ast.Tuple):
            self.fail(node, "is a list; write in or not in before it")
        if isinstance(node, ast.Compare | ast.BoolOp) or _is_not(node):
            self.fail(node, "is a condition, and a comparison takes columns and literals")
        return pc.field(self.column(node))

    def literal(self, node: ast.expr) -> str | int | float | None:
        match node:
            case ast.UnaryOp(
                op=ast.USub(), operand=ast.Constant(value=int() | float() as number)
            ) if not isinstance(number, bool):
                value: str | int | float | None = -number
            case ast.Constant(value=None | str() | int() | float() as value):
                pass
            case ast.Name():
                self.fail(node, f'is no literal; text is quoted: "{node.id}"')
            case _:
                self.unknown(node)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            self.fail(node, "is a whole number beyond 64 bits; write it with a decimal point")
        if isinstance(value, str) and not _encodes(value):
            self.fail(node, "is text that UTF-8 cannot hold (half of a surrogate pair)")
        return value

    def column(self, node: ast.expr) -> str:
        match node:
            case ast.Name():
                # Python reads names in Unicode's NFKC: the µ of rate_µV becomes another letter.
                written = ast.get_source_segment(self.text, node) or node.id
                name = written if written in self.columns else node.id
            case ast.Call(
                func=ast.Name(id="col"), args=[ast.Constant(value=str() as name)], keywords=[]
            ):
                pass
            case ast.Call(func=ast.Name(id="col")):
                self.fail(node, 'takes the name of one column in quotes: col("SNR max")')
            case ast.Attribute():
                self.fail(
                    node,
                    "is no column: after a name's dot only a match is allowed, such as "
                    '.contains("x"); a column with a dot in its name is written col("a.b")',
                )
            case _:
                self.unknown(node)
        known = name if name in self.columns else same_name(name, self.columns)
        if known is not None:
            return known
        near = _nearest(name, self.columns)
        if not near and isinstance(node, ast.Name):
            meant = _SPELLED.get(name.lower(), f'"{name}" for a text')
            near = f" (for a literal, write {meant})"
        self.fail(node, f"is no column{near}; there is: {listed(sorted(self.columns))}")

    def unknown(self, node: ast.expr) -> NoReturn:
        mark = node.op if isinstance(node, ast.BinOp | ast.UnaryOp) else node
        self.fail(
            node, f"is not part of the language of filters; {_INSTEAD.get(type(mark), _HELP)}"
        )

    def fail(self, node: ast.expr, problem: str) -> NoReturn:
        line = self.text.split("\n")[node.lineno - 1].encode()
        place = _place(node.lineno, len(line[: node.col_offset].decode()) + 1)
        part = ast.get_source_segment(self.text, node)
        raise FilterError(f"filter {_shown(self.text)}: {_shown(part)} {place} {problem}")


def _tree(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" is a backslash and a d
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        place = _place(error.lineno or 1, error.offset or 1)
        reason = str(error.msg)
        if "Maybe you meant '=='" in reason or text[(error.offset or 1) - 1 :].startswith("= "):
            reason = "for equality write =="
        raise FilterError(f"filter {_shown(text)} breaks {place} ({reason}): {_HELP}") from None
    except (RecursionError, MemoryError):  # how Python's parser says it
        raise FilterError(_too_deep(text)) from None
    except ValueError as error:  # null bytes before Python 3.12, halves of surrogate pairs
        reason = str(error).splitlines()[0]
        raise FilterError(f"filter {_shown(text)} is no text to read ({reason}): {_HELP}") from None


def _terms(tree: ast.expr) -> int:
    """The number of terms for Arrow: names and literals, without texts."""
    return sum(
        isinstance(node, ast.Name)
        or (isinstance(node, ast.Constant) and not isinstance(node.value, str))
        for node in ast.walk(tree)
    )


def _joined(join: Callable[[Any, Any], Any], expressions: list[Any]) -> Any:
    """One balanced tree of all, so that Arrow recurses only to the logarithm of their number."""
    if len(expressions) <= 2:
        return functools.reduce(join, expressions)
    half = len(expressions) // 2
    return join(_joined(join, expressions[:half]), _joined(join, expressions[half:]))


def _scalar(value: Any) -> Any:
    # Arrow narrows a literal 1.5 to 32 bits, which cannot hold whole numbers above 2**24. It keeps
    # the type of a cast.
    return pc.scalar(value).cast(pa.float64()) if isinstance(value, float) else value


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Two sides of a comparison, a column and a text in the same Unicode form."""
    if isinstance(left, str):
        right, left = _composed(right, left), composed(left)
    elif isinstance(right, str):
        left, right = _composed(left, right), composed(right)
    return _scalar(left), _scalar(right)


def _composed(column: Any, *texts: str) -> Any:
    """The column in Unicode's composed form, if any of `texts` could differ from it in form."""
    if all(text.isascii() for text in texts):
        return column
    return pc.utf8_normalize(column, form="NFC")


def _regex(glob: str) -> str:
    parts = {"*": ".*", "?": "."}
    return r"\A(?s:" + "".join(parts.get(c) or re.escape(c) for c in glob) + r")\z"


def _is_not(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _encodes(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _mentioned(expression: pc.Expression, schema: pa.Schema) -> list[pa.Field]:
    """Fields whose name is in the expression's text: at least those that it uses."""
    text = str(expression)
    return [f for f in schema if re.search(rf"(?<!\w){re.escape(f.name)}(?!\w)", text)]


def _nearest(name: str, names: Collection[str]) -> str:
    lowered = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f" (did you mean {lowered[near[0]]!r}?)" if near else ""


def _place(line: int, character: int) -> str:
    return f"at character {character}" + (f" of line {line}" if line > 1 else "")


def _too_deep(text: str) -> str:
    return (
        f"the filter {_shown(text)} is nested too deeply (beyond {DEEPEST}); "
        "filter in steps, or pass a pyarrow expression"
    )


def _shown(value: object) -> str:
    shown = repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return shown if len(shown) <= 80 else f"{shown[:76]} ..."
