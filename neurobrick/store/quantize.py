"""Values as small integers, where that loses nothing.

Cameras count pixels, converters count steps, and files keep numbers rounded to some decimals. Such
values are `k / steps` for an integer k before they are scaled to SI. They are kept as k, a quarter
of the bytes after compression, but only if the formula gives every value back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick.schema import Scaling

Array = NDArray[Any]

# Steps of one unit of the source: whole numbers; decimals, as files round them; and halves of
# halves, as converters and lossy compression leave them.
STEPS = (1.0, 10.0, 100.0, 1000.0, 1e4, 1e5, 1e6, *(2.0**k for k in range(1, 21)))
VALUE_TYPES = ("float32", "float64")
_PROBE = 1024  # values tried before the whole array is


@dataclass(frozen=True)
class Quantization:
    """`value = ((k / steps) * gain + offset) * factor`, computed in float64, then cast to `dtype`.

    Here k is a stored integer.
    """

    steps: float  # integers to one unit of the source
    gain: float  # of the source
    offset: float  # of the source, after the gain
    factor: float  # from the source's unit to SI
    dtype: str  # one of VALUE_TYPES
    missing: int | None = None  # the k that means NaN

    def attributes(self) -> dict[str, Any]:
        """For the array's metadata: the formula, and its short form by the CF conventions
        (`scale_factor`, `add_offset`, `missing_value`), which xarray applies to within rounding.
        """
        scale = self.gain * self.factor / self.steps
        short = {"scale_factor": scale, "add_offset": self.offset * self.factor}
        if self.missing is not None:
            short["missing_value"] = self.missing
        return {"quantization": asdict(self), **short}

    def values(self, k: Array, into: Array | None = None) -> Array:
        """The values of the integers `k`, of the same shape; written to `into` if that is given."""
        values = np.divide(k, self.steps, dtype=np.float64)
        if self.gain != 1.0:
            values *= self.gain
        if self.offset != 0.0:
            values += self.offset
        if self.factor != 1.0:
            values *= self.factor
        if self.missing is not None:
            values[k == self.missing] = np.nan
        into = np.empty(k.shape, self.dtype) if into is None else into
        into[...] = values
        return into


def quantize(values: Array, scaling: Scaling) -> tuple[Quantization, Array] | None:
    """The first quantization that gives `values` back, and the integers; None if there is none.

    Every value is compared, NaN as NaN, and −0.0 as the 0.0 that it comes back as.
    """
    if values.dtype.name not in VALUE_TYPES or not values.size:
        return None
    probe = values.reshape(-1)[:: max(1, values.size // _PROBE)]
    for steps in STEPS:
        if _integers(probe, steps, scaling) is not None:
            quantized = _integers(values, steps, scaling)
            if quantized is not None:
                return quantized
    return None


def _integers(values: Array, steps: float, scaling: Scaling) -> tuple[Quantization, Array] | None:
    nan = np.isnan(values)
    with np.errstate(all="ignore"):
        source = (values.astype(np.float64) / scaling.factor - scaling.offset) / scaling.gain
        rounded = np.rint(source * steps)
    rounded[nan] = 0
    low, high = float(rounded.min(initial=0)), float(rounded.max(initial=0))
    for dtype in (np.int16, np.int32):
        info = np.iinfo(dtype)
        if info.min < low and high <= info.max:  # the lowest is kept for NaN
            break
    else:
        return None
    k = rounded.astype(dtype)
    missing = int(info.min) if nan.any() else None
    k[nan] = info.min
    quantization = Quantization(
        steps, scaling.gain, scaling.offset, scaling.factor, values.dtype.name, missing
    )
    same = np.array_equal(quantization.values(k), values, equal_nan=True)
    return (quantization, k) if same else None
