"""Whether this process is a fork of one that had obstore loaded.

obstore works with threads of its own. They do not survive a fork, and whoever asks them in the
child waits for ever. Whether the parent asked them anything cannot be told, so that having loaded
obstore counts.
"""

from __future__ import annotations

import os
import sys

_broken = False


def obstore_is_broken() -> bool:
    """Whether calls of obstore could hang in this process."""
    return _broken


def _after_fork() -> None:
    global _broken
    _broken = _broken or "obstore" in sys.modules


if hasattr(os, "register_at_fork"):  # there is no fork on Windows
    os.register_at_fork(after_in_child=_after_fork)
