"""Descriptions of each signal, update and query of a run for Temporal's Web UI."""

from typing import Final

APPROVE: Final = 'Approve a call that waits. Input: {"id": "FIRST 8 DIGITS", "by": "YOUR NAME"}'
REJECT: Final = 'Reject a call that waits. Input: {"id": "FIRST 8 DIGITS", "by": "YOUR NAME", "reason": "WHY"}'
RESULT: Final = (
    'Hand in the result of a call made elsewhere. Input: {"id": "…", "by": "YOUR NAME", "output": …} or "error"'
)
INPUT: Final = 'Fill in what a tool asks of a person. Input: {"id": "…", "by": "YOUR NAME", "values": {…}}'
REVOKE: Final = 'End a decision that was remembered. Input: {"id": "FIRST 8 DIGITS OF THE GRANT", "by": "YOUR NAME"}'
MESSAGE: Final = 'Tell the model something more. Input: {"content": "TEXT", "by": "YOUR NAME"}'
CLOSE: Final = 'End a conversation, with its last answer. Input: {"by": "YOUR NAME"}'
OTHER: Final = "Internal: unknown signals, which change nothing. Do not use."
DECIDE: Final = (
    'Decide, and be answered. Input: {"id": "…", "by": "YOUR NAME", "verdict": "approve"}, or "reject" and "reason". '
    "The Web UI does not show the answer: see the run's details for the outcome"
)
DELIVER: Final = "Hand in a result or values, and be answered. Input: as submit_result or submit_input"
STATE: Final = "What the run is doing, what waits, what was decided, and which messages did not count."
