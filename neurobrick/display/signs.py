"""Signs that an output cannot encode, such as ✓ in a Windows pipe, in signs that it can."""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper

ERRORS = "neurobrick.signs"  # name of the codec's error handler
PLAIN = {
    "✓": "+",
    "✗": "x",
    "⚠": "!",
    "–": "-",
    "·": ".",
    "×": "x",
    "…": "...",
    "²": "2",
    "→": "->",
}


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in letters), error.end


def replace_signs() -> None:
    """From now on standard output and standard error never fail to encode a letter.

    Letters that their encoding lacks become those of `PLAIN`, or `?`.
    """
    codecs.register_error(ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=ERRORS)
