"""The chunks of a Zarr v3 array, from their bytes to values, each decoder within a bound.

    bytes of a chunk ── compression undone ──> bytes ── bytes, vlen-utf8 ──> array ── filters undone
                                                └── sharding_indexed: an index, and inner chunks

A few kilobytes can claim to be terabytes, so every decoder is given the most that it may make.
Codecs that are not on the lists below are not decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, StrictInt, TypeAdapter, model_validator

from neurobrick.readers.tree import FREE_BYTES, MAX_RATIO
from neurobrick.readers.zarr.codecs import COMPRESSORS, MAX_DIMENSIONS, decompress, text_items

TEXTS = {"string": "vlen-utf8", "variable_length_bytes": "vlen-bytes"}  # data type → its codec

ARRAY_TO_ARRAY = frozenset({"transpose", "numcodecs.delta", "numcodecs.fixedscaleoffset"})
ARRAY_TO_BYTES = frozenset({"bytes", "sharding_indexed", *TEXTS.values()})
BYTES_TO_BYTES = {
    "crc32c": "crc32c",
    "numcodecs.shuffle": "shuffle",
    **{name: name for name in ("blosc", "gzip", "zstd")},
    **{f"numcodecs.{name}": name for name in COMPRESSORS},
}
MAX_CODECS = 16  # one after another
ABSENT = 2**64 - 1  # offset and size, in the index of a shard, of a chunk that is not written

Positive = Annotated[StrictInt, Field(ge=1, lt=2**63)]
Shape = TypeAdapter(Annotated[list[Positive], Field(max_length=MAX_DIMENSIONS)])


class Extension(BaseModel):
    """A data type, a chunk grid, a codec: its name and its settings."""

    name: str
    configuration: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named_only(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


_CODECS = TypeAdapter(Annotated[list[Extension], Field(min_length=1, max_length=MAX_CODECS)])


@dataclass(frozen=True)
class Pipeline:
    """The codecs of a chunk, in the order of encoding."""

    filters: tuple[Extension, ...]  # array to array
    serializer: Extension  # array to bytes
    compression: tuple[Extension, ...]  # bytes to bytes
    inner: Pipeline | None = None  # codecs of the chunks in a shard
    inner_shape: tuple[int, ...] = ()  # of the chunks in a shard

    def unknown(self) -> list[str]:
        """Names of the codecs that are not decoded here."""
        names = [codec.name for codec in self.filters if codec.name not in ARRAY_TO_ARRAY]
        if self.serializer.name not in ARRAY_TO_BYTES:
            names.append(self.serializer.name)
        names += [codec.name for codec in self.compression if codec.name not in BYTES_TO_BYTES]
        if self.inner is not None:
            names += self.inner.unknown()
            if self.inner.inner is not None:
                names.append("a shard in a shard")
        return names


def pipeline(codecs: list[Extension], depth: int = 0) -> Pipeline:
    """`codecs` by their roles. Where none is known to make bytes of an array, the first one that is
    not known at all is taken for it.

    Raises ValueError when several make bytes of an array, or none, or a setting is malformed.
    """
    places = [k for k, codec in enumerate(codecs) if codec.name in ARRAY_TO_BYTES]
    known = ARRAY_TO_ARRAY | BYTES_TO_BYTES.keys()
    places = places or [k for k, codec in enumerate(codecs) if codec.name not in known][:1]
    if len(places) != 1:
        raise ValueError(f"{len(places)} codecs that make bytes of an array, not 1")
    at = places[0]
    inner: Pipeline | None = None
    inner_shape: tuple[int, ...] = ()
    serializer = codecs[at]
    if serializer.name == "sharding_indexed":
        if depth > 1:
            raise ValueError("shards in shards in shards")
        settings = serializer.configuration
        inner_shape = tuple(Shape.validate_python(settings.get("chunk_shape")))
        inner = pipeline(_CODECS.validate_python(settings.get("codecs")), depth + 1)
    return Pipeline(tuple(codecs[:at]), serializer, tuple(codecs[at + 1 :]), inner, inner_shape)


class Room:
    """Bytes that the texts and shards of one array may still take."""

    def __init__(self, stored: int) -> None:
        self.left = max(FREE_BYTES, MAX_RATIO * stored)


class ChunkDecoder:
    """Decodes the chunks of one array, whose data type is called `data_type`.

    `fill` gives the fill value, and may raise ValueError. Decoding raises ValueError when a chunk
    is not what its codecs say, and what numcodecs raises.
    """

    def __init__(self, data_type: str, dtype: np.dtype[Any], fill: Callable[[], Any]) -> None:
        self._data_type = data_type
        self._dtype = dtype
        self._fill = fill

    def decode(
        self, codecs: Pipeline, data: bytes, shape: tuple[int, ...], room: Room
    ) -> NDArray[Any]:
        """A chunk of `shape`, from its bytes."""
        items, name = prod(shape), codecs.serializer.name
        if name != "sharding_indexed" and name != TEXTS.get(self._data_type, "bytes"):
            raise ValueError(f"{self._data_type} encoded as {name}")
        encoded = _encoded_dtype(self._dtype, codecs.filters)
        limit = items * encoded.itemsize if name == "bytes" else room.left
        data = _undo_compression(codecs.compression, data, limit)
        if name != "bytes":
            room.left -= len(data)
        if name == "sharding_indexed":
            return self._shard(codecs, data, shape, room)
        if name in TEXTS.values():
            return _texts(name, data, shape)
        if len(data) != limit:
            raise ValueError(f"a chunk of {len(data)} bytes, not {limit}")
        values = _numbers(codecs.serializer, data, encoded)
        return _undo_filters(codecs.filters, values, shape)

    def _shard(
        self, codecs: Pipeline, data: bytes, shape: tuple[int, ...], room: Room
    ) -> NDArray[Any]:
        """The chunk in a shard: smaller chunks, and an index of where each of them is."""
        inner, inner_shape = codecs.inner, codecs.inner_shape
        if inner is None or len(inner_shape) != len(shape):
            raise ValueError(f"a shard of {shape} with chunks of {inner_shape}")
        if codecs.filters or any(n % c for n, c in zip(shape, inner_shape, strict=True)):
            raise ValueError(f"a shard of {shape} with chunks of {inner_shape}")
        grid = tuple(n // c for n, c in zip(shape, inner_shape, strict=True))
        index = _shard_index(codecs.serializer, data, prod(grid))
        values = np.empty(shape, dtype=self._dtype)
        if (ABSENT, ABSENT) in index:
            values[...] = self._fill()
        for position, (offset, size) in zip(np.ndindex(*grid), index, strict=True):
            if offset == ABSENT and size == ABSENT:
                continue
            if offset + size > len(data):
                raise ValueError("a shard whose index leads beyond its end")
            chunk = self.decode(inner, data[offset : offset + size], inner_shape, room)
            start = [k * c for k, c in zip(position, inner_shape, strict=True)]
            put(values, start, chunk)
        return values


def put(values: NDArray[Any], start: list[int], chunk: NDArray[Any]) -> None:
    """Put `chunk` at `start`, without the part of it that lies beyond the edge of the array."""
    room = [n - a for n, a in zip(values.shape, start, strict=True)]
    # Without dimensions, an index of () would give a value: the ellipsis gives an array.
    inside: tuple[Any, ...] = (..., *(slice(0, n) for n in room))
    part = chunk[inside]
    values[tuple(slice(a, a + n) for a, n in zip(start, part.shape, strict=True))] = part


def _encoded_dtype(dtype: np.dtype[Any], filters: tuple[Extension, ...]) -> np.dtype[Any]:
    """The type of the elements after `filters`. Raises ValueError where it is no number."""
    for codec in filters:
        if codec.name == "transpose":
            continue
        settings = codec.configuration
        if codec.name == "numcodecs.fixedscaleoffset" and not settings.get("scale"):
            raise ValueError("a filter divides by 0")
        name = settings.get("astype") or settings.get("dtype")
        dtype = np.dtype(name) if isinstance(name, str) else np.dtype(object)
        if dtype.kind not in "iufb":
            raise ValueError(f"a filter makes {name!r:.20}, no numbers")
    return dtype


def _undo_compression(codecs: tuple[Extension, ...], data: bytes, limit: int) -> bytes:
    """`data` as it was before `codecs`: at most `limit` bytes."""
    for left, codec in zip(range(len(codecs) - 1, -1, -1), reversed(codecs), strict=True):
        kind = BYTES_TO_BYTES[codec.name]
        room = limit + (limit // 64 + 1024 if left else 0)  # a codec before it may make more
        if kind == "crc32c":
            data = _checked(data)
        elif kind == "shuffle":
            data = _unshuffled(data, codec.configuration.get("elementsize", 4))
        else:
            data = decompress(kind, data, room)
    return data


def _checked(data: bytes) -> bytes:
    """`data` without the CRC32C at its end, which must be its own."""
    if len(data) < 4 or google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError("a checksum that does not match")
    return data[:-4]


def _unshuffled(data: bytes, size: object) -> bytes:
    """Bytes that were grouped by their place in elements of `size` bytes, element by element."""
    if type(size) is not int or not 0 < size <= 256:
        raise ValueError(f"elements of {size!r:.20} bytes")
    whole = len(data) - len(data) % size
    grouped = np.frombuffer(data[:whole], np.uint8).reshape(size, -1)
    return grouped.T.tobytes() + data[whole:]


def _texts(codec: str, data: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    import numcodecs

    if text_items(data) != prod(shape):
        raise ValueError(f"a chunk of {text_items(data)} texts, not {prod(shape)}")
    return np.asarray(numcodecs.get_codec({"id": codec}).decode(data), object).reshape(shape)


def _numbers(codec: Extension, data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Elements as they lie in `data`, (n,)."""
    endian = codec.configuration.get("endian", "little")
    if endian not in ("little", "big"):
        raise ValueError(f"bytes in the order {endian!r:.20}")
    if dtype.kind == "b":
        return np.frombuffer(data, np.uint8) != 0
    values = np.frombuffer(data, dtype.newbyteorder("<" if endian == "little" else ">"))
    return values.astype(dtype, copy=False)


def _undo_filters(
    filters: tuple[Extension, ...], values: NDArray[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """`values` (n,) before `filters`, in `shape`."""
    import numcodecs

    orders = []
    for codec in filters:
        if codec.name == "transpose":
            order = codec.configuration.get("order")
            if not isinstance(order, list) or sorted(order) != list(range(len(shape))):
                raise ValueError(f"axes in the order {order!r:.40}")
            orders.append(order)
            shape = tuple(shape[axis] for axis in order)
    values = values.reshape(shape)
    for codec in reversed(filters):
        if codec.name == "transpose":
            values = values.transpose(np.argsort(orders.pop()))
        else:
            settings = codec.configuration | {"id": codec.name.removeprefix("numcodecs.")}
            made = numcodecs.get_codec(settings).decode(np.ascontiguousarray(values).reshape(-1))
            values = np.asarray(made).reshape(values.shape)
    return values


def _shard_index(codec: Extension, data: bytes, n_chunks: int) -> list[tuple[int, int]]:
    """Offset and size of each chunk in a shard, in C order."""
    names = [item.name for item in _CODECS.validate_python(codec.configuration["index_codecs"])]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        raise ValueError(f"a shard's index encoded as {names!r:.60}")
    size = 16 * n_chunks + (4 if "crc32c" in names else 0)
    if size > len(data):
        raise ValueError("a shard that is shorter than its index")
    at_start = codec.configuration.get("index_location", "end") == "start"
    index = data[:size] if at_start else data[len(data) - size :]
    if "crc32c" in names:
        index = _checked(index)
    return list(struct.iter_unpack("<QQ", index))
