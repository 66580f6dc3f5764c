"""Lengths of time: `timedelta` in Python, a number of seconds as JSON."""

from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainSerializer

LONGEST_DURATION: Final = timedelta(days=3_660)
"""Ten years."""


def _read(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise ValueError("not a length of time: give seconds") from None


Duration = Annotated[
    timedelta,
    Field(gt=timedelta(0), le=LONGEST_DURATION),
    BeforeValidator(_read),
    PlainSerializer(timedelta.total_seconds, return_type=float, when_used="json"),
]
"""More than nothing, at most ten years."""
