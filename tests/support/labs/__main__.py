"""Prints docs/layouts.md: `python -m tests.support.labs > docs/layouts.md`."""

from __future__ import annotations

import sys
from itertools import groupby

from tests.support.labs import LABS, Write

HEAD = """# Layouts that are tested

Each is a small recording that the tests write in the manner of a lab, prepare without a registry
entry, and compare with what was written: the spikes of every unit, windows, behavior in SI,
interval tables, and what must be listed as left (`tests/support/labs/`). The simulated dandisets
000128 and 000688, and O'Doherty & Sabes' MATLAB files, are tested by files of their own.
Numbers are those of dandisets that have the layout.
"""


def theme(write: Write) -> str:
    """The heading that a lab stands under: what its module's docstring begins with."""
    return str(sys.modules[write.__module__].__doc__).partition(":")[0]


def page() -> str:
    """The page, with a row for every lab."""
    lines = [HEAD]
    for heading, labs in groupby(LABS.items(), key=lambda pair: theme(pair[1])):
        lines += [f"## {heading}", "", "| layout | what |", "|---|---|"]
        lines += [f"| `{name}` | {' '.join(str(write.__doc__).split())} |" for name, write in labs]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
