"""What operators see of a run without opening its history: the inbox memo, and the details in the Temporal Web UI.

Pure; safe in workflow code.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import JsonValue

from assent.conversation import ToolCall, text_of, tool_calls
from assent.layout import BROKEN, laid_out, wrapped
from assent.protocol import APPROVE, REJECT, SUBMIT_INPUT, SUBMIT_RESULT, Item, RequirementKind
from assent.render import bounded, code, fenced, one_line
from assent.requirements import Attempt, PendingRequirement, Requirement
from assent.run import Run

MEMO_ARGUMENTS: Final = 2_048
"""Bytes of arguments that one requirement may put into the memo; longer ones are one command away."""
MEMO_TOTAL: Final = 32_768
"""Bytes of arguments that all requirements of a run may put into the memo together."""
DETAILS_ARGUMENTS: Final = 16_384
"""Characters of one requirement's arguments in the details."""
DETAILS_TOTAL: Final = 65_536
"""Characters of all arguments in the details: the Web UI fetches the rendered details by a URL of at most 1 MiB."""
DETAILS_REQUIREMENTS: Final = 20
DETAILS_WORDS: Final = 2_000
DETAILS_NAME: Final = 300
DETAILS_ATTEMPTS: Final = 10
DETAILS_DECIDED: Final = 10
DETAILS_BEFORE: Final = 5
SUMMARY: Final = 80
"""Characters of a timeline label; a longer one runs over the edge of the timeline at its beginning."""


def pending_memo(requirements: Sequence[Requirement]) -> list[PendingRequirement]:
    """The memo entries of what waits. Arguments that are too long are left out, and their size is said."""
    left = MEMO_TOTAL
    entries: list[PendingRequirement] = []
    for requirement in requirements:
        size = len(requirement.arguments.encode("utf-8", "surrogatepass"))
        fits = size <= min(MEMO_ARGUMENTS, left)
        left -= size if fits else 0
        entries.append(_entry(requirement, size, fits=fits))
    return entries


def _entry(requirement: Requirement, size: int, *, fits: bool) -> PendingRequirement:
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
        approved_by=[vote.by for vote in requirement.votes],
        approval_type=requirement.approval_type,
        approvers=requirement.approvers,
        expires_at=requirement.expires_at,
        policy_version=requirement.policy_version,
    )


def call_summary(arguments: str) -> str:
    """One line for the timeline, which names the tool itself: the beginning of the arguments."""
    text = one_line(arguments[:SUMMARY])
    whole = len(arguments) <= SUMMARY and len(text) <= SUMMARY
    return text if whole else f"{text[: SUMMARY - 1]}…"


def signal_command(workflow_id: str, name: str, body: dict[str, JsonValue], *, namespace: str = "default") -> str:
    """The `temporal` command that sends a signal, over three lines, ready to paste into bash, zsh or ksh."""
    lines = [
        f"temporal workflow signal --name {name}{_namespace(namespace)}",
        f"  --workflow-id {_quoted(workflow_id)}",
        f"  --input {_quoted(_typed(body, ','))}",
    ]
    return " \\\n".join(lines)


def _namespace(namespace: str) -> str:
    return "" if namespace == "default" else f" --namespace {_quoted(namespace)}"


def _typed(body: dict[str, JsonValue], comma: str) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(comma, ":"))


def _quoted(text: str) -> str:
    """*text* quoted for a shell; what would not show, as octal bytes."""
    if one_line(text) == text:
        return shlex.quote(text)
    escaped = "".join(_octal(character) for character in text)
    return f"$'{escaped}'"


def _octal(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if one_line(character) == character:
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogatepass"))


# -- the details ------------------------------------------------------------------------------------------------------
# The Web UI's renderer (gomarkdown) lets HTML, links and images through, and makes a gap of two lines between blocks.
# So everything that comes from a model or a person is in a code span or block, and there are few blocks.


def details(run: Run) -> str:
    """The run's current details, in Markdown: what waits and how to decide it, what was decided, what did not count."""
    pending = run.pending
    room = min(DETAILS_ARGUMENTS, DETAILS_TOTAL // max(1, min(len(pending), DETAILS_REQUIREMENTS)))
    parts = [_headline(run)]
    parts += [_waiting(run, requirement, room) for requirement in pending[:DETAILS_REQUIREMENTS]]
    if len(pending) > DETAILS_REQUIREMENTS:
        hidden = len(pending) - DETAILS_REQUIREMENTS
        parts.append(f"**And {hidden} more**, which {_show_command(run)} shows.")
    parts += _decided(run)
    parts += _attempts(run)
    if pending:
        parts += [*_before(run), *_words(run)]
    return "\n\n".join(parts)


def _headline(run: Run) -> str:
    agent = code(bounded(run.request.agent, DETAILS_NAME)) if run.request else "the agent"
    asker = f", asked for by {_name(run.request.requested_by)}" if run.request and run.request.requested_by else ""
    if run.ended:
        turns = "1 turn" if run.turn == 1 else f"{run.turn} turns"
        why = f": {code(bounded(f'{run.failure.kind}: {run.failure.message}', DETAILS_WORDS))}" if run.failure else ""
        return f"**{run.status.capitalize()}** after {turns} of {agent}{asker}{why}"
    waiting = len(run.pending)
    if not waiting:
        return f"**{run.status.capitalize()}**, turn {run.turn} of {agent}{asker}; nothing waits for a person"
    calls = "1 call waits" if waiting == 1 else f"{waiting} calls wait"
    return f"**{calls} for a decision**, turn {run.turn} of {agent}{asker}{_warning(run)}"


def _warning(run: Run) -> str:
    """Whoever looks after sending something wants to know first of all that it did not count."""
    if not run.attempts:
        return ""
    newest = run.attempts[-1]
    return f"\n**A message sent at {newest.at:%H:%M:%S} UTC did not count:** {_bounded_code(newest.detail)}"


def _name(name: str) -> str:
    return code(bounded(name, DETAILS_NAME))


def _show_command(run: Run) -> str:
    return code(f"assent show {_quoted(run.id)}")


_ASKS: Final[dict[RequirementKind, str]] = {
    "confirmation": "Approve or reject",
    "external": "Carry out elsewhere, or reject",
    "input": "Fill in, or reject",
    "outcome": "Say what came of",
}


def _waiting(run: Run, requirement: Requirement, room: int) -> str:
    raw = requirement.arguments
    text = laid_out(raw[:room])
    cut = len(raw) > room or len(text) > room
    shown = f"{text[:room]}…" if cut else text or "(no arguments)"
    lines = [
        f"### {_ASKS[requirement.kind]}: {code(requirement.tool)}",
        *(["**Cut: read the whole before you decide.** More below."] if cut else []),
        fenced(shown, "json"),
        "\n".join(f"- {term}" for term in _terms(run, requirement, None if cut else text)),
        _how(run, requirement),
    ]
    return "\n\n".join(lines)


def _terms(run: Run, requirement: Requirement, text: str | None) -> Iterator[str]:
    yield _completeness(run, requirement, text)
    if requirement.note:
        yield f"Note: {code(bounded(requirement.note, DETAILS_WORDS))}"
    asker = run.request.requested_by if run.request else None
    if asker and requirement.kind == "confirmation" and not requirement.self_approval:
        yield f"{_name(asker)} asked for this run and may not approve it"
    if requirement.needed > 1:
        names = ", ".join(_name(vote.by) for vote in requirement.votes) or "nobody"
        yield f"{requirement.needed} people must approve; so far: {names}"
    if requirement.approvers is not None:
        yield "May decide: " + code(bounded(", ".join(requirement.approvers), DETAILS_WORDS))
    if requirement.expires_at is not None:
        yield f"Until {requirement.expires_at:%Y-%m-%d %H:%M} UTC; after that it counts as rejected"
    yield "To decide: **More Actions**, **Send a Signal**, choose one, paste its data with your own name for `NAME`, \
and **Submit** (again, if the dialog stays)"


def _completeness(run: Run, requirement: Requirement, text: str | None) -> str:
    """Whether the arguments are all there; *text* is None when they are not."""
    size = len(requirement.arguments.encode("utf-8", "surrogatepass"))
    if text is None:
        return f"**Cut: this is only the beginning of {size:,} bytes.** All of it: {_show_command(run)}"
    broken = f"; {BROKEN} ends a line that was broken to fit" if f"{BROKEN}\n" in text else ""
    return f"These are the arguments, all {size:,} bytes; only the white space between them is laid out anew{broken}"


def _how(run: Run, requirement: Requirement) -> str:
    choices = _choices(requirement)
    rows = [f"| `{name}` | {code(_typed(body, ', '))} |" for name, body in choices.items()]
    table = "\n".join(["| Signal | Data |", "|---|---|", *rows])
    commands = "\n\n".join(
        fenced(signal_command(run.id, name, body, namespace=run.namespace)) for name, body in choices.items()
    )
    return f"{table}\n\nOr in a terminal:\n\n{commands}"


def _choices(requirement: Requirement) -> dict[str, dict[str, JsonValue]]:
    """The signals that decide it, and what to send with each."""
    who: dict[str, JsonValue] = {"id": requirement.short_id, "by": "NAME"}
    rejection: dict[str, dict[str, JsonValue]] = {REJECT: {**who, "reason": "WHY"}}
    if requirement.kind == "external":
        return {SUBMIT_RESULT: {**who, "output": "TEXT"}, **rejection}
    if requirement.kind == "input":
        return {SUBMIT_INPUT: {**who, "values": {"FIELD": 0}}, **rejection}
    return {APPROVE: who, **rejection}


def _decided(run: Run) -> list[str]:
    decided = [requirement for requirement in run.requirements if requirement.status != "pending"]
    return _section("Decided", [_decision(each) for each in decided[-DETAILS_DECIDED:]], len(decided))


def _decision(requirement: Requirement) -> str:
    by = f" by {_name(requirement.resolved_by)}" if requirement.resolved_by else ""
    execution = f", {requirement.execution}" if requirement.execution else ""
    reason = f": {code(bounded(requirement.reason, DETAILS_NAME))}" if requirement.reason else ""
    name = f"{code(requirement.tool)} {code(requirement.short_id)}"
    return f"{name} **{requirement.status}**{by}{execution}{reason}"


def _attempts(run: Run) -> list[str]:
    shown = run.attempts[-DETAILS_ATTEMPTS:]
    lines = [f"{each.status}: {_bounded_code(each.detail)}; sent: {_bounded_code(_sent(each))}" for each in shown]
    return _section("Messages that did not count", lines, len(run.attempts) + run.attempts_dropped)


def _sent(attempt: Attempt) -> str:
    return f"{attempt.name}({attempt.text})"


def _before(run: Run) -> list[str]:
    """What the run did before, by the answers that the model got."""
    past = [*_answered(run.conversation.items), *_of_this_turn(run)]
    shown = [
        f"{code(f'{call.tool}({call_summary(call.arguments)})')} → {_bounded_code(answer)}"
        for call, answer in past[-DETAILS_BEFORE:]
    ]
    return _section("Before this", shown, len(past))


def _answered(items: Sequence[Item]) -> Iterator[tuple[ToolCall, str]]:
    # Some servers use the same call ids in every turn, so a call is met by the next answer to it.
    open_calls: dict[str, ToolCall] = {}
    for item in items:
        open_calls.update((call.call_id, call) for call in tool_calls([item]))
        if item.get("type") == "function_call_output":
            call = open_calls.pop(str(item.get("call_id")), None)
            if call is not None:
                yield call, str(item.get("output"))


def _of_this_turn(run: Run) -> Iterator[tuple[ToolCall, str]]:
    for each in run.calls:
        if each.answer is not None:
            yield each.call, each.answer
        elif each.running:
            yield each.call, "(still running)"


def _words(run: Run) -> list[str]:
    items = run.conversation.items
    begin = next((index + 1 for index in reversed(range(len(items))) if not _is_said(items[index])), 0)
    words = text_of(items[begin:])
    if not words:
        return []
    return [f"### The model's own words (untrusted)\n\n{fenced(wrapped(bounded(words, DETAILS_WORDS)))}"]


def _is_said(item: Item) -> bool:
    """Whether the item is of the model's making, and no answer to it."""
    return item.get("role") in {None, "assistant"} and item.get("type") != "function_call_output"


def _section(title: str, lines: Sequence[str], total: int) -> list[str]:
    if not lines:
        return []
    hidden = total - len(lines)
    more = [f"and {hidden} older ones"] if hidden else []
    return [f"### {title}\n\n" + "\n".join(f"- {line}" for line in [*lines, *more])]


def _bounded_code(text: str) -> str:
    return code(bounded(text, DETAILS_NAME))
