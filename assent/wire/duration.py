"""Lengths of time: `timedelta` in Python, a number of seconds as JSON."""

from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainSerializer

LONGEST_DURATION: Final = timedelta(days=3_660)
"""Ten years."""
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def largest_unit(seconds: float) -> tuple[str, int]:
    """Return the largest unit of time that fits into *seconds*, as people read it, and its own seconds."""
    return next((each for each in _UNITS if seconds >= each[1]), _UNITS[-1])


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
