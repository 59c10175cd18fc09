"""Export an HDF5 NWB file as a Zarr store with hdmf-zarr, in that library's own environment.

    python convert.py IN.nwb OUT.nwb.zarr [--chunk-rows N] [--compressor JSON] [--nested]

hdmf-zarr needs zarr 2, and neurobrick zarr 3: run by the interpreter that has the former.
"""

from __future__ import annotations

import argparse
import json

import numcodecs.pickles
from h5py import Dataset
from hdmf.common import VectorData
from hdmf_zarr import NWBZarrIO, ZarrDataIO
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from zarr import NestedDirectoryStore


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--chunk-rows", type=int, help="rows a chunk of series and of columns")
    parser.add_argument("--compressor", type=json.loads, help="as in a .zarray")
    parser.add_argument("--nested", action="store_true", help="a folder a dimension of chunks")
    return parser.parse_args()


def encode(file: NWBFile, rows: int, compressor: dict | None) -> None:
    """Let the series and the columns of numbers in `file` be written in chunks of `rows` rows."""
    codec = numcodecs.get_codec(compressor) if compressor else None
    for item in file.objects.values():
        data = getattr(item, "data", None)
        if not isinstance(data, Dataset) or data.dtype.kind not in "iuf" or not len(data):
            continue
        settings = {"chunks": (rows, *data.shape[1:])} | ({"compressor": codec} if codec else {})
        if isinstance(item, TimeSeries):
            item.set_data_io("data", ZarrDataIO, settings)
        elif isinstance(item, VectorData):
            item.set_data_io(ZarrDataIO, settings)


def main() -> None:
    options = parse()
    # hdmf-zarr pickles records with references in them, and unpickles its own fill value at once.
    numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE = True
    target = NestedDirectoryStore(options.target) if options.nested else options.target
    with NWBHDF5IO(options.source, "r", load_namespaces=True) as source:
        file = source.read()
        if options.chunk_rows:
            encode(file, options.chunk_rows, options.compressor)
        with NWBZarrIO(target, mode="w") as writer:
            writer.export(src_io=source, nwbfile=file, write_args={"link_data": False})


if __name__ == "__main__":
    main()
