"""Export an HDF5 NWB file as a Zarr v3 store with hdmf-zarr 0.14, in an environment of its own.

python convert_v3.py IN.nwb OUT.nwb.zarr [--chunk-rows N] [--shard-rows N] [--codec NAME]
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

from h5py import Dataset
from hdmf.common import VectorData
from hdmf_zarr import NWBZarrIO, ZarrDataIO
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

CODECS = {"blosc": [BloscCodec()], "gzip": [GzipCodec()], "zstd": [ZstdCodec()], "none": False}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--chunk-rows", type=int, help="rows a chunk of series and of columns")
    parser.add_argument("--shard-rows", type=int, help="rows a shard: a multiple of chunk-rows")
    parser.add_argument("--codec", choices=CODECS, help="codec of series and of columns")
    return parser.parse_args()


def encode(file: NWBFile, options: argparse.Namespace) -> None:
    """Let the series and the columns of numbers in `file` be written as the options say."""
    for item in file.objects.values():
        data = getattr(item, "data", None)
        if not isinstance(data, Dataset) or data.dtype.kind not in "iuf" or not len(data):
            continue
        settings: dict[str, Any] = {"chunks": (options.chunk_rows, *data.shape[1:])}
        if options.shard_rows:
            settings["shards"] = (options.shard_rows, *data.shape[1:])
        if options.codec:
            settings["compressors"] = CODECS[options.codec]
        if isinstance(item, TimeSeries):
            item.set_data_io("data", ZarrDataIO, settings)
        elif isinstance(item, VectorData):
            item.set_data_io(ZarrDataIO, settings)


def main() -> None:
    options = parse()
    warnings.simplefilter("ignore")
    with NWBHDF5IO(options.source, "r", load_namespaces=True) as source:
        file = source.read()
        if options.chunk_rows:
            encode(file, options)
        with NWBZarrIO(options.target, mode="w") as writer:
            writer.export(src_io=source, nwbfile=file, write_args={"link_data": False})


if __name__ == "__main__":
    main()
