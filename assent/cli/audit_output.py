"""Prints audits: the run, and each approval with the messages about it and its executions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from textwrap import wrap
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from assent.audit import records
from assent.audit.approval import is_recorded
from assent.audit.audit_tree import AuditedRun
from assent.cli.console import LABEL, NARROWEST, format_name, format_time, print_given, quoted, shorten
from assent.cli.console import field as print_field
from assent.views.commands import audit_command, format_json
from assent.views.facts import caller_words, grant_words, path_text
from assent.wire.protocol import COUNTED, Gate
from assent.wire.text import bounded, one_line, plain

CALL: Final = 16
"""Columns that a call has at least."""
CONTENT: Final = 500
"""Characters shown of a message that is about no call."""
ALL: Final = "(shortened; the history has all: temporal workflow show --output json)"
STYLES: Final = {
    "completed": "bold green", "approved": "bold", "executed": "", "failed": "red", "rejected": "bold", "lost": "red",
    "cancelled": "red", "terminated": "red", "timed out": "red", "expired": "red", "refused": "yellow", "ok": "green",
    "incomplete": "bold red", "differs": "bold red", "unverified": "yellow", "waiting": "bold yellow",
    "pending": "bold yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """An audit in print. It cites events by number, and by execution too if the run has several *executions*."""

    console: Console
    executions: Sequence[str] = field(default_factory=tuple)
    program: str = "assent"

    def say(self, label: str, *parts: str, style: str = "", label_style: str = "dim") -> None:
        """Print *parts*, which are Assent's own words, folded between words."""
        room = max(self.console.width, NARROWEST) - LABEL
        # Words are never broken, so that an id or a digest can be copied.
        for line in wrap(", ".join(parts), room, break_long_words=False, break_on_hyphens=False) or [""]:
            self.console.print(Text.assemble((f"{label:<{LABEL}}", label_style), (line, style)), soft_wrap=True)
            label = ""

    def quote(self, label: str, text: str) -> None:
        """Print text from outside."""
        quoted(self.console, label, text)

    def command(self, label: str, text: str) -> None:
        """Print a command to copy, in one line."""
        print_field(self.console, label, text)

    def digest(self, label: str, text: records.TextDigest, *, limit: int | None = None) -> None:
        """Print the beginning of a text, or all of it, with its size and digest."""
        shown = text.text if limit is None else bounded(text.text, limit)
        self.quote(label, shown)
        whole = text.size == len(shown.encode("utf-8", "surrogatepass"))
        self.say("", f"{text.size:,} bytes{'' if whole else f' {ALL}'}")
        self.say("sha256", text.sha256)

    def cited(self, events: Iterable[records.Citation]) -> str:
        """Return the numbers of events."""
        numbers = [self._cite(each) for each in events]
        return f"event{'s' * (len(numbers) != 1)} {', '.join(numbers)}"

    def _cite(self, event: records.Citation) -> str:
        if len(self.executions) < 2:
            return str(event.event_id)
        known = event.execution_id in self.executions
        return f"{self.executions.index(event.execution_id) + 1 if known else '?'}:{event.event_id}"


def print_separator(console: Console) -> None:
    """Print a line between two runs of a tree."""
    console.rule(characters="-" if console.options.ascii_only else "─", style="dim")


def print_path(console: Console, each: AuditedRun, missing: str) -> None:
    """Print the path to a run of a tree, and whether its history is missing."""
    print_field(console, "path", path_text(each.path), style="bold")
    if each.audit is None:
        print_field(console, "MISSING", f"{missing} {one_line(each.run_id)}", style="bold red")


def print_audit(console: Console, audit: records.Audit, program: str = "assent") -> None:
    """Print an audit: the run, its approvals in order, grants, messages about no call, and calls without approval.

    *program* begins the commands that audit its parent runs and child runs.
    """
    page = Page(console, audit.run.executions, program)
    _print_run(page, audit.run)
    shown = [record for record in audit.approvals if is_recorded(record)]
    if not shown:
        console.print()
        console.print("no records: no call of the run was decided or is pending")
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
        page.say("calls", "that needed no approval (--json has them whole):")
        for call in audit.calls:
            _print_call(page, call)


# -- the run ----------------------------------------------------------------------------------------------------------


def _print_run(page: Page, run: records.RunRecord) -> None:
    page.say("run", one_line(run.run_id), style="bold")
    page.say("status", run.status, style=STYLES.get(run.status, "bold yellow"))
    versions = [f"version {one_line(each)}" for each in run.agent_versions]
    for each in run.parents:
        call = f"{format_name(each.agent)} calls {format_name(each.tool)}"
        page.command("parent run", f"{call}: {audit_command(page.program, each.run_id)}")
    if run.caller is not None:
        page.say("workflow", f"{format_name(run.agent)} {one_line(run.caller)}".rstrip())
    else:
        page.say(
            "agent", format_name(run.agent), *versions, *(f"policy {one_line(each)}" for each in run.policy_versions)
        )
    if run.models:
        page.say("model", *map(format_name, run.models))
    page.say(
        "requester",
        format_name(run.requested_by),
        _sender(run.started_identity, run.started_principal, run.attribution),
    )
    ended = f"ended {format_time(run.closed_at)}" if run.closed_at else "has not ended"
    page.say("when", f"started {format_time(run.started_at)}", ended)
    usage = run.usage
    tokens = f"{usage.input_tokens:,} tokens in", f"{usage.output_tokens:,} out"
    if run.caller is None:
        page.say("usage", _count(run.turns, "turn"), _count(run.tool_calls, "tool call"), *tokens)
    _print_executions(page, run)
    if run.builds:
        page.say("builds", *map(format_name, run.builds))
    for label, text in _texts(run):
        page.digest(label, text)
    if run.error is not None:
        page.quote("error", run.error)


def _texts(run: records.RunRecord) -> Iterator[tuple[str, records.TextDigest]]:
    """Yield what the run was given and what it gave, with labels."""
    if run.caller is None:
        yield "prompt", run.input
    yield from (("instructed", each) for each in run.instructions)
    if run.context is not None:
        yield "context", run.context
    if run.answer is not None:
        yield "answer" if run.caller is None else "decision", run.answer


def _print_executions(page: Page, run: records.RunRecord) -> None:
    several = len(run.executions) > 1
    page.say("events", f"{run.history_events:,}{', cited as EXECUTION:EVENT' if several else ''}")
    for number, execution in enumerate(run.executions, 1):
        page.say("execution", f"{number}: {one_line(execution)}" if several else one_line(execution))
    for reset in run.resets:
        page.say("reset", f"{format_time(reset.at)} {reset.text}", style="bold yellow")
    for execution in run.missing:
        page.say("MISSING", f"execution {one_line(execution)} is gone", "the records lack it", style="bold red")


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _sender(identity: str | None, principal: str | None, attribution: str) -> str:
    """Describe the sender: the identity that it claimed, and the principal that the server authenticated."""
    claim = f"identity {format_name(identity)}" if identity else "no identity"
    if attribution == "differs":
        return f"{claim}, DIFFERS: the server saw {format_name(principal)}"
    seen = f": the server saw {format_name(principal)}" if principal else ""
    return f"{claim}, {attribution}{seen}"


# -- approvals --------------------------------------------------------------------------------------------------------


def _print_approval(page: Page, record: records.ApprovalRecord) -> None:
    title = Text.assemble(
        (f"{record.short_id:<{LABEL}}", "bold"), (one_line(record.tool), "bold"), f": {record.kind}, "
    )
    title.append(record.status, style=STYLES.get(record.status, ""))
    page.console.print(title, soft_wrap=True)
    page.say("id", record.id)
    plain_kind = _PLAIN_KINDS.get(record.kind, "a plain confirmation")
    page.say("type", record.approval_type or f"none: {plain_kind}")
    page.quote("arguments", record.arguments or "")
    if record.read_as:
        page.quote("in effect", format_json(record.read_as, ", "))
    page.say("sha256", record.arguments_sha256)
    if record.arguments_before is not None:
        page.quote("before", record.arguments_before)
    page.say("gate", *_gate(record.gate, record))
    call = (
        [f"in turn {record.context.turn}", f"call {format_name(record.context.call_id)}"]
        if record.caller is None
        else []
    )
    model = [f"model {format_name(record.model)}"] if record.model else []
    requester = f"for {format_name(record.requested_by)}"
    by = format_name(record.agent) if record.caller is None else plain(caller_words(record.agent, record.caller))
    page.say("asked", f"{format_time(record.created_at)} by {by}", *call, *model, requester)
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


_PLAIN_KINDS: Final = {"external": "a call made elsewhere", "budget": "an extension of the budget"}


def _gate(gate: Gate | None, record: records.ApprovalRecord) -> Iterator[str]:
    """Describe the gate's verdict on the model's call, and its policy."""
    if gate is not None:
        yield gate.verdict
    elif record.kind == "budget":
        yield "none: the run itself asks"
    elif record.follows is not None:
        yield "none of its own: it follows another requirement"
    else:
        yield "not known: the model's call is in a missing execution"
    if record.caller is None:
        yield f"policy {one_line(record.context.policy_version) or 'unknown'}"
    if record.agent_version:
        yield f"agent version {one_line(record.agent_version)}"


def _terms(record: records.ApprovalRecord) -> Iterator[tuple[str, str]]:
    """Describe the approvers, the deadline, and the record that it follows."""
    if record.approvers is not None:
        yield "decides", ", ".join(map(one_line, record.approvers)) or "no one; it can only be rejected"
    if record.needed > 1:
        yield "needs", f"{record.needed} people"
    if record.expires_at is not None:
        yield "until", f"{format_time(record.expires_at)}; after that, it counts as rejected"
    if record.grant is not None:
        yield "grant", f"{record.grant[:8]} decided it: it did not wait"
    if record.edited_by is not None:
        yield "edited", f"by {format_name(record.edited_by)}; it follows {(record.follows or '')[:8]}"
    elif record.follows is not None:
        yield "follows", record.follows[:8]


def _print_end(page: Page, record: records.ApprovalRecord) -> None:
    if record.resolved_at is not None:
        by = f" by {format_name(record.resolved_by)}" if record.resolved_by else ""
        submitted = record.kind == "external" and record.execution is not None
        how = "result submitted" if submitted else record.status
        page.say("resolved", f"{how}{by} at {format_time(record.resolved_at)}")
    for vote in record.votes:
        page.say("proof", vote.proof.verified.text if vote.proof else f"claimed by {format_name(vote.by)}")
    shown = any(run.result is not None for run in record.runs)
    if record.result is not None and not shown:
        page.quote(record.execution or "result", record.result)
    elif record.execution is not None and not record.runs:
        page.say("outcome", record.execution)


def _print_sent(page: Page, sent: records.SentMessage, *, content: bool = False) -> None:
    """Print a message: its outcome, sender, time, channel and reason."""
    counted = sent.status in COUNTED
    by = f" by {format_name(sent.by)}" if sent.by else ""
    style = "bold" if counted else "yellow"
    page.say("sent", f"{format_name(sent.name)}{by}", f"{'' if counted else 'ignored: '}{sent.status}", style=style)
    handled = _handled(sent.sent_at, sent.handled_at)
    page.say("", f"{format_time(sent.sent_at)}, {sent.channel}", handled, page.cited(sent.events))
    who = _sender(sent.identity, sent.principal, sent.attribution)
    page.say("", who, style="bold red" if sent.attribution == "differs" else "")
    if sent.detail and sent.detail != f"{sent.status} by {sent.by}":
        page.quote("", sent.detail)
    if sent.reason:
        page.quote("why", sent.reason)
    if content or sent.status == "unreadable":
        page.digest("content", sent.content, limit=CONTENT)


def _handled(sent: datetime, handled: datetime | None) -> str:
    if handled is None:
        return "no worker has read it"
    seconds = (handled - sent).total_seconds()
    return f"handled {seconds:,.2f} s later" if seconds > 0 else "handled at once"


# -- what ran ---------------------------------------------------------------------------------------------------------


def _print_tool_run(page: Page, run: records.ToolRun) -> None:
    attempts = f"attempt {run.attempts}" if run.attempts else "never started"
    took: list[str] = []
    if run.started_at and run.finished_at:
        took = [f"took {(run.finished_at - run.started_at).total_seconds():,.2f} s"]
    worker = [f"on worker {format_name(run.worker)}"] if run.worker else []
    build = [f"build {format_name(run.build)}"] if run.build else []
    at = run.started_at or run.scheduled_at
    when = f"{format_time(at)} " if at else ""
    page.say("ran", f"{when}{run.outcome}", attempts, *took, *worker, *build, page.cited(run.events))
    if run.last_failure:
        page.quote("before", run.last_failure)
    if run.child is not None:
        _print_child(page, run.child)
    if run.result is not None:
        page.digest(run.outcome, run.result)


def _print_child(page: Page, child: records.ChildRecord) -> None:
    """Print which agent answered a call, and the command that audits its child run."""
    usage = child.usage
    used = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out" if usage.requests else "usage not known"
    page.say("agent", f"{format_name(child.agent)} {child.outcome}", used, page.cited(child.events))
    if child.run_id is not None:
        page.command("child run", audit_command(page.program, child.run_id))


def _print_handoff(page: Page, handoff: records.HandoffRecord) -> None:
    """Print a handoff: the agents, the call, when it took effect, and the grants that it ended."""
    page.say("handoff", f"from {format_name(handoff.from_agent)} to {format_name(handoff.to_agent)}", style="bold")
    when = (
        f"took effect {format_time(handoff.at)}" if handoff.at is not None else "never took effect: the run ended first"
    )
    call = f"in turn {handoff.turn}", f"by call {format_name(handoff.call_id)} of {format_name(handoff.tool)}"
    page.say("", f"called {format_time(handoff.said_at)}", *call, when, page.cited(handoff.events))
    page.say("limited by", f"policy {one_line(handoff.bounded_by)}" if handoff.bounded_by else "its own policy only")
    if handoff.grants:
        page.say("ended", *(f"grant {each[:8]}" for each in handoff.grants))


def _print_call(page: Page, call: records.CallRecord) -> None:
    """Print a call in one line that counts hidden characters, with the events at which it was requested and ended."""
    room = page.console.width - LABEL
    outcome = ", ".join(map(_run_outcome, call.runs))
    if not call.runs:
        answer = one_line(call.told.text) if call.told else "it did not run"
        outcome = f"{call.gate.verdict}: {shorten(answer, max(room // 3, CALL))}"
    ends = [run.events[-1] for run in call.runs if run.events]
    tail = f" → {outcome} (turn {call.turn}, {page.cited([*call.events, *ends])})"
    text = shorten(f"{one_line(call.tool)}({one_line(call.arguments)})", max(room - cell_len(tail), CALL))
    page.console.print(f"{'':<{LABEL}}{text}{tail}", soft_wrap=True)
    for run in call.runs:
        if run.child is not None:
            _print_child(page, run.child)


def _run_outcome(run: records.ToolRun) -> str:
    size = f" {run.result.size:,} bytes" if run.result else ""
    attempts = f", attempt {run.attempts}" if run.attempts > 1 else ""
    return f"{run.outcome}{size}{attempts}"


def _print_grant(page: Page, grant: records.GrantRecord) -> None:
    page.say(grant.short_id, f"grant {plain(grant_words(grant))}", style="bold")
    page.say("given", f"{format_time(grant.at)} with {grant.requirement_id[:8]}", page.cited([grant.given]))
    used = ", ".join(each[:8] for each in grant.approvals)
    page.say("uses", f"{grant.used}{f': {used}' if used else ''}")
    if grant.revoked_at is not None:
        by = f" by {format_name(grant.revoked_by)}" if grant.revoked_by is not None else ""
        page.say("revoked" if grant.revoked_by is not None else "ended", f"{format_time(grant.revoked_at)}{by}")
    if grant.reason:
        page.quote("why", grant.reason)
    for sent in grant.decisions:
        _print_sent(page, sent)
