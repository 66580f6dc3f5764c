"""What `assent audit` prints: the run, and each approval with all that was sent about it and what ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from assent.audit.approval import is_recorded
from assent.audit.records import (
    ApprovalRecord,
    Audit,
    CallRecord,
    ChildRecord,
    Citation,
    GrantRecord,
    HandoffRecord,
    RunRecord,
    SentMessage,
    TextDigest,
    ToolRun,
)
from assent.cli.console import LABEL, NARROWEST, fit, moment, named, print_given, quoted
from assent.views.commands import audit_command
from assent.views.facts import grant_words
from assent.wire.protocol import Gate
from assent.wire.text import bounded, one_line, plain

CALL: Final = 16
"""Columns that a call must at least have."""
CONTENT: Final = 500
"""Characters of a message that could not be placed that are shown."""
ALL: Final = "(shortened here; whole in the history: temporal workflow show --output json)"
_COUNTED: Final = frozenset({"approved", "rejected", "executed", "failed", "recorded"})
STYLES: Final = {
    "completed": "bold green", "approved": "bold", "executed": "", "failed": "red", "rejected": "bold", "lost": "red",
    "cancelled": "red", "terminated": "red", "timed out": "red", "expired": "red", "refused": "yellow", "ok": "green",
    "incomplete": "bold red", "differs": "bold red", "unverified": "yellow", "waiting": "bold yellow",
    "pending": "bold yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """Where an audit is printed, and how its events are cited: by execution too, where there are several."""

    console: Console
    executions: Sequence[str] = field(default_factory=tuple)
    program: str = "assent"

    def say(self, label: str, *parts: str, style: str = "") -> None:
        """A line of Assent's own words; where the parts do not fit into one, they go on in the next."""
        self._lines(label, _filled(parts, ", ", self._room), style)

    def prose(self, label: str, text: str, *, style: str = "", label_style: str = "") -> None:
        """A sentence of Assent's own, or with names in it that are escaped; folded between words."""
        self._lines(label, _filled(text.split(" "), " ", self._room), style, label_style)

    @property
    def _room(self) -> int:
        return max(self.console.width, NARROWEST) - LABEL

    def _lines(self, label: str, lines: Iterable[str], style: str, label_style: str = "dim") -> None:
        for number, line in enumerate(lines):
            head = f"{'' if number else label:<{LABEL}}"
            self.console.print(Text.assemble((head, label_style), (line, style)), soft_wrap=True)

    def command(self, label: str, text: str) -> None:
        """A command, in one line whatever the width, so that it can be copied."""
        self._lines(label, [text], "")

    def quote(self, label: str, text: str) -> None:
        """Text of somebody else's making."""
        quoted(self.console, label, text)

    def digest(self, label: str, found: TextDigest) -> None:
        """The beginning of a text, or all of it, and what the whole is."""
        self.quote(label, found.text)
        whole = found.size == len(found.text.encode("utf-8", "surrogatepass"))
        self.prose("", f"{found.size:,} bytes{'' if whole else f' {ALL}'}")
        self.say("sha256", found.sha256)

    def cited(self, events: Iterable[Citation]) -> str:
        """Events by their numbers."""
        known = [self._cite(each) for each in events]
        return f"event{'s' * (len(known) != 1)} {', '.join(known)}"

    def _cite(self, event: Citation) -> str:
        if len(self.executions) < 2:
            return str(event.event_id)
        known = event.execution_id in self.executions
        return f"{self.executions.index(event.execution_id) + 1 if known else '?'}:{event.event_id}"


def print_audit(console: Console, audit: Audit, program: str = "assent") -> None:
    """The whole audit: the run, its approvals in order, grants, messages about nothing, calls that needed nobody.

    *program* begins the commands that audit the runs above and below.
    """
    page = Page(console, audit.run.executions, program)
    _print_run(page, audit.run)
    shown = [record for record in audit.approvals if is_recorded(record)]
    if not shown:
        console.print()
        console.print("no records: no call in it was decided or waits")
    for record in shown:
        console.print()
        _print_approval(page, record)
    for grant in audit.grants:
        console.print()
        _print_grant(page, grant)
    for handoff in audit.handoffs:
        console.print()
        _print_handoff(page, handoff)
    if audit.messages:
        console.print()
        for message in audit.messages:
            _print_sent(page, message, content=True)
    if audit.calls:
        console.print()
        page.say("nobody", "was asked about these calls (--json has them whole):")
        for call in audit.calls:
            _print_call(page, call)


def _filled(parts: Iterable[str], joint: str, width: int) -> Iterator[str]:
    """*parts*, joined, in as many lines as they need."""
    line = ""
    for part in parts:
        longer = f"{line}{joint}{part}" if line else part
        if line and cell_len(longer) > width:
            yield line + joint.rstrip()
            longer = part
        line = longer
    yield line


# -- the run ----------------------------------------------------------------------------------------------------------


def _print_run(page: Page, run: RunRecord) -> None:
    page.say("run", one_line(run.run_id), style="bold")
    page.say("status", run.status, style=STYLES.get(run.status, "bold yellow"))
    versions = [f"version {one_line(each)}" for each in run.agent_versions]
    for each in run.parents:
        page.command(
            "above", f"{named(each.agent)} calls {named(each.tool)}: {audit_command(page.program, each.run_id)}"
        )
    page.say("agent", named(run.agent), *versions, *(f"policy {one_line(each)}" for each in run.policy_versions))
    if run.models:
        page.say("model", *map(named, run.models))
    page.say("asked by", named(run.requested_by), _who(run.started_identity, run.started_principal, run.attribution))
    ended = f"ended {moment(run.closed_at)}" if run.closed_at else "has not ended"
    page.say("when", f"began {moment(run.started_at)}", ended)
    usage = run.usage
    tokens = f"{usage.input_tokens:,} tokens in", f"{usage.output_tokens:,} out"
    page.say("usage", _many(run.turns, "turn"), _many(run.tool_calls, "tool call"), *tokens)
    _print_executions(page, run)
    if run.builds:
        page.say("builds", *map(named, run.builds))
    page.digest("prompt", run.input)
    if run.answer is not None:
        page.digest("answer", run.answer)
    if run.error is not None:
        page.quote("error", run.error)


def _print_executions(page: Page, run: RunRecord) -> None:
    several = len(run.executions) > 1
    said = f"{run.history_events:,}, cited as EXECUTION:EVENT" if several else f"{run.history_events:,}"
    page.say("events", said)
    for number, execution in enumerate(run.executions, 1):
        page.say("execution", f"{number}: {one_line(execution)}" if several else one_line(execution))
    for execution in run.missing:
        page.say("MISSING", f"execution {one_line(execution)} is gone", "the records lack it", style="bold red")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _who(identity: str | None, principal: str | None, attribution: str) -> str:
    """Who the sending program said it was, and who the server saw."""
    said = f"identity {named(identity)}" if identity else "no identity"
    if attribution == "differs":
        return f"{said}, DIFFERS: the server saw {named(principal)}"
    seen = f": the server saw {named(principal)}" if principal else ""
    return f"{said}, {attribution}{seen}"


# -- approvals --------------------------------------------------------------------------------------------------------


def _print_approval(page: Page, record: ApprovalRecord) -> None:
    title = Text.assemble(
        (f"{record.short_id:<{LABEL}}", "bold"), (one_line(record.tool), "bold"), f": {record.kind}, "
    )
    title.append(record.status, style=STYLES.get(record.status, ""))
    page.console.print(title, soft_wrap=True)
    page.say("id", record.id)
    plainly = _PLAINLY.get(record.kind, "a plain confirmation")
    page.say("type", record.approval_type or f"none: {plainly}")
    page.quote("arguments", record.arguments or "")
    page.say("sha256", record.arguments_sha256)
    if record.arguments_before is not None:
        page.quote("before", record.arguments_before)
    page.say("gate", *_gate(record.gate, record))
    asked = f"in turn {record.context.turn}", f"call {named(record.context.call_id)}"
    page.say("asked", f"{moment(record.created_at)} by {named(record.agent)}", *asked, *_model(record))
    for label, text in _terms(record):
        page.say(label, text)
    if record.note:
        page.quote("note", record.note)
    for sent in record.decisions:
        _print_sent(page, sent)
    print_given(page.console, record)
    _print_end(page, record)
    for run in record.runs:
        _print_tool_run(page, run)
    resolved = f"resolved by {page.cited([record.resolved])}" if record.resolved else "not resolved"
    page.say("events", f"opened by {page.cited([record.opened])}", resolved)


_PLAINLY: Final = {"external": "a call made elsewhere", "budget": "the run's own question"}


def _gate(gate: Gate | None, record: ApprovalRecord) -> Iterator[str]:
    """What the gate said when the model asked, and under which policy."""
    gone = "not known: what the model asked is in an execution that is missing"
    after = gone if record.follows is None else "none of its own: it came after another requirement"
    if record.kind == "budget":
        after = "none: the run asks for itself"
    yield gate.verdict if gate else after
    yield f"policy {one_line(record.context.policy_version) or 'unknown'}"
    if record.agent_version:
        yield f"agent version {one_line(record.agent_version)}"


def _model(record: ApprovalRecord) -> Iterator[str]:
    if record.model:
        yield f"model {named(record.model)}"
    yield f"for {named(record.requested_by)}"


def _terms(record: ApprovalRecord) -> Iterator[tuple[str, str]]:
    """Who may decide and by when, and which record it came after."""
    if record.approvers is not None:
        yield "decides", ", ".join(map(one_line, record.approvers)) or "nobody; it can only be rejected"
    if record.needed > 1:
        yield "takes", f"{record.needed} people"
    if record.expires_at is not None:
        yield "until", f"{moment(record.expires_at)}; then silence is a rejection"
    if record.grant is not None:
        yield "grant", f"{record.grant[:8]} let it through: it did not wait"
    if record.edited_by is not None:
        yield "edited", f"by {named(record.edited_by)}; before, it was {(record.follows or '')[:8]}"
    elif record.follows is not None:
        yield "follows", record.follows[:8]


def _print_end(page: Page, record: ApprovalRecord) -> None:
    if record.resolved_at is not None:
        by = f" by {named(record.resolved_by)}" if record.resolved_by else ""
        handed_in = record.kind == "external" and record.execution is not None
        page.say(
            "resolved", f"{'result handed in' if handed_in else record.status}{by} at {moment(record.resolved_at)}"
        )
    shown = any(run.result is not None for run in record.runs)
    if record.result is not None and not shown:
        page.quote(record.execution or "result", record.result)
    elif record.execution is not None and not record.runs:
        page.say("came to", record.execution)


def _print_sent(page: Page, sent: SentMessage, *, content: bool = False) -> None:
    """Something that was sent: what it came to, who, when, by which way, and why."""
    counted = sent.status in _COUNTED
    by = f" by {named(sent.by)}" if sent.by else ""
    style = "bold" if counted else "yellow"
    page.say("sent", f"{named(sent.name)}{by}", f"{'' if counted else 'no effect: '}{sent.status}", style=style)
    handled = _handled(sent.sent_at, sent.handled_at)
    page.say("", f"{moment(sent.sent_at)}, {sent.channel}", handled, page.cited(sent.events))
    who = _who(sent.identity, sent.principal, sent.attribution)
    page.say("", who, style="bold red" if sent.attribution == "differs" else "")
    if sent.detail and sent.detail != f"{sent.status} by {sent.by}":
        page.quote("", sent.detail)
    if sent.reason:
        page.quote("why", sent.reason)
    if content or sent.status == "unreadable":
        shown = bounded(sent.content.text, CONTENT)
        whole = sent.content.size == len(shown.encode("utf-8", "surrogatepass"))
        page.quote("content", shown)
        page.prose("", f"{sent.content.size:,} bytes{'' if whole else f' {ALL}'}")
        page.say("sha256", sent.content.sha256)


def _handled(sent: datetime, handled: datetime | None) -> str:
    if handled is None:
        return "no worker has read it"
    seconds = (handled - sent).total_seconds()
    return f"handled {seconds:,.2f} s later" if seconds > 0 else "handled at once"


# -- what ran ---------------------------------------------------------------------------------------------------------


def _print_tool_run(page: Page, run: ToolRun) -> None:
    attempts = f"attempt {run.attempts}" if run.attempts else "never started"
    worker = [f"on worker {named(run.worker)}"] if run.worker else []
    build = [f"build {named(run.build)}"] if run.build else []
    took = [_took(run)] if run.started_at and run.finished_at else []
    when = _when(run)
    page.say("ran", f"{when}{run.outcome}", attempts, *took, *worker, *build, page.cited(run.events))
    if run.last_failure:
        page.quote("before", run.last_failure)
    if run.child is not None:
        _print_child(page, run.child)
    if run.result is not None:
        page.digest(run.outcome, run.result)


def _print_child(page: Page, child: ChildRecord) -> None:
    """Which agent answered a call, in a run that has an audit of its own."""
    usage = child.usage
    used = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out" if usage.requests else "no usage known"
    page.say("agent", f"{named(child.agent)} {child.outcome}", used, page.cited(child.events))
    if child.run_id is not None:
        page.command("below", audit_command(page.program, child.run_id))


def _print_handoff(page: Page, handoff: HandoffRecord) -> None:
    """That another agent took the conversation over, by which call, and what ended with that."""
    page.say("handoff", f"from {named(handoff.from_agent)} to {named(handoff.to_agent)}", style="bold")
    when = f"took effect {moment(handoff.at)}" if handoff.at is not None else "never took effect: the run ended first"
    call = f"in turn {handoff.turn}", f"by call {named(handoff.call_id)} of {named(handoff.tool)}"
    page.say("", f"said {moment(handoff.said_at)}", *call, when, page.cited(handoff.events))
    page.say("bounded by", f"policy {one_line(handoff.bounded_by)}" if handoff.bounded_by else "no policy but its own")
    if handoff.grants:
        page.say("ended", *(f"grant {each[:8]}" for each in handoff.grants))


def _when(run: ToolRun) -> str:
    at = run.started_at or run.scheduled_at
    return f"{moment(at)} " if at else ""


def _took(run: ToolRun) -> str:
    begun, ended = (
        run.started_at or datetime.min.replace(tzinfo=UTC),
        run.finished_at or datetime.min.replace(tzinfo=UTC),
    )
    return f"took {(ended - begun).total_seconds():,.2f} s"


def _print_call(page: Page, call: CallRecord) -> None:
    """One line, in which what is hidden is counted: the events by which it was asked for, and by which it was over."""
    room = page.console.width - LABEL
    came = ", ".join(_came(run) for run in call.runs)
    if not call.runs:
        told = one_line(call.told.text) if call.told else "it did not run"
        came = f"{call.gate.verdict}: {fit(told, max(room // 3, CALL))}"
    ends = [run.events[-1] for run in call.runs if run.events]
    tail = f" → {came} (turn {call.turn}, {page.cited([*call.events, *ends])})"
    text = fit(f"{one_line(call.tool)}({one_line(call.arguments)})", max(room - cell_len(tail), CALL))
    page.console.print(f"{'':<{LABEL}}{text}{tail}", soft_wrap=True)
    for run in call.runs:
        if run.child is not None:
            _print_child(page, run.child)


def _came(run: ToolRun) -> str:
    size = f" {run.result.size:,} bytes" if run.result else ""
    often = f", attempt {run.attempts}" if run.attempts > 1 else ""
    return f"{run.outcome}{size}{often}"


def _print_grant(page: Page, grant: GrantRecord) -> None:
    page.say(grant.short_id, f"grant {plain(grant_words(grant))}", style="bold")
    page.say("given", f"{moment(grant.at)} with {grant.requirement_id[:8]}", page.cited([grant.given]))
    used = ", ".join(each[:8] for each in grant.approvals)
    page.say("uses", f"{grant.used}{f': it let {used} through' if used else ''}")
    if grant.revoked_at is not None:
        by = f" by {named(grant.revoked_by)}" if grant.revoked_by is not None else ""
        page.say("revoked" if grant.revoked_by is not None else "ended", f"{moment(grant.revoked_at)}{by}")
    if grant.reason:
        page.quote("why", grant.reason)
    for sent in grant.decisions:
        _print_sent(page, sent)
