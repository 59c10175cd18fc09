"""Units of measure: the strings that files use → SI.

A unit that is not in the tables is kept as it is. Nothing is guessed from values.

To add a unit, add its symbol to `SYMBOLS` or its name to `NAMES`. Rates (`cm/s`, `cm s^-1`,
`centimeters per second`) follow by themselves.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SIUnit:
    """An SI unit, and how values in the file's unit are brought to it."""

    symbol: str  # of the SI unit, such as m/s
    factor: float  # value in SI = value in the file's unit * factor


_DEGREE = math.pi / 180

# Symbols. Upper and lower case differ: s is a second and S a siemens, mV a millivolt and MV a
# megavolt. µ is written as u here; see _LETTERS.
SYMBOLS = {
    "m": ("m", 1.0), "km": ("m", 1e3), "cm": ("m", 1e-2), "mm": ("m", 1e-3), "um": ("m", 1e-6),
    "mrad": ("rad", 1e-3), "°": ("rad", _DEGREE),
    "s": ("s", 1.0), "ms": ("s", 1e-3), "us": ("s", 1e-6), "ns": ("s", 1e-9),
    "Hz": ("Hz", 1.0), "kHz": ("Hz", 1e3), "MHz": ("Hz", 1e6),
    "kg": ("kg", 1.0),
    "N": ("N", 1.0), "kN": ("N", 1e3), "mN": ("N", 1e-3),
    "N m": ("N m", 1.0), "Nm": ("N m", 1.0), "N cm": ("N m", 1e-2),
    "N mm": ("N m", 1e-3), "mN m": ("N m", 1e-3),
    "V": ("V", 1.0), "kV": ("V", 1e3), "mV": ("V", 1e-3), "uV": ("V", 1e-6), "nV": ("V", 1e-9),
    "A": ("A", 1.0), "mA": ("A", 1e-3), "uA": ("A", 1e-6), "nA": ("A", 1e-9), "pA": ("A", 1e-12),
    "S": ("S", 1.0), "mS": ("S", 1e-3), "uS": ("S", 1e-6), "nS": ("S", 1e-9),
    "Pa": ("Pa", 1.0), "kPa": ("Pa", 1e3),
}  # fmt: skip

# Names and abbreviations, in any case. No other unit is written with the same letters.
NAMES = {
    **dict.fromkeys(("meter", "meters", "metre", "metres"), ("m", 1.0)),
    **dict.fromkeys(("kilometer", "kilometers", "kilometre", "kilometres"), ("m", 1e3)),
    **dict.fromkeys(("centimeter", "centimeters", "centimetre", "centimetres"), ("m", 1e-2)),
    **dict.fromkeys(("millimeter", "millimeters", "millimetre", "millimetres"), ("m", 1e-3)),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), ("m", 1e-6)),
    **dict.fromkeys(("micron", "microns"), ("m", 1e-6)),
    **dict.fromkeys(("rad", "rads", "radian", "radians"), ("rad", 1.0)),
    **dict.fromkeys(("deg", "degs", "degree", "degrees"), ("rad", _DEGREE)),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), ("s", 1.0)),
    **dict.fromkeys(("msec", "msecs", "millisecond", "milliseconds"), ("s", 1e-3)),
    **dict.fromkeys(("usec", "usecs", "microsecond", "microseconds"), ("s", 1e-6)),
    **dict.fromkeys(("nanosecond", "nanoseconds"), ("s", 1e-9)),
    **dict.fromkeys(("minute", "minutes"), ("s", 60.0)),
    **dict.fromkeys(("hz", "hertz"), ("Hz", 1.0)),
    "kilohertz": ("Hz", 1e3),
    **dict.fromkeys(("kilogram", "kilograms"), ("kg", 1.0)),
    **dict.fromkeys(("gram", "grams"), ("kg", 1e-3)),
    **dict.fromkeys(("newton", "newtons"), ("N", 1.0)),
    **dict.fromkeys(("newton meter", "newton meters"), ("N m", 1.0)),
    **dict.fromkeys(("newton metre", "newton metres"), ("N m", 1.0)),
    **dict.fromkeys(("volt", "volts"), ("V", 1.0)),
    **dict.fromkeys(("millivolt", "millivolts"), ("V", 1e-3)),
    **dict.fromkeys(("microvolt", "microvolts"), ("V", 1e-6)),
    **dict.fromkeys(("amp", "amps", "ampere", "amperes"), ("A", 1.0)),
    "siemens": ("S", 1.0),
    "microsiemens": ("S", 1e-6),
    **dict.fromkeys(("pascal", "pascals"), ("Pa", 1.0)),
    "standard gravity": ("m/s^2", 9.80665),  # CGPM 1901
}

# Symbols that two fields of science read in two ways. They are not converted.
AMBIGUOUS = {
    "nm": "nanometer, or newton meter",
    "g": "gram, or standard gravity",
    "mg": "milligram, or a thousandth of standard gravity",
    "G": "standard gravity, or gauss",
    "M": "molar, or a misspelled meter",
}

# Different letters for one sign, and the signs that stand between the factors of a unit.
_LETTERS = str.maketrans(
    {
        "µ": "u",  # U+00B5 micro sign
        "μ": "u",  # U+03BC Greek letter mu
        "º": "°",  # U+00BA masculine ordinal indicator
        "˚": "°",  # U+02DA ring above
        "⁻": "^-", "¹": "1", "²": "^2",
        "−": "-",  # U+2212 minus sign
        "·": " ", "⋅": " ", "∙": " ", "×": " ",
    }
)  # fmt: skip

# `per second` and `per second squared` at the end of a unit. The symbol s is a small letter only.
_S = r"(?:s|(?i:secs?|seconds?))"
_PER = r"(?: ?/ ?|(?:^| )(?i:per) )"
_PER_SECOND = rf"(?:{_PER}{_S}|(?:^|[ .]|(?<=°)){_S}\^?-1)$"
_PER_SECOND_SQUARED = (
    rf"(?:{_PER}(?:{_S}\^?2|\({_S}\^?2\)|{_S}{_PER}{_S}|{_S}(?i: squared))"
    rf"|(?:^|[ .]|(?<=°)){_S}\^?-2)$"
)
_RATES = ((re.compile(_PER_SECOND_SQUARED), "/s^2"), (re.compile(_PER_SECOND), "/s"))


def to_si(unit: str) -> SIUnit | None:
    """The SI unit that the string `unit` means; None if it is not known, or ambiguous.

    Source: the SI Brochure, 9th edition (BIPM 2019), tables 2 to 8, and spellings seen in files.
    """
    text = _normalized(unit)
    known = _plain(text)
    if known is not None:
        return known
    for pattern, ending in _RATES:
        if (match := pattern.search(text)) is not None:
            return _rate(text[: match.start()].strip(), ending)
    return None


def readings(unit: str) -> str | None:
    """What an ambiguous unit may mean, in words; None if the unit is not ambiguous."""
    return AMBIGUOUS.get(_normalized(unit))


def seconds_in(unit: str) -> float | None:
    """Seconds in the declared `unit` of a clock, 1 if none is declared; None if it is no unit of
    time."""
    if not unit.strip():
        return 1.0
    known = to_si(unit)
    return known.factor if known is not None and known.symbol == "s" else None


def in_seconds(times: NDArray[np.float64], unit: float) -> NDArray[np.float64]:
    """`times` in units of `unit` seconds → seconds.

    Divides where it can: 7 / 1000 is the float64 next to 0.007, and 7 * 0.001 is not.
    """
    if unit == 1.0:
        return times
    return times / round(1 / unit) if unit < 1 else times * unit


def _normalized(unit: str) -> str:
    """`unit` with one letter for each sign and one space between its factors."""
    text = unit.translate(_LETTERS).replace("^-^", "^-").replace("**", "^").replace("*", " ")
    return " ".join(text.split())


def _plain(text: str) -> SIUnit | None:
    """A unit that is no rate."""
    pair = SYMBOLS.get(text) or NAMES.get(text.casefold().replace("-", " "))
    return SIUnit(*pair) if pair else None


def _rate(text: str, ending: str) -> SIUnit | None:
    """The unit `text` per second, or per second squared. `text` may be empty, or 1."""
    if text in ("", "1"):
        return SIUnit(f"1{ending}", 1.0)
    base = _plain(text)
    # A second per second is no unit that a file means, and m/s^2 per second none that is read.
    if base is None or base.symbol in ("s", "m/s^2"):
        return None
    return SIUnit(f"{base.symbol}{ending}", base.factor)
