"""Filters against a brute-force reading of them, row by row, with three truth values."""

from __future__ import annotations

import fnmatch
import math
import operator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neurobrick.catalog.filters import apply, parse
from neurobrick.errors import FilterError

NAN = math.nan
UNITS = pa.table(
    {
        "area": ["M1", "PMd", None, "M1", ""],
        "session": ["000128/a", "000128/b/c", "000129/a", None, "x000128/a"],
        "rate_hz": [0.5, 2.0, 7.0, None, NAN],
        "n_spikes": [3, 20_000_001, None, 0, -1],
        "good": [True, False, True, None, False],
        "SNR max": [1.0, 2.0, 3.0, 4.0, 5.0],
        "rate_µV": [1.0, 2.0, 3.0, 4.0, 5.0],
        "areas": [["M1"], [], None, ["PMd"], ["M1", "PMd"]],
    }
)


def rows(text: str | pc.Expression, table: pa.Table = UNITS) -> list[int]:
    numbered = table.append_column("row", pa.array(range(table.num_rows)))
    return apply(numbered, text)["row"].to_pylist()


def message(text: Any, table: pa.Table = UNITS) -> str:
    with pytest.raises(ValueError, match="filter") as caught:
        apply(table, text)
    found = str(caught.value)
    assert type(caught.value) is FilterError
    assert "\n" not in found
    assert len(found) < 900
    return found


# The brute force: a condition is a tuple; what it says of a row is True, False or None (unknown).

COLUMNS: dict[str, tuple[str, str]] = {  # kind, and how a filter writes it
    "area": ("text", "area"),
    "from": ("text", 'col("from")'),
    "rate_hz": ("number", "rate_hz"),
    "n_spikes": ("number", "n_spikes"),
    "SNR max": ("number", "col('SNR max')"),
    "good": ("bool", "good"),
    "used": ("bool", "used"),
}
OPS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
texts = st.text(st.sampled_from("aAb1.*?^$\\'\"({\n\0 éµ𝄞"), max_size=3)
whole = st.integers(-3, 3) | st.integers(-(2**40), 2**40)
floats = st.sampled_from([-1.5, 0.0, -0.0, 0.1, 1.0, 2.0, 1e9, 1.5, math.inf, -math.inf])
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "number": whole | floats,
    "bool": st.booleans(),
}
TYPES = {"rate_hz": floats | st.just(NAN), "n_spikes": whole, "SNR max": floats}
records = st.lists(
    st.fixed_dictionaries(
        {name: st.none() | TYPES.get(name, KINDS[kind]) for name, (kind, _) in COLUMNS.items()}
    ),
    max_size=6,
)
SCHEMA = pa.schema(
    {
        name: {"text": pa.string(), "bool": pa.bool_(), "number": pa.float64()}[kind]
        for name, (kind, _) in COLUMNS.items()
    }
)
SCHEMA = SCHEMA.set(SCHEMA.get_field_index("n_spikes"), pa.field("n_spikes", pa.int64()))


@st.composite
def conditions(draw: st.DrawFn) -> tuple[Any, ...]:
    """One leaf of the tree."""
    name = draw(st.sampled_from(list(COLUMNS)))
    kind = COLUMNS[name][0]
    literals = KINDS[kind].map(lambda value: ("literal", value))
    others = st.sampled_from([n for n, (k, _) in COLUMNS.items() if k == kind])
    sides = literals | others.map(lambda other: ("column", other))
    ops = st.sampled_from(["==", "!="] if kind == "bool" else list(OPS))
    shapes = ["compare", "flipped", "chained", "in", "null"]
    shapes += {"text": ["match"], "bool": ["bare"], "number": []}[kind]
    column = ("column", name)
    match draw(st.sampled_from(shapes)):
        case "compare":
            return ("compare", [column, draw(sides)], [draw(ops)])
        case "flipped":
            return ("compare", [draw(sides), column], [draw(ops)])
        case "chained":
            return ("compare", [draw(sides), column, draw(sides)], [draw(ops), draw(ops)])
        case "in":
            values = draw(st.lists(st.none() | KINDS[kind], max_size=4))
            return ("in", column, draw(st.booleans()), values, draw(st.sampled_from("[(")))
        case "null":
            return ("null", column, draw(st.sampled_from(["is", "is not", "==", "!="])))
        case "match":
            how = draw(st.sampled_from(["startswith", "endswith", "contains", "glob"]))
            return ("match", column, how, draw(texts))
    return ("bare", column)


trees = st.recursive(
    conditions(),
    lambda inner: (
        st.tuples(st.just("not"), inner)
        | st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=8,
)


def literal(value: Any) -> str:
    return "1e999" if value == math.inf else "-1e999" if value == -math.inf else repr(value)


def side(node: tuple[Any, ...]) -> str:
    return COLUMNS[node[1]][1] if node[0] == "column" else literal(node[1])


BINDING = {"or": 0, "and": 1, "not": 2}


def written(tree: tuple[Any, ...], around: int = 0) -> str:
    """The filter's text, with only those parentheses that it needs."""
    match tree:
        case ("compare", sides, ops):
            rest = zip(ops, sides[1:], strict=True)
            return side(sides[0]) + "".join(f" {op}{side(other)}" for op, other in rest)
        case ("in", column, inside, values, bracket):
            listed = "".join(f"{literal(value)}, " for value in values)
            closed = f"[{listed}]" if bracket == "[" else f"({listed})"
            return f"{side(column)} {'in' if inside else 'not in'} {closed}"
        case ("null", column, how):
            return f"{side(column)} {how} None"
        case ("match", column, how, text):
            return f"{side(column)}.{how}({text!r})"
        case ("bare", column):
            return side(column)
        case ("not", inner):
            text, binding = f"not {written(inner, BINDING['not'])}", BINDING["not"]
        case (word, parts):
            binding = BINDING[word]
            text = f" {word} ".join(written(part, binding + 1) for part in parts)
    return f"({text})" if binding < around else text


def says(tree: tuple[Any, ...], row: dict[str, Any]) -> bool | None:
    def value(node: tuple[Any, ...]) -> Any:
        return row[node[1]] if node[0] == "column" else node[1]

    def compared(op: str, left: Any, right: Any) -> bool | None:
        return None if left is None or right is None else OPS[op](left, right)

    match tree:
        case ("compare", sides, ops):
            found = [value(s) for s in sides]
            return every([compared(o, found[i], found[i + 1]) for i, o in enumerate(ops)])
        case ("in", column, inside, values, _):
            found = value(column)
            equal = [found is None if v is None else compared("==", found, v) for v in values]
            return some(equal) if inside else opposite(some(equal))
        case ("null", column, how):
            return (value(column) is None) == (how in ("is", "=="))
        case ("match", column, how, text):
            found = value(column)
            if found is None:
                return None
            if how == "glob":
                return fnmatch.fnmatchcase(found, text)
            return text in found if how == "contains" else getattr(found, how)(text)
        case ("bare", column):
            return value(column)
        case ("not", inner):
            return opposite(says(inner, row))
        case (word, parts):
            return (every if word == "and" else some)([says(part, row) for part in parts])


def opposite(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def every(truths: list[bool | None]) -> bool | None:
    return False if False in truths else None if None in truths else True


def some(truths: list[bool | None]) -> bool | None:
    return True if True in truths else None if None in truths else False


def constant(tree: tuple[Any, ...]) -> bool:
    """Whether a literal is compared with a literal somewhere, which is no filter."""
    match tree:
        case ("compare", sides, ops):
            kinds = [s[0] for s in sides]
            return any(kinds[i] == kinds[i + 1] == "literal" for i in range(len(ops)))
        case ("not", inner):
            return constant(inner)
        case ("and" | "or", parts):
            return any(constant(part) for part in parts)
    return False


@pytest.mark.slow
@given(trees.filter(lambda tree: not constant(tree)), records)
def test_a_filter_keeps_the_rows_that_its_reading_row_by_row_keeps(tree, found):
    table = pa.Table.from_pylist(found, schema=SCHEMA)
    expected = [i for i, row in enumerate(found) if says(tree, row) is True]
    assert rows(written(tree), table) == expected, written(tree)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('area == "M1" and rate_hz < 1', [0]),
        ('area == "PMd" or area == "M1" and n_spikes == 0', [1, 3]),  # and binds closer
        ('(area == "PMd" or area == "M1") and n_spikes == 0', [3]),
        ("1 < rate_hz <= 7.0", [1, 2]),
        ("good", [0, 2]),
        ("not good", [1, 4]),
        ("good and rate_hz > 1", [2]),
        ('col("SNR max") > 3', [3, 4]),
        ("rate_µV > 3", [3, 4]),
        ("n_spikes == -1", [4]),
        ("n_spikes > 1.5", [0, 1]),  # above 2**24, which 32-bit floats do not count to
        ("rate_hz < 1e999", [0, 1, 2]),
        ('session.glob("000128/*")', [0, 1]),
        ('session.glob("00012?/a")', [0, 2]),
        ('session.contains("8/")', [0, 1, 4]),
        ('session.startswith("0") and session.endswith("a")', [0, 2]),
        ('area in ("M1", "PMd")', [0, 1, 3]),
        ("n_spikes in [3, 0.0]", [0, 3]),
        ("n_spikes in []", []),
        ("areas is None", [2]),
        ("(good\n or area is None)", [0, 2]),
        ("  good\r\n", [0, 2]),
        ("good  # of the second sort", [0, 2]),
    ],
)
def test_the_language(text: str, expected: list[int]):
    assert rows(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('area == "M1"', [0, 3]),
        ('area != "M1"', [1, 4]),
        ('not area == "M1"', [1, 4]),
        ('area not in ["M1"]', [1, 4]),
        ('not area.contains("M")', [4]),
        ("area is None", [2]),
        ("area == None", [2]),
        ("None == area", [2]),
        ("area is not None", [0, 1, 3, 4]),
        ("area != None", [0, 1, 3, 4]),
        ('area in ["PMd", None]', [1, 2]),
        ('area not in ["PMd", None]', [0, 3, 4]),
        ('good or area == "M1"', [0, 2, 3]),  # null or True is True
    ],
)
def test_a_missing_value_matches_only_where_it_is_asked_for(text: str, expected: list[int]):
    assert rows(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate_hz > 1", [1, 2]),
        ("rate_hz <= 1", [0]),
        ("rate_hz == rate_hz", [0, 1, 2]),
        ("rate_hz != rate_hz", [4]),
        ("rate_hz != 2", [0, 2, 4]),
        ("rate_hz not in [2]", [0, 2, 4]),
        ("not rate_hz > 1", [0, 4]),
        ("rate_hz is None", [3]),
    ],
)
def test_nan_compares_as_ieee_754_says(text: str, expected: list[int]):
    assert rows(text) == expected


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("a.b", ["a.b"]),
        ("a?b", ["a.b", "aab", "a+b", "a\nb"]),
        ("a+*", ["a+b"]),
        ("*", ["a.b", "aab", "a+b", "a\nb", "(a", "é", ""]),
        ("?", ["é"]),
        ("(*", ["(a"]),
        ("a", []),
    ],
)
def test_a_glob_is_of_the_whole_text_and_knows_two_signs(glob: str, expected: list[str]):
    table = pa.table({"name": ["a.b", "aab", "a+b", "a\nb", "(a", "é", "", None]})
    assert apply(table, f'name.glob("{glob}")')["name"].to_pylist() == expected


def test_a_stray_backslash_is_itself_and_warns_of_nothing():
    table = pa.table({"path": ["C:\\data", "data"]})
    assert rows(r'path.contains("\d")', table) == [0]


def test_rows_keep_their_order_and_the_table_its_schema():
    pieces = [pa.table({"x": range(i, i + 1000)}) for i in range(0, 200_000, 1000)]
    table = pa.concat_tables(pieces).replace_schema_metadata({"made": "by hand"})
    kept = apply(table, "x >= 5")
    assert kept["x"].to_pylist() == list(range(5, 200_000))
    assert kept.schema.equals(table.schema, check_metadata=True)


def test_an_expression_passes_through():
    expression = pc.field("n_spikes") > 1
    assert parse(expression, ["other"]) is expression
    assert rows(expression) == [0, 1]


def test_hundreds_of_sessions_in_one_list():
    names = [f"{i:06d}/x" for i in range(800)]
    assert rows(f"session in {[*names, '000129/a']}") == [2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('are == "M1"', "'are' at character 1 is no column (did you mean 'area'?); there is: SNR"),
        ('good and AREA == "M1"', "'AREA' at character 10 is no column (did you mean 'area'?)"),
        ("(good\nand ggod)", "'ggod' at character 5 of line 2 is no column"),
        ("rate_µV > 1 and µ > 1", "at character 17"),
        ('col("SNR_max") > 1', "did you mean 'SNR max'?"),
        ("area == M1", 'write "M1" for a text'),
        ("area in [M1]", 'text is quoted: "M1"'),
        ("area == null", "write None"),
        ('area = "M1"', "for equality write =="),
        ("(good) & (rate_hz > 1)", "write and"),
        ("good | good", "write or"),
        ("~good", "write not"),
        ('area.contain("M")', "(did you mean 'contains'?)"),
        ("area.contains(1)", '.contains("x")'),
        ('area.glob("[MP]*")', "glob knows * and ?"),
        ("SNR max > 1", 'col("SNR max")'),
        ('"M1" in areas', "cannot look inside a column of lists"),
        ('area in "M1"', "no list of literals"),
        ("rate_hz > None", "is None"),
        ("rate_hz is 1", "write =="),
        ("1 < 2", "compare a column"),
        ("1 < 2 < rate_hz", "compare a column"),
        ("1 in [1]", "takes a column before it"),
        ("True", "literal alone"),
        ("(rate_hz > 1) == True", "is a condition"),
        ("(not good) == True", "is a condition"),
        ("rate_hz == [1]", "write in or not in"),
        ("n_spikes > 9223372036854775808", "beyond 64 bits"),
        ("", "empty"),
        (" \n\t", "empty"),
        (5, "is of type int"),
        (None, "is of type NoneType"),
    ],
)
def test_a_message_says_where_and_what_to_write(text: Any, said: str):
    assert said in message(text)


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("area > 1", "area (string)"),
        ('rate_hz == "1"', "rate_hz (double)"),
        ("area in [1]", "area (string)"),
        ('n_spikes in ["a", 3]', "n_spikes (int64)"),
        ("n_spikes == True", "n_spikes (int64)"),
        ("good in [1]", "good (bool)"),
        ("good > 0.5", "good (bool)"),
        ("n_spikes", "n_spikes (int64)"),
        ("good and n_spikes", "n_spikes (int64), good (bool)"),
        ("area < rate_hz", "area (string), rate_hz (double)"),
        ('n_spikes.contains("1")', "n_spikes (int64)"),
        ('areas == "M1"', "areas (list<"),
        (pc.field("area") > 1, "area (string)"),
        (pc.field("ara") > 1, "area (string), session (string), rate_hz (double)"),
    ],
)
def test_a_clash_of_types_names_the_columns(text: Any, types: str):
    assert f"does not fit the columns {types}" in message(text)


def test_a_clash_of_types_shows_in_a_table_without_rows():
    assert "area (string)" in message("area > 1", UNITS.slice(0, 0))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "area.__class__.__mro__[0]",
        "area.startswith.__globals__",
        "area.startswith('a').endswith('b')",
        "area.startswith(*['M'])",
        "area.startswith(prefix='M')",
        "area.startswith('M', 1)",
        "area.startswith(area)",
        "area.startswith(b'M')",
        "''.join(area)",
        "col(area) == 1",
        "col('area', 'good')",
        "col(*['area'])",
        "col == 1",
        "(lambda: good)()",
        "lambda: good",
        "(good := True)",
        "f'{area}' == 'M1'",
        "area == f'{good}'",
        "[x for x in area]",
        "good if good else good",
        "area[0] == 'M'",
        "n_spikes + 1 > 2",
        "n_spikes > 2 ** 99",
        "-n_spikes > 1",
        "+1 < n_spikes",
        "--1 < n_spikes",
        "-True < n_spikes",
        "n_spikes == 1j",
        "area == b'M1'",
        "area == ...",
        "area in {'M1'}",
        "area in ['M1', *area]",
        "area in [['M1']]",
        "await good",
        "(yield good)",
        "good; good",
        "good\ngood",
        "import os",
        "area == '\\ud800'",
        "area == '\ud800'",
        "good\0",
        "\0",
        "(" * 10_000 + "good" + ")" * 10_000,
        "(" * 4_000 + "good" + ")" * 4_000,
        "not " * 2_400 + "good",
        "not (" * 101 + "good" + ")" * 101,
        "-" * 9_000 + "1 < n_spikes",
        "good" + ".a" * 4_000,
        "good" + "()" * 4_000,
        "[" * 9_000,
        "n_spikes > " + "1" * 5_000,
        "good and " * 600 + "good",
        "n_spikes in [" + "1," * 600 + "]",
        "a" * 1_000_000,
    ],
)
def test_hostile_text_is_an_error_and_nothing_else(text: str):
    message(text)


def test_the_widest_and_the_deepest_that_are_allowed():
    assert rows(" and ".join(["good"] * 500)) == [0, 2]
    assert rows("not " * 100 + "good") == [0, 2]
    assert rows("(" * 150 + "good" + ")" * 150) == [0, 2]


TOKENS = """
    area good rate_hz col ( ) [ ] , . == != < in not is None and or "M1" 1 -1.5 True .contains
    lambda : := = & ~ + * f'' \\ #
"""
tokens = st.sampled_from([*TOKENS.split(), "\n"])


@given(st.lists(tokens, max_size=12).map(" ".join) | st.text(max_size=30))
@example("col")
@example("\f good")
@example("good \\\n")
def test_any_text_is_read_or_refused_with_a_value_error(text: str):
    try:
        apply(UNITS, text)
        raised = None
    except ValueError as error:
        raised = type(error)
    assert raised in (None, FilterError)  # and not one of Arrow's or Unicode's own
