"""The transitions of a run, of a tool call and of a requirement: (status, event) -> status.

The rules change a status only through these tables, so a final status is never left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from assent.wire.protocol import RunStatus
from assent.wire.requirements import RequirementStatus

RunEvent = Literal["pause", "resume", "await_message", "take_message", "complete", "fail", "cancel"]
CallStatus = Literal["new", "waiting", "running", "delegated", "retrying", "answered"]
CallEvent = Literal[
    "deny", "allow", "ask", "approve", "reject", "submit_result", "expire", "decide",
    "return", "ask_again", "lose_worker", "retry_later", "retry", "delegate",
]  # fmt: skip
RequirementEvent = Literal["approve", "submit_input", "submit_result", "grant", "reject", "expire", "edit", "end_run"]

S = TypeVar("S", bound=str)
E = TypeVar("E", bound=str)


@dataclass(frozen=True, slots=True)
class Table(Generic[S, E]):
    """A state machine: it begins with the status *first*, and each of its *rows* is (status, event) -> status."""

    first: S
    rows: Mapping[tuple[S, E], S]

    def next(self, status: S, event: E) -> S:
        """Return the status that follows. Raises KeyError if the table has no such transition."""
        return self.rows[status, event]

    def diagram(self) -> str:
        """Return the table as a Mermaid state diagram; a status without a row for it is final."""
        events: dict[tuple[S, S], list[str]] = {}
        for (before, event), after in self.rows.items():
            events.setdefault((before, after), []).append(event)
        arrows = [f"    {before} --> {after}: {', '.join(names)}" for (before, after), names in events.items()]
        left = {before for before, _ in self.rows}
        final = dict.fromkeys(after for after in self.rows.values() if after not in left)
        return "\n".join(
            ["stateDiagram-v2", f"    [*] --> {self.first}", *arrows, *(f"    {each} --> [*]" for each in final)]
        )


RUN: Final[Table[RunStatus, RunEvent]] = Table(
    "running",
    {
        ("running", "pause"): "waiting",
        ("waiting", "resume"): "running",
        ("running", "await_message"): "idle",
        ("waiting", "await_message"): "idle",
        ("idle", "take_message"): "running",
        ("running", "complete"): "completed",
        ("waiting", "complete"): "completed",
        ("idle", "complete"): "completed",
        ("running", "fail"): "failed",
        ("waiting", "fail"): "failed",
        ("idle", "fail"): "failed",
        ("running", "cancel"): "cancelled",
        ("waiting", "cancel"): "cancelled",
        ("idle", "cancel"): "cancelled",
    },
)
"""A run. It pauses when only people can cause the next step; a conversation awaits the next message after an answer."""

CALL: Final[Table[CallStatus, CallEvent]] = Table(
    "new",
    {
        ("new", "deny"): "answered",
        ("new", "allow"): "running",
        ("new", "ask"): "waiting",
        ("waiting", "approve"): "running",
        ("waiting", "reject"): "answered",
        ("waiting", "submit_result"): "answered",
        ("waiting", "expire"): "answered",
        ("waiting", "decide"): "answered",
        ("running", "return"): "answered",
        ("running", "ask_again"): "waiting",
        ("running", "lose_worker"): "waiting",
        ("running", "retry_later"): "retrying",
        ("retrying", "retry"): "running",
        ("running", "delegate"): "delegated",
        ("delegated", "return"): "answered",
    },
)
"""A tool call of a live run. It returns a result, an error or a refusal; a delegated call waits for a child run.

`decide` is the approval of a call that runs nowhere here: workflow code asked only for the decision.
"""

REQUIREMENT: Final[Table[RequirementStatus, RequirementEvent]] = Table(
    "pending",
    {
        ("pending", "approve"): "approved",
        ("pending", "submit_input"): "approved",
        ("pending", "submit_result"): "approved",
        ("pending", "grant"): "approved",
        ("pending", "reject"): "rejected",
        ("pending", "expire"): "expired",
        ("pending", "edit"): "superseded",
        ("pending", "end_run"): "cancelled",
    },
)
"""A requirement. It is approved with the last vote that it needs."""
