"""A Zarr v2 array, as hdmf-zarr up to 0.13 kept NWB in: metadata, chunk keys, decoding."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick.readers.tree import Kind
from neurobrick.readers.zarr.codecs import TEXT_FILTERS, ArrayMetadata, decode


class ArrayV2:
    """An array's metadata, checked; its chunk keys; and its values from its chunks.

    Raises pydantic's ValidationError when the metadata contradict themselves.
    """

    def __init__(self, metadata: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        self._meta = ArrayMetadata.model_validate(metadata)
        self._zarr_dtype = attributes.get("zarr_dtype")
        self.dtype: np.dtype[Any] = self._meta.numpy_dtype
        # hdmf-zarr keeps a scalar as an array of one.
        scalar = self._zarr_dtype == "scalar" and self._meta.shape == [1]
        self.shape: tuple[int, ...] = () if scalar else tuple(self._meta.shape)

    @property
    def kind(self) -> Kind:
        """What its values are."""
        if self.dtype.kind in "SU":
            return "text"
        if self.dtype.kind != "O":
            return "number" if self.dtype.kind in "iufb" else "other"
        if [item.id in TEXT_FILTERS for item in self._meta.plain_filters] == [True]:
            return "text"
        return "reference" if self._zarr_dtype == "object" else "other"

    def undecodable(self) -> str:
        """What of its encoding is not decoded here; "" when all is."""
        unknown = ", ".join(self._meta.not_decoded())
        return unknown or (str(self._meta.dtype) if self.kind in ("reference", "other") else "")

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """How many chunks there are along each dimension."""
        return self._meta.grid

    @property
    def whole(self) -> tuple[int, ...]:
        """The shape of all its chunks: those at the edges are kept whole."""
        return tuple(n * c for n, c in zip(self.grid, self._meta.chunks, strict=True))

    def chunk_names(self, stored: Collection[str]) -> list[str]:
        """Those of the names `stored` below the array that are chunks of it."""
        if prod(self.grid) > len(stored):  # some are lost: not worth the time to name them all
            return list(stored)
        there = set(stored)
        return [name for name in self._meta.chunk_names() if name in there]

    def unwritten(self, stored: Collection[str]) -> int:
        """How many of its chunks are not among the names `stored`.

        Zarr reads such a chunk as the fill value, and some writers leave out chunks of nothing
        else. hdmf-zarr writes all of them: zarr 2 does unless an option says otherwise, and
        hdmf-zarr has no such option. So a chunk that is not there was lost.
        """
        return prod(self.grid) - len(self.chunk_names(stored))

    def decode(self, chunks: dict[str, bytes]) -> NDArray[Any]:
        """The array of `chunks`, all of its chunks by name, which this empties."""
        return decode(self._meta, chunks).reshape(self.shape)
