"""Columns of Arrow tables as plain numeric arrays, and back.

A Zarr store of core data types has no strings and no ragged arrays. A column of strings becomes
codes and their categories. A ragged column becomes values and row offsets. Numbers, booleans and
rows of fixed width are arrays as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from neurobrick.tables import Array, array, list_column


@dataclass(frozen=True)
class ColumnArrays:
    """One column as plain arrays."""

    # By role: `values`; `offsets` (rows + 1,) of a ragged column; also `inner_offsets` of a column
    # that is ragged twice.
    arrays: Mapping[str, Array]
    attributes: Mapping[str, Any] = field(default_factory=dict)  # `categories` of a column of text


def to_arrays(column: pa.ChunkedArray) -> ColumnArrays:
    """The arrays that hold `column`."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # pyarrow keeps an empty column chunked
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_string(array.type):
        encoded = array.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        return ColumnArrays({"values": codes}, {"categories": encoded.dictionary.to_pylist()})
    if pa.types.is_list(array.type):
        inner = to_arrays(pa.chunked_array([array.flatten()]))
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        arrays = {f"inner_{k}" if k == "offsets" else k: v for k, v in inner.arrays.items()}
        return ColumnArrays({**arrays, "offsets": offsets}, inner.attributes)
    if pa.types.is_fixed_size_list(array.type):
        flat = array.flatten().to_numpy(zero_copy_only=False)
        return ColumnArrays({"values": flat.reshape(len(array), array.type.list_size)})
    return ColumnArrays({"values": array.to_numpy(zero_copy_only=False)})


def from_arrays(column: ColumnArrays) -> pa.Array:
    """The column that `to_arrays` made these arrays of. Raises ValueError for forged ones."""
    values = np.asarray(column.arrays["values"])
    categories = column.attributes.get("categories")
    if categories is not None:
        codes = pa.array(values, mask=values < 0)
        decoded = pa.DictionaryArray.from_arrays(codes, pa.array(categories, pa.string()))
        inner = decoded.cast(pa.string())
    else:
        inner = array(values)
    for role in ("inner_offsets", "offsets"):
        if role in column.arrays:
            inner = list_column(inner, column.arrays[role])
    return inner
