"""Rules select the rows that they say; a rule that selects nothing says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from neurobrick import HarmonizeError, IntervalRule

TABLE = pa.table(
    {
        "start": [0.0, 1.0, 2.0, 3.0],
        "stop": [0.5, 1.5, None, 2.5],
        "answer": ["yes", "no", "yes", "no"],
        "result": ["R", "F", None, "R"],
        "block": [1, 2, 3, 3],
        "correct": [True, False, True, True],
        "angle": [0.5, float("nan"), 1.5, 2.5],
        "unused": pa.array([None] * 4, pa.string()),
        "missing": pa.nulls(4),
        "unknown": [float("nan")] * 4,
        "tags": [["a"], [], ["b"], []],
        "cue": [0.1, 1.1, 2.1, 3.1],
        "row": pa.array([0, 1, 2, 3], pa.uint8()),
        "late": pa.array([10, 11, None, 13]),
    }
)
TABLES = {"trials": TABLE, "epochs": TABLE.slice(0, 0)}


def rule(text: str) -> IntervalRule:
    """A rule as a recipe has it."""
    return IntervalRule.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("{table: trials}", [0.0, 1.0]),  # a row needs both edges, in order
        ("{table: trials, stop: late}", [0.0, 1.0, 3.0]),
        ("{table: trials, where: {answer: 'yes'}, stop: late}", [0.0]),
        ("{table: trials, where: {answer: 'no'}, stop: late}", [1.0, 3.0]),
        ("{table: trials, where: {answer: ['no', 'yes']}, stop: late}", [0.0, 1.0, 3.0]),
        ("{table: trials, where: {correct: yes}, stop: late}", [0.0, 3.0]),
        ("{table: trials, where: {correct: 1}, stop: late}", [0.0, 3.0]),
        ("{table: trials, where: {block: 3, answer: 'no'}, stop: late}", [3.0]),
        ("{table: trials, where: {angle: 2.5}, stop: late}", [3.0]),
        ("{table: trials, where: {result: [R, 5]}, stop: late}", [0.0, 3.0]),
        ("{table: trials, start: {column: cue, offset: -0.1}, stop: late}", [0.0, 1.0, 3.0]),
        ("{table: trials, start: row, stop: late}", [0.0, 1.0, 3.0]),
        ("{table: epochs}", []),
    ],
)
def test_rows_that_match(text: str, starts: list[float]) -> None:
    found, _ = rule(text).rows(TABLES)
    np.testing.assert_allclose(found, starts)
    assert bool(rule(text).unmatched(TABLES)) == (not starts)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{answer: maybe}", "no row of trials has answer 'maybe'; there is: no, yes"),
        ("{answer: [a, b]}", "no row of trials has answer 'a' or 'b'; there is: no, yes"),
        ("{block: [7]}", "no row of trials has block 7; there is: 1, 2, 3"),
        ("{angle: 7.5}", "no row of trials has angle 7.5; there is: 0.5, 1.5, 2.5"),
        ("{unused: x}", "no row of trials has unused 'x'; there is: none"),
        ("{missing: x}", "no row of trials has missing 'x'; there is: none"),
        ("{missing: true}", "no row of trials has missing True; there is: none"),
        ("{unknown: x}", "no row of trials has unknown 'x'; there is: none"),
        ("{tags: a}", "no row of trials has tags 'a'; there is: none"),
        ("{answer: []}", "no row of trials has answer of an empty list; there is: no, yes"),
        ("{answer: 'no', block: 1}", "no row of trials has answer 'no' and block 1"),
        ("{answer: 'yes', block: 3}", "no row of trials that matches has a start before its stop"),
    ],
)
def test_a_rule_that_matches_no_row_selects_nothing_and_says_why(text: str, reason: str) -> None:
    """It is no error: another session may have such rows."""
    found = rule(f"{{table: trials, where: {text}}}")
    assert len(found.rows(TABLES)[0]) == 0
    assert found.intervals(TABLES).duration == 0
    assert found.unmatched(TABLES) == reason


# Values that YAML reads otherwise than they are meant, for a column of text.
BARE = ["yes", "no", "on", "off", "Yes", "NO", "On", "true", "False", "1", "1.5", "0x10", "1e3"]


@pytest.mark.parametrize("written", BARE)
def test_a_value_of_another_kind_than_its_column_is_an_error(written: str) -> None:
    value = yaml.safe_load(f"[{written}]")[0]
    if isinstance(value, str):  # 1e3 is text in YAML 1.1
        return
    found = rule(f"{{table: trials, where: {{answer: {written}}}}}")
    for follow in (found.rows, found.intervals, found.unmatched):
        with pytest.raises(HarmonizeError) as caught:
            follow(TABLES)
        message = str(caught.value)
        assert message.startswith(f"no row of trials has answer {value!r}; there is: no, yes (")
        assert "quote it" in message
    # Rows that a session has not are of no kind.
    assert len(found.rows({"trials": TABLE.slice(0, 0)})[0]) == 0


@pytest.mark.parametrize("column", ["block", "angle", "correct"])
def test_text_beside_numbers_is_an_error(column: str) -> None:
    with pytest.raises(HarmonizeError, match="write it without quotes"):
        rule(f"{{table: trials, where: {{{column}: '1'}}}}").rows(TABLES)


@pytest.mark.parametrize("column", ["answer", "correct", "tags", "unused"])
@pytest.mark.parametrize("edge", ["start", "stop"])
def test_edges_are_times(edge: str, column: str) -> None:
    with pytest.raises(HarmonizeError, match=f"column '{column}' of table 'trials' has the type"):
        IntervalRule.model_validate({"table": "trials", edge: column}).rows(TABLES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"table": "trails"}, "no interval table 'trails'; there is: epochs, trials"),
        ({"table": "trials", "start": "cues"}, "table 'trials' has no column 'cues'; there is: "),
        ({"table": "trials", "where": {"anwser": "yes"}}, "has no column 'anwser'; there is: "),
    ],
)
def test_a_missing_table_or_column_is_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(HarmonizeError, match=message):
        IntervalRule.model_validate(fields).rows(TABLES)


@pytest.mark.parametrize(
    ("sessions", "reason"),
    [
        (["yes", "maybe"], ""),
        (["maybe", "yes"], ""),
        (["maybe", "none"], "no row of trials has answer 'yes'; there is: maybe"),
        (["none", "maybe", None], "no row of trials has answer 'yes'; there is: none"),
        ([5.0, "maybe"], "no row of trials has answer 'yes'; there is: 5.0 (write it without quo"),
        ([None, None], ""),
        ([], ""),
    ],
)
def test_a_rule_for_several_sessions_matches_in_one_of_them(
    sessions: list[Any], reason: str
) -> None:
    """None is a session without the column."""
    tables = [
        {"trials": pa.table({"start": [0.0], "stop": [1.0], **({"answer": [a]} if a else {})})}
        for a in sessions
    ]
    found = rule("{table: trials, where: {answer: 'yes'}}").unmatched_in([*tables, {}])
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
