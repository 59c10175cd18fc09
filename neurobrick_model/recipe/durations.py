"""Durations in a recipe: `60`, `60s`, `5min`, `1.5h`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_AMOUNT = re.compile(r"\s*([0-9.]+)\s*(s|min|h)?\s*")
_SECONDS = {None: 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


def parse_seconds(text: Any) -> Any:
    """The seconds in text such as `60`, `60s`, `5min` or `1.5h`. What is not text is returned as it
    is. Raises ValueError for other text."""
    if not isinstance(text, str):
        return text
    match = _AMOUNT.fullmatch(text)
    try:
        return float(match[1]) * _SECONDS[match[2]]  # type: ignore[index]
    except (TypeError, ValueError):
        raise ValueError("must be seconds: 60, 60s, 5min or 1.5h") from None


Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0)]
