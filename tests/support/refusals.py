"""A fixture: a system that refuses what is at a path, whoever runs the tests, root included."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Refuse = Callable[[Path, int], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Has the system refuse whatever is at a path, or below it, with an error number."""

    def refused(forbidden: Path, number: int) -> None:
        def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
            def checked(path: Any, *args: Any, **kwargs: Any) -> Any:
                if isinstance(path, str | os.PathLike):
                    text = os.fspath(path)
                    if text == str(forbidden) or text.startswith(f"{forbidden}/"):
                        raise OSError(number, os.strerror(number), text)
                return call(path, *args, **kwargs)

            return checked

        for module, name in [
            (builtins, "open"),
            *((os, name) for name in ("scandir", "stat", "unlink", "replace", "fsync", "mkdir")),
        ]:
            monkeypatch.setattr(module, name, guarded(getattr(module, name)))

    return refused
