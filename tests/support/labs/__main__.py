"""Prints docs/layouts.md: `python -m tests.support.labs > docs/layouts.md`."""

from __future__ import annotations

import sys
from itertools import groupby

from tests.support.labs import LABS, Write

HEAD = """# Layouts that are tested

The tests write a small recording in each of these layouts (`tests/support/labs/`), and prepare it
without a registry entry. They compare the store with the arrays that were written: spikes of every
unit, windows, behavior in SI, interval tables, and objects that must be listed as left. The
simulated dandisets 000128 and 000688, and O'Doherty & Sabes' MATLAB files, have tests of their own.
A number in parentheses is a dandiset that has the layout.
"""


def theme(write: Write) -> str:
    """The heading of a lab: the first words of its module's docstring, up to the colon."""
    return str(sys.modules[write.__module__].__doc__).partition(":")[0]


def page() -> str:
    """The page, with a row for every lab."""
    lines = [HEAD]
    for heading, labs in groupby(LABS.items(), key=lambda pair: theme(pair[1])):
        lines += [f"## {heading}", "", "| layout | content |", "|---|---|"]
        lines += [f"| `{name}` | {' '.join(str(write.__doc__).split())} |" for name, write in labs]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
