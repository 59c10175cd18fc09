"""The peer's preparation of an NWB file, for `preparing.py`. Run it with the peer's own
interpreter.

`brainsets` 0.2.2 ships its pipelines beside the package. This runs `Pipeline.process` of
`brainsets_pipelines/perich_miller_population_2018` on a file in the layout of dandiset 000688,
unmodified but for the lines that it shows on a terminal. Its base class names a type of ray, which
only spreads pipelines over processes; a stand-in makes it importable where ray is not installed.

    python -m venv peer && peer/bin/pip install --no-deps brainsets==0.2.2
    peer/bin/pip install temporaldata==0.1.6 pynwb pandas scipy scikit-learn

Answers each line on stdin with a line of JSON: the seconds and the processor seconds of one
preparation, and the file that it wrote.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import json
import os
import sys
import time
import types
from argparse import Namespace
from pathlib import Path


def load_pipeline() -> type:
    """The peer's pipeline class for dandiset 000688."""
    try:
        import ray.actor
    except ImportError:
        ray = types.ModuleType("ray")
        ray.actor = types.ModuleType("ray.actor")
        ray.actor.ActorHandle = object
        sys.modules |= {"ray": ray, "ray.actor": ray.actor}
    from brainsets_pipelines.perich_miller_population_2018 import pipeline

    return pipeline.Pipeline


def main(source: Path, folder: Path) -> None:
    """Prepare `source` into `folder`, once for each line on stdin."""
    answers = sys.stdout
    pipeline = load_pipeline()(
        raw_dir=source.parent,
        processed_dir=folder,
        args=Namespace(reprocess=True, redownload=False),
    )
    pipeline.update_status = lambda status: None  # a line on a terminal, by way of ray
    packages = ("brainsets", "temporaldata", "h5py", "pynwb")
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps(versions), file=answers, flush=True)
    for _ in sys.stdin:
        for old in folder.iterdir():
            old.unlink()
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        # The pipeline prints what it is doing.
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            pipeline.process(source)
        spent = {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        (made,) = folder.iterdir()
        print(json.dumps(spent | {"store": str(made)}), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
