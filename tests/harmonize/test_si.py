"""Units of measure: every spelling, every symbol in every case."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobrick.harmonize.si import AMBIGUOUS, NAMES, SYMBOLS, SIUnit, readings, to_si

DEGREE = np.pi / 180

# Each SI unit, and how files write it: (SI symbol, factor) → spellings.
SPELLINGS: dict[tuple[str, float], tuple[str, ...]] = {
    ("m", 1.0): ("m", "meter", "Meters", "METRES", " m "),
    ("m", 1e-2): ("cm", "centimeters"),
    ("m", 1e-6): ("um", "\u00b5m", "\u03bcm", "micrometers", "microns"),
    ("rad", 1.0): ("rad", "Rad", "radians"),
    ("rad", DEGREE): ("deg", "Deg", "degrees", "°", "\u00ba", "\u02da"),
    ("rad/s", DEGREE): ("deg/s", " deg / s ", "°/s", "\u00ba/s", "° s⁻¹", "°s⁻¹",
                        "degrees per second", "Degrees/sec"),
    ("m/s", 1.0): ("m/s", "m / s", "m/sec", "m s-1", "m s^-1", "m s**-1", "m·s⁻¹", "m⋅s^-1",
                   "m.s-1", "m*s^-1", "m s⁻¹", "meters/second", "meters per second"),
    ("m/s", 1e-3): ("mm/s", "mm/sec", "mm s-1", "millimeters per second"),
    ("m/s^2", 1e-2): ("cm/s^2", "cm/s2", "cm/s²", "cm/s**2", "cm/s/s", "cm/(s^2)", "cm s^-2",
                      "cm·s⁻²", "centimeters per second squared",
                      "centimeters per second per second"),
    ("m/s^2", 9.80665): ("standard gravity",),
    ("1/s", 1.0): ("s⁻¹", "s^-1", "s-1", "1/s", "/s", "1 / sec", "per second", "sec^-1"),
    ("s", 1.0): ("s", "sec", "Seconds"),
    ("s", 1e-3): ("ms", "msec", "milliseconds"),
    ("s", 1e-6): ("us", "\u00b5s", "\u03bcs", "microseconds"),
    ("Hz", 1.0): ("Hz", "hz", "HZ", "hertz"),
    ("kg", 1e-3): ("grams",),
    ("N", 1.0): ("N", "newtons"),
    ("N/s", 1.0): ("N/s", "newtons per second"),
    ("N m", 1.0): ("N m", "N*m", "N·m", "Nm", "newton-meters", "Newton meters"),
    ("V", 1e-6): ("uV", "\u00b5V", "\u03bcV", "microvolts"),
    ("S", 1.0): ("S", "siemens"),
    ("S", 1e-6): ("uS", "\u00b5S"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("spelling", "symbol", "factor"),
    [(text, *unit) for unit, texts in SPELLINGS.items() for text in texts],
)
def test_every_spelling_has_its_unit(spelling: str, symbol: str, factor: float) -> None:
    unit = to_si(spelling)
    assert unit is not None
    assert (unit.symbol, unit.factor) == (symbol, pytest.approx(factor))


def in_every_case(text: str) -> set[str]:
    return {"".join(letters) for letters in product(*((c.lower(), c.upper()) for c in text))}


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_symbol_in_another_case_is_another_unit_or_none(symbol: str) -> None:
    """S is siemens and s a second; MV is no mV, and not in the table."""
    for other in in_every_case(symbol) - {symbol}:
        listed = SYMBOLS.get(other) or NAMES.get(other.casefold())
        assert to_si(other) == (SIUnit(*listed) if listed else None)
        if listed and other not in SYMBOLS:
            assert listed == SYMBOLS[symbol], "a name in any case contradicts a symbol"


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_second_of_a_rate_is_a_small_letter(symbol: str) -> None:
    assert to_si(f"{symbol}/S") is None
    assert to_si(f"{symbol} S^-1") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_be_in_any_case(name: str) -> None:
    assert to_si(name) == to_si(name.upper()) == to_si(name.capitalize()) == SIUnit(*NAMES[name])


@pytest.mark.parametrize(
    "text", ["", " ", "1", "/", "AU", "a.u.", "pixels", "n.a.", "unknown", "%", "MV", "MS", "°C",
             "ms-1", "m/s^3", "m^2/s", "per", "s/s"]
)  # fmt: skip
def test_an_unknown_unit_is_not_guessed(text: str) -> None:
    assert to_si(text) is None
    assert readings(text) is None


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_an_ambiguous_symbol_is_not_converted_and_its_readings_are_given(text: str) -> None:
    assert to_si(text) is None
    assert readings(f" {text} ") == AMBIGUOUS[text]
    assert " or " in AMBIGUOUS[text]


units = st.sampled_from([*SYMBOLS, *NAMES])
rates = st.sampled_from(["", "/s", " s^-1", " per second", "/s^2", "/s/s"])


@given(units, rates)
def test_an_si_unit_stays_itself(unit: str, rate: str) -> None:
    found = to_si(unit + rate)
    if found is not None:
        assert to_si(found.symbol) == SIUnit(found.symbol, 1.0)


@given(units, rates, st.floats(-1e6, 1e6))
def test_a_conversion_and_its_inverse_give_the_value_back(
    unit: str, rate: str, value: float
) -> None:
    found = to_si(unit + rate)
    if found is not None:
        assert 0 < found.factor < np.inf
        assert value * found.factor / found.factor == pytest.approx(value, rel=1e-15, abs=1e-300)
