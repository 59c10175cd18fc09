"""From recordings to a trained decoder, on this machine alone: `make demo`.

Simulates recordings, serves them as a dandiset on loopback, and then runs the two commands that one
runs with a dandiset of the public archive: `neurobrick prepare dandiset` and `neurobrick-train`.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from demo.archive import LoopbackArchive

FOLDER = Path("demo_data")
RECIPE = Path("recipes/multisession.yaml")
SESSIONS = 4
MINUTES = 5


def run(command: str) -> None:
    """Show a command as it would be typed, and run it; end the demo if it fails."""
    print(f"\n$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    path = Path(sys.executable).with_name(program)
    status = subprocess.run([path, *arguments], check=False).returncode
    if status:
        sys.exit(status)


def main() -> None:
    """Simulate, serve, prepare, train."""
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    run(f"neurobrick simulate {FOLDER}/archive --sessions {SESSIONS} --minutes {MINUTES}")
    with LoopbackArchive(FOLDER / "archive") as archive:
        run(
            "neurobrick prepare dandiset 000128 --version draft"
            f" --instance {archive.api_url} --root {FOLDER}/corpus"
        )
    folder = Path("runs") / RECIPE.stem
    run(f"neurobrick-train {RECIPE}{' --force' if folder.exists() else ''}")
    print(f"\nDone in {time.monotonic() - began:.0f} s. Open {folder}/report.html")


if __name__ == "__main__":
    main()
