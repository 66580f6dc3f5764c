"""The ids under which a run schedules its activities: unlike each other, and readable in a timeline.

Pinned as every wire name is: readers of old histories go by them.
"""


def model_activity_id(turn: int) -> str:
    """The activity id of a turn's model call."""
    return f"{turn}"


def tool_activity_id(turn: int, position: int) -> str:
    """The activity id of the call at *position* in its turn."""
    return f"{turn}.{position}"


def tool_position(activity_id: str) -> int | None:
    """The position that a tool's activity id names; None for other activities."""
    turn, dot, position = activity_id.partition(".")
    return int(position) if dot and turn.isdigit() and position.isdigit() else None


def check_activity_id(number: int) -> str:
    """The activity id of a check."""
    return f"check-{number}"


def check_number(activity_id: str) -> int | None:
    """The number that a check's activity id names; None for other activities."""
    _, dash, number = activity_id.partition("check-")
    return int(number) if dash and number.isdigit() else None


def summary_activity_id(number: int) -> str:
    """The activity id of a summary of old turns."""
    return f"summary-{number}"


def notices_activity_id(number: int) -> str:
    """The activity id of a batch of notices. Temporal's own would be numbers, as those of model calls are."""
    return f"notices-{number}"
