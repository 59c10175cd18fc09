"""numpy arrays as Arrow columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Array = NDArray[Any]


def array(values: Array) -> pa.Array:
    """A numpy array (n,) or (n, k, …) as an arrow column; further axes as fixed-width rows."""
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))


def ragged(values: pa.Array, ends: NDArray[np.integer]) -> pa.Array:
    """A ragged arrow column: row k is `values[ends[k - 1]:ends[k]]`."""
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    return list_column(values[: int(offsets[-1])], offsets)


def list_column(values: pa.Array, offsets: Array) -> pa.Array:
    """A ragged arrow column: row k is `values[offsets[k]:offsets[k + 1]]`.

    Raises ValueError for offsets that fall, or lead out of `values`: Arrow believes them.
    """
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not len(offsets):
        raise ValueError("the offsets of a ragged column are not a row of integers")
    if offsets[0] < 0 or offsets[-1] > len(values) or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError("the offsets of a ragged column lead out of its values")
    return pa.LargeListArray.from_arrays(offsets, values).cast(pa.list_(values.type))
