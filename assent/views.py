"""What operators see of a run without opening its history: the inbox memo, and the details in the Temporal Web UI.

Pure; safe in workflow code.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Final

from assent.conversation import text_of
from assent.protocol import APPROVE, REJECT, SUBMIT_RESULT
from assent.render import bounded, code, fenced, one_line, visible
from assent.requirements import Attempt, PendingRequirement, Requirement
from assent.run import Run

MEMO_ARGUMENTS: Final = 2_048
"""Bytes of arguments that one requirement may put into the memo; longer ones are one command away."""
MEMO_TOTAL: Final = 32_768
"""Bytes of arguments that all requirements of a run may put into the memo together."""
DETAILS_ARGUMENTS: Final = 16_384
DETAILS_WORDS: Final = 2_000
DETAILS_ATTEMPTS: Final = 10
SUMMARY: Final = 120


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


def call_summary(tool: str, arguments: str) -> str:
    """One line for the timeline: the tool and the beginning of its arguments."""
    return bounded(one_line(f"{tool}({arguments})"), SUMMARY)


def signal_command(workflow_id: str, name: str, body: dict[str, str]) -> str:
    """The `temporal` command line that sends a signal, ready to paste into a POSIX shell."""
    text = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"temporal workflow signal --workflow-id {shlex.quote(workflow_id)} --name {name} --input {text}"


def details(run: Run) -> str:
    """The run's current details, in Markdown: what waits and how to decide it, what did not count, what was said."""
    parts = [_headline(run)]
    parts += [_waiting(run, requirement) for requirement in run.pending]
    if run.attempts:
        parts.append(_attempts(run.attempts, run.attempts_dropped))
    words = text_of(run.conversation.items[-8:])
    if run.pending and words:
        parts.append(f"### The model's own words (untrusted)\n\n{fenced(visible(bounded(words, DETAILS_WORDS)))}")
    return "\n\n".join(parts)


def _headline(run: Run) -> str:
    agent = code(run.request.agent) if run.request else "the agent"
    asker = f", asked for by {code(run.request.requested_by)}" if run.request and run.request.requested_by else ""
    if run.ended:
        return f"**{run.status}** after {run.turn} turns of {agent}{asker}"
    waiting = len(run.pending)
    if not waiting:
        return f"**{run.status}**, turn {run.turn} of {agent}{asker}; nothing waits for a person"
    calls = "1 call waits" if waiting == 1 else f"{waiting} calls wait"
    return f"**{calls} for a person** · turn {run.turn} of {agent}{asker}"


def _waiting(run: Run, requirement: Requirement) -> str:
    lines = [
        f"### {code(requirement.tool)} · {requirement.kind} {code(requirement.short_id)}",
        _arguments(requirement),
        *_terms(requirement),
        _how(run, requirement),
    ]
    return "\n\n".join(lines)


def _arguments(requirement: Requirement) -> str:
    text = visible(requirement.arguments)
    size = len(requirement.arguments.encode("utf-8", "surrogatepass"))
    shown = fenced(bounded(text, DETAILS_ARGUMENTS), "json")
    return f"Exact arguments ({size} bytes):\n\n{shown}"


def _terms(requirement: Requirement) -> list[str]:
    terms: list[str] = []
    if requirement.note:
        terms.append(f"Note: {code(bounded(requirement.note, DETAILS_WORDS))}")
    if requirement.needed > 1:
        names = ", ".join(code(vote.by) for vote in requirement.votes) or "nobody yet"
        terms.append(f"{requirement.needed} people must approve; so far: {names}")
    if requirement.approvers is not None:
        terms.append("May decide: " + ", ".join(code(name) for name in requirement.approvers))
    return terms


def _how(run: Run, requirement: Requirement) -> str:
    who = {"id": requirement.short_id, "by": "YOUR NAME"}
    choices: dict[str, dict[str, str]] = {APPROVE: who}
    if requirement.kind == "external":
        choices = {SUBMIT_RESULT: {**who, "output": "THE RESULT"}}
    choices[REJECT] = {**who, "reason": "WHY"}
    rows = [f"| `{name}` | {code(json.dumps(body, ensure_ascii=False))} |" for name, body in choices.items()]
    table = "\n".join(["| signal | input |", "|---|---|", *rows])
    commands = "\n".join(signal_command(run.id, name, body) for name, body in choices.items())
    return f"On this page: **More Actions**, **Send a Signal**, then\n\n{table}\n\nIn a terminal:\n\n{fenced(commands)}"


def _attempts(attempts: Sequence[Attempt], dropped: int) -> str:
    shown = attempts[-DETAILS_ATTEMPTS:]
    hidden = dropped + len(attempts) - len(shown)
    lines = [f"- {attempt.status}: {code(attempt.detail)} — sent: {code(_sent(attempt))}" for attempt in shown]
    more = f"\n- and {hidden} older ones" if hidden else ""
    return "### Messages that did not count\n\n" + "\n".join(lines) + more


def _sent(attempt: Attempt) -> str:
    return bounded(f"{attempt.name}({attempt.text})", DETAILS_WORDS)
