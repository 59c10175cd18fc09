"""Units of measure: the strings that files use → SI.

A unit that is not in the table is kept as it is. Nothing is guessed from values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SIUnit:
    """An SI unit and the factor that brings values in the source's unit to it."""

    symbol: str
    factor: float


_LENGTHS = {
    "m": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0,
    "cm": 1e-2, "centimeter": 1e-2, "centimeters": 1e-2, "centimetre": 1e-2, "centimetres": 1e-2,
    "mm": 1e-3, "millimeter": 1e-3, "millimeters": 1e-3, "millimetre": 1e-3, "millimetres": 1e-3,
    "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "micrometer": 1e-6, "micrometers": 1e-6,
}  # fmt: skip
_ANGLES = {
    "rad": 1.0, "radian": 1.0, "radians": 1.0,
    "deg": math.pi / 180, "degree": math.pi / 180, "degrees": math.pi / 180,
}  # fmt: skip
_SECONDS = ("s", "sec", "second", "seconds")
# "nm" is a nanometer to some and a newton meter to others, so it is not here.
_OTHERS = {
    "n": ("N", 1.0), "newton": ("N", 1.0), "newtons": ("N", 1.0),
    "n m": ("N m", 1.0), "n*m": ("N m", 1.0),
    "v": ("V", 1.0), "volt": ("V", 1.0), "volts": ("V", 1.0), "mv": ("V", 1e-3),
    "uv": ("V", 1e-6), "µv": ("V", 1e-6), "a": ("A", 1.0), "ampere": ("A", 1.0),
    "hz": ("Hz", 1.0), "ms": ("s", 1e-3), "milliseconds": ("s", 1e-3),
    "kg": ("kg", 1.0),
}  # fmt: skip


def _table() -> dict[str, SIUnit]:
    table = {name: SIUnit(symbol, factor) for name, (symbol, factor) in _OTHERS.items()}
    for names, symbol in ((_LENGTHS, "m"), (_ANGLES, "rad")):
        for name, factor in names.items():
            table[name] = SIUnit(symbol, factor)
            for second in _SECONDS:
                for per in (f"{name}/{second}", f"{name} / {second}", f"{name} per {second}"):
                    table[per] = SIUnit(f"{symbol}/s", factor)
                for per in (f"{name}/{second}^2", f"{name}/{second}2", f"{name}/{second}²"):
                    table[per] = SIUnit(f"{symbol}/s^2", factor)
                table[f"{name}/{second}/{second}"] = SIUnit(f"{symbol}/s^2", factor)
    table |= {name: SIUnit("s", 1.0) for name in _SECONDS}
    return table


_TABLE = _table()


def to_si(unit: str) -> SIUnit | None:
    """The SI unit that the string `unit` means; None when it is not recognized."""
    return _TABLE.get(" ".join(unit.split()).casefold())
