"""What operators see of a run without opening its history: the inbox memo, and the details in the Temporal Web UI."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Final

from pydantic import JsonValue

from assent.core.run_state import Run
from assent.views.commands import (
    Choice,
    choices,
    format_json,
    metadata_command,
    revoke_command,
    show_command,
    signal_command,
)
from assent.views.facts import (
    REMEMBER,
    active_grants,
    approval_options,
    caller_words,
    children_of,
    edit_of,
    facts_of,
    grant_words,
    may_reject_further,
    model_words,
    newest_calls,
    path_words,
)
from assent.views.json_layout import BROKEN, wrap_json, wrap_text
from assent.wire import limits
from assent.wire.digest import canonical, json_size
from assent.wire.protocol import REVOKE, ChildRun, RequirementKind, RunRequest
from assent.wire.requirements import Grant, IgnoredMessage, PendingRequirement, Requirement
from assent.wire.text import bounded, code, fenced, markdown, one_line

__all__ = ["call_summary", "details", "pending_memo", "signal_command"]

DETAILS_REQUIREMENTS: Final = 20
DETAILS_IGNORED: Final = 10
DETAILS_DECIDED: Final = 10
DETAILS_BEFORE: Final = 5
DETAILS_GRANTS: Final = 10
DETAILS_CHILDREN: Final = 20


MEMO_VOTERS: Final = 10
"""People who have approved a call that waits, whom the memo names."""


def pending_memo(requirements: Sequence[Requirement]) -> list[PendingRequirement]:
    """The memo entries of the requirements of a turn; what is too long is left out, and its size said.

    An entry depends on its requirement and on those before it, so that a decision leaves the others as they are.
    """
    left, room = limits.MEMO_TOTAL, limits.MEMO_APPROVERS
    entries: list[PendingRequirement] = []
    for requirement in requirements:
        size = _size(requirement.arguments)
        shown = size + (json_size(requirement.read_as) if requirement.read_as else 0)
        fits = shown <= min(limits.MEMO_ARGUMENTS, left)
        left -= shown if fits else 0
        names = _names_size(requirement.approvers)
        named = names <= room
        room -= names if named else 0
        entries.append(_entry(requirement, size, fits=fits, named=named))
    return entries


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _names_size(names: Sequence[str] | None) -> int:
    # Each name also takes two quotes and a comma.
    return sum(_size(name) + 3 for name in names or ())


def _entry(requirement: Requirement, size: int, *, fits: bool, named: bool) -> PendingRequirement:
    return PendingRequirement(
        id=requirement.id,
        kind=requirement.kind,
        call_id=requirement.call_id,
        tool=requirement.tool,
        nonce=requirement.nonce,
        created_at=requirement.created_at,
        turn=requirement.turn,
        arguments=requirement.arguments if fits else None,
        arguments_size=size,
        needed=requirement.needed,
        approved_by=requirement.approved_by[:MEMO_VOTERS],
        approval_type=requirement.approval_type,
        approvers=requirement.approvers if named else None,
        approvers_left_out=0 if named else len(requirement.approvers or ()),
        expires_at=requirement.expires_at,
        policy_version=requirement.policy_version,
        self_approval=requirement.self_approval,
        read_as=requirement.read_as if fits else None,
        binding=requirement.binding,
        proof=requirement.proof,
    )


def call_summary(arguments: str) -> str:
    """One line for the timeline, which names the tool itself: the beginning of the arguments."""
    text = one_line(arguments[: limits.SUMMARY_SHOWN])
    whole = len(arguments) <= limits.SUMMARY_SHOWN and len(text) <= limits.SUMMARY_SHOWN
    return text if whole else f"{text[: limits.SUMMARY_SHOWN - 1]}…"


# -- the details ------------------------------------------------------------------------------------------------------
# The Web UI's renderer (gomarkdown) lets HTML, links and images through, and makes a gap of two lines between blocks.
# So everything that comes from a model or a person is in a code span or block, and there are few blocks.


def details(run: Run, at: datetime | None = None) -> str:
    """The run's current details, in Markdown: what waits and how to decide it, what was decided, what did not count.

    The time *at* leaves out the grants that have expired by then.
    """
    pending = run.pending
    room = min(limits.DETAILS_ARGUMENTS, limits.DETAILS_TOTAL // max(1, min(len(pending), DETAILS_REQUIREMENTS)))
    parts = [_headline(run), *_parent_path(run)]
    if pending:
        parts += _context(run.context, limits.DETAILS_ARGUMENTS)
    parts += [_waiting(run, requirement, room) for requirement in pending[:DETAILS_REQUIREMENTS]]
    if len(pending) > DETAILS_REQUIREMENTS:
        hidden = len(pending) - DETAILS_REQUIREMENTS
        parts.append(f"**And {hidden} more**, which {_show_command(run.id)} shows.")
    parts += _child_runs(run)
    parts += _grants(run, at)
    parts += _decided_section(run)
    parts += _ignored_messages(run)
    if pending:
        parts += [*_before(run), *_model_text(run)]
    return "\n\n".join(parts)


def _headline(run: Run) -> str:
    agent = _code(run.call_context.agent) if run.request else "the agent"
    asks = (
        None if run.caller is None else markdown(caller_words(run.call_context.agent, run.caller), limits.DETAILS_NAME)
    )
    requester = f", requested by {_code(run.request.requested_by)}" if run.request and run.request.requested_by else ""
    if run.ended:
        turns = "1 turn" if run.turn == 1 else f"{run.turn} turns"
        why = (
            f": {code(bounded(f'{run.failure.kind}: {run.failure.message}', limits.DETAILS_WORDS))}"
            if run.failure
            else ""
        )
        done = f" after {turns} of {agent}" if asks is None else f", asked by {asks}"
        return f"**{run.status.capitalize()}**{done}{requester}{why}"
    waiting = len(run.pending)
    if run.status == "idle":
        return f"**Idle** after turn {run.turn} of {agent}{requester}; it waits for the next message"
    if not waiting:
        nothing = f"nothing waits for a person{_at_work(run)}"
        return f"**{run.status.capitalize()}**, {asks or f'turn {run.turn} of {agent}'}{requester}; {nothing}"
    calls = "1 call waits" if waiting == 1 else f"{waiting} calls wait"
    where = f"turn {run.turn} of {agent}" if asks is None else f"{asks} asks"
    return f"**{calls} for a decision**, {where}{requester}{_warning(run)}"


def _at_work(run: Run) -> str:
    below = len(children_of(run))
    if not below:
        return ""
    return f" in this run; {'1 child run is' if below == 1 else f'{below} child runs are'} active"


def _parent_path(run: Run) -> list[str]:
    """The path to a run that works for others."""
    above = run.request.parents if run.request else []
    if not above:
        return []
    path = markdown(path_words([*(each.agent for each in above), run.call_context.agent]), limits.DETAILS_NAME)
    commands = ", ".join(_show_command(each.run_id) for each in above)
    return [f"**Path:** {path}. Parent runs: {commands}"]


def _context(context: Mapping[str, JsonValue] | None, room: int) -> list[str]:
    """What the run was started with, beside its prompt."""
    if not context:
        return []
    text, is_cut = _cut(canonical(context).decode(), room)
    more = ["**Cut: this is only the beginning.** `assent show` has all of it."] if is_cut else []
    return [f"### Context of the run\n\n{fenced(text, 'json')}", *more]


def _cut(raw: str, room: int) -> tuple[str, bool]:
    """Lay JSON out in at most *room* characters; also return whether that is only the beginning."""
    text = wrap_json(raw[:room])
    is_cut = len(raw) > room or len(text) > room
    return f"{text[:room]}…" if is_cut else text, is_cut


def _child_runs(run: Run) -> list[str]:
    """The runs of other agents at work for this one: what waits in them is decided there alone."""
    below = children_of(run)
    lines = [_child(run, each) for each in below[:DETAILS_CHILDREN]]
    hidden = [f"and {len(below) - len(lines)} more"] if len(below) > len(lines) else []
    if not lines:
        return []
    shown = "\n".join(f"- {line}" for line in [*lines, *hidden])
    where = "What waits in their runs is decided there and nowhere else; the tab **Relationships** leads there."
    return [f"### Child runs\n\n{where}\n\n{shown}"]


def _child(run: Run, child: ChildRun) -> str:
    metadata = code(metadata_command(child.run_id, namespace=run.namespace))
    return f"{_code(child.agent)} in run {code(child.run_id)}: {_show_command(child.run_id)}, or {metadata}"


def _warning(run: Run) -> str:
    """Say first that a message had no effect: its sender looks for that."""
    if not run.ignored_messages:
        return ""
    newest = run.ignored_messages[-1]
    return f"\n**A message sent at {newest.at:%H:%M:%S} UTC did not count:** {_code(newest.detail)}"


def _code(text: str) -> str:
    return code(bounded(text, limits.DETAILS_NAME))


def _show_command(run_id: str) -> str:
    return code(show_command("assent", run_id))


ASKS: Final[dict[RequirementKind, str]] = {
    "confirmation": "Approve or reject",
    "external": "Carry out elsewhere, or reject",
    "input": "Fill in, or reject",
    "outcome": "Say what came of",
    "budget": "Extend the run's budget",
}
"""What a requirement asks a person for, by its kind."""


def _waiting(run: Run, requirement: Requirement, room: int) -> str:
    text, cut = _cut(requirement.arguments, room)
    lines = [
        f"### {ASKS[requirement.kind]}: {code(requirement.tool)}",
        *(["**Cut: read the whole before you decide.** More below."] if cut else []),
        fenced(text or "(no arguments)", "json"),
        "\n".join(f"- {term}" for term in _terms(run, requirement, None if cut else text)),
        _how_to_decide(run, requirement),
    ]
    return "\n\n".join(lines)


def _terms(run: Run, requirement: Requirement, text: str | None) -> Iterator[str]:
    yield _completeness(run, requirement, text)
    for fact in facts_of(requirement, run.requirements, run.requested_by):
        yield fact.lead + markdown(fact.words, limits.DETAILS_WORDS)
    if more := approval_options(requirement, run.caller):
        yield "`approve` may also have " + ", or ".join(more)
    if may_reject_further(requirement, run.caller):
        yield f"`reject` may also have {REMEMBER}, which rejects further calls of the tool"
    yield "To decide: **More Actions**, **Send a Signal**, choose one, paste its data with your own name for `NAME`, \
and **Submit** (again, if the dialog stays)"


def _completeness(run: Run, requirement: Requirement, text: str | None) -> str:
    """Whether the arguments are all there; *text* is None when they are not."""
    size = _size(requirement.arguments)
    if text is None:
        return f"**Cut: this is only the beginning of {size:,} bytes.** All of it: {_show_command(run.id)}"
    broken = f"; {BROKEN} ends a line that was broken to fit" if f"{BROKEN}\n" in text else ""
    return f"Exact arguments ({size:,} bytes; reformatted{broken})"


def _how_to_decide(run: Run, requirement: Requirement) -> str:
    ways = choices(requirement.kind, requirement.fields)
    # A bar would end the cell; JSON can spell it otherwise.
    data = [format_json(_body(requirement, way), ", ").replace("|", "\\u007c") for way in ways]
    rows = [f"| `{way.signal}` | {code(text)} |" for way, text in zip(ways, data, strict=True)]
    table = "\n".join(["| Signal | Data |", "|---|---|", *rows])
    commands = "\n\n".join(
        fenced(signal_command(run.id, way.signal, _body(requirement, way), namespace=run.namespace)) for way in ways
    )
    return f"{table}\n\nOr in a terminal:\n\n{commands}"


def _body(requirement: Requirement, way: Choice) -> dict[str, JsonValue]:
    return {"id": requirement.short_id, "by": "NAME", **way.body}


def _grants(run: Run, at: datetime | None) -> list[str]:
    if run.ended:
        return []
    active = active_grants(run.grants, at)
    return _section(
        "What is decided without asking", [_grant(run, each) for each in active[-DETAILS_GRANTS:]], len(active)
    )


def _grant(run: Run, grant: Grant) -> str:
    data: dict[str, JsonValue] = {"id": grant.short_id, "by": "NAME"}
    command = revoke_command("assent", run.id, grant.short_id)
    words = markdown(grant_words(grant), limits.DETAILS_NAME)
    return f"{words}. To end it, the signal `{REVOKE}` with {code(format_json(data, ', '))}, or {code(command)}"


def _decided_section(run: Run) -> list[str]:
    newest = (each for each in reversed(run.requirements) if each.status != "pending")
    shown = list(islice(newest, DETAILS_DECIDED))[::-1]
    total = len(run.requirements) + run.requirements_dropped - len(run.pending)
    return _section("Decided", [_decision(run, each) for each in shown], total)


def _decision(run: Run, requirement: Requirement) -> str:
    by = f" by {_code(requirement.resolved_by)}" if requirement.resolved_by else ""
    granted = f" before, by the grant {code(requirement.grant[:8])}" if requirement.grant else ""
    execution = f", {requirement.execution}" if requirement.execution else ""
    reason = f": {code(bounded(requirement.reason, limits.DETAILS_NAME))}" if requirement.reason else ""
    edit = edit_of(requirement, run.requirements)
    edited = f"; edited by {markdown(edit.words, limits.DETAILS_NAME)}" if edit else ""
    name = f"{code(requirement.tool)} {code(requirement.short_id)}"
    return f"{name} **{requirement.status}**{by}{granted}{execution}{reason}{edited}"


def _ignored_messages(run: Run) -> list[str]:
    shown = run.ignored_messages[-DETAILS_IGNORED:]
    lines = [f"{each.status}: {_code(each.detail)}; sent: {_code(_sent(each))}" for each in shown]
    return _section("Messages that did not count", lines, len(run.ignored_messages) + run.ignored_dropped)


def _sent(message: IgnoredMessage) -> str:
    return f"{message.name}({message.text})"


def _before(run: Run) -> list[str]:
    """What the run did before, by the answers that the model got."""
    past, total = newest_calls(run, DETAILS_BEFORE)
    shown = [f"{code(f'{call.tool}({call_summary(call.arguments)})')} → {_code(answer)}" for call, answer in past]
    return _section("Before this", shown, total)


def _model_text(run: Run) -> list[str]:
    words = model_words(run)
    if not words:
        return []
    return [f"### The model's own words (untrusted)\n\n{fenced(wrap_text(bounded(words, limits.DETAILS_WORDS)))}"]


def _section(title: str, lines: Sequence[str], total: int) -> list[str]:
    if not lines:
        return []
    hidden = total - len(lines)
    more = [f"and {hidden} older ones"] if hidden else []
    return [f"### {title}\n\n" + "\n".join(f"- {line}" for line in [*lines, *more])]


def request_summary(request: RunRequest) -> str:
    """The run in one line of Markdown."""
    if request.call is not None:
        return f"{code(request.agent)} asks: {code(request.call.tool)}"
    prompt = bounded(request.prompt, 200)
    return f"{code(request.agent)}: {code(prompt) if prompt.strip() else 'a conversation'}"


def request_details(request: RunRequest) -> str:
    """What the run was asked, and by whom, in Markdown."""
    requester = f"Requested by {code(request.requested_by)}.\n\n" if request.requested_by else ""
    if request.call is not None:
        asks = f"Workflow {code(request.agent)} asks people about {code(request.call.tool)}. {requester}"
        return f"{asks}Arguments:\n\n{fenced(wrap_json(bounded(request.call.arguments, 10_000)), 'json')}"
    context = "".join(f"\n\n{each}" for each in _context(request.context, limits.DETAILS_WORDS))
    head = f"Agent {code(request.agent)}. {requester}"
    if not request.prompt.strip():
        return f"{head}A conversation that begins with whatever is sent to it.{context}"
    return f"{head}Prompt:\n\n{fenced(wrap_text(bounded(request.prompt, 10_000)))}{context}"
