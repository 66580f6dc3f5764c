"""Approval records as rows of a CSV table, with fixed columns and without formulas."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from assent.audit.records import ApprovalRecord, SentMessage, ToolRun
from assent.wire.digest import canonical
from assent.wire.protocol import COUNTED
from assent.wire.text import one_line

_ACTIVE: Final = frozenset("=+-@\uff1d\uff0b\uff0d\uff20'")
"""The first characters of formulas, with their wide forms; and the apostrophe, which marks text."""

Cell = str | int | datetime | None
_Column = Callable[[ApprovalRecord], Cell]

COLUMNS: Final[dict[str, _Column]] = {
    "run_id": lambda record: record.run_id,
    "id": lambda record: record.id,
    "agent": lambda record: record.agent,
    "agent_version": lambda record: record.agent_version,
    "model": lambda record: record.model,
    "requested_by": lambda record: record.requested_by,
    "turn": lambda record: record.context.turn,
    "call_id": lambda record: record.context.call_id,
    "tool": lambda record: record.tool,
    "arguments": lambda record: record.arguments,
    "arguments_sha256": lambda record: record.arguments_sha256,
    "arguments_before": lambda record: record.arguments_before,
    "edited_by": lambda record: record.edited_by,
    "follows": lambda record: record.follows,
    "kind": lambda record: record.kind,
    "approval_type": lambda record: record.approval_type,
    "gate": lambda record: record.gate.verdict if record.gate else None,
    "policy_version": lambda record: record.context.policy_version,
    "note": lambda record: record.note,
    "needed": lambda record: record.needed,
    "approvers": lambda record: None if record.approvers is None else _json_list(record.approvers),
    "created_at": lambda record: record.created_at,
    "expires_at": lambda record: record.expires_at,
    "status": lambda record: record.status,
    "resolved_at": lambda record: record.resolved_at,
    "resolved_by": lambda record: record.resolved_by,
    "reason": lambda record: record.reason,
    "grant": lambda record: record.grant,
    "decided_by_way_of": lambda record: _of_the_decision(record, lambda sent: sent.channel),
    "decided_identity": lambda record: _of_the_decision(record, lambda sent: sent.identity),
    "decided_principal": lambda record: _of_the_decision(record, lambda sent: sent.principal),
    "attribution": lambda record: _of_the_decision(record, lambda sent: sent.attribution),
    "sent": lambda record: len(record.decisions),
    "not_counted": lambda record: sum(sent.status not in COUNTED for sent in record.decisions),
    "votes": lambda record: _json_list(f"{vote.verdict} by {vote.by}" for vote in record.votes),
    "execution": lambda record: record.execution,
    "tool_runs": lambda record: len(record.runs),
    "outcome": lambda record: _of_the_run(record, lambda run: run.outcome),
    "started_at": lambda record: _of_the_run(record, lambda run: run.started_at),
    "finished_at": lambda record: _of_the_run(record, lambda run: run.finished_at),
    "attempts": lambda record: _of_the_run(record, lambda run: run.attempts),
    "worker": lambda record: _of_the_run(record, lambda run: run.worker),
    "result": lambda record: record.result,
    "result_size": lambda record: _of_the_run(record, lambda run: run.result.size if run.result else None),
    "result_sha256": lambda record: _of_the_run(record, lambda run: run.result.sha256 if run.result else None),
    "opened_execution_id": lambda record: record.opened.execution_id,
    "opened_event": lambda record: record.opened.event_id,
    "resolved_execution_id": lambda record: record.resolved.execution_id if record.resolved else None,
    "resolved_event": lambda record: record.resolved.event_id if record.resolved else None,
    "child_run_id": lambda record: _of_the_run(record, lambda run: run.child.run_id if run.child else None),
    "child_agent": lambda record: _of_the_run(record, lambda run: run.child.agent if run.child else None),
    "child_outcome": lambda record: _of_the_run(record, lambda run: run.child.outcome if run.child else None),
    "handed_over_to": lambda record: _of_the_run(record, lambda run: run.handoff),
}
"""The columns in order, and how to read each. New ones come last."""


def rows(records: Iterable[ApprovalRecord]) -> Iterable[list[str]]:
    """Yield the head of the table, then one row for each record."""
    yield list(COLUMNS)
    for record in records:
        yield [cell(column(record)) for column in COLUMNS.values()]


def cell(value: Cell) -> str:
    """Return a value as text for a spreadsheet: one line, without hidden characters, and never a formula.

    Text that begins with `=`, `+`, `-`, `@` or an apostrophe gets an apostrophe in front, which marks text in
    spreadsheets; removing one always restores the text. Control, bidi and invisible characters, tabs and line ends
    become escapes. Times are ISO 8601.
    """
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int):
        return str(value)
    text = one_line(value)
    return f"'{text}" if text[:1] in _ACTIVE else text


def _json_list(values: Iterable[str]) -> str:
    """Return several texts for one cell, as a JSON list, so that no name can hold the separator."""
    return canonical(list(values)).decode("utf-8", "surrogatepass")


def _decision(record: ApprovalRecord) -> SentMessage | None:
    """Return the message that decided the requirement; None if a deadline, a grant or the run's end did."""
    if record.resolved is None:
        return None
    counted: Sequence[SentMessage] = [sent for sent in record.decisions if sent.status in COUNTED]
    return counted[-1] if counted and record.resolved_by is not None else None


def _of_the_decision(record: ApprovalRecord, what: Callable[[SentMessage], Cell]) -> Cell:
    sent = _decision(record)
    return None if sent is None else what(sent)


def _of_the_run(record: ApprovalRecord, what: Callable[[ToolRun], Cell]) -> Cell:
    return what(record.runs[-1]) if record.runs else None
