"""A run at one moment, and the step that an event causes: the values that `assent.core.state_machine.decide` uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile
from typing import Final

from pydantic import JsonValue

from assent.core.compaction import Compaction
from assent.core.events import Command, Failure, MessageReceived
from assent.core.tool_calls import Call, CallContext
from assent.core.transitions import RUN, RunEvent
from assent.wire.budget import Budget
from assent.wire.conversation import Conversation
from assent.wire.messages import Message
from assent.wire.policy import PermissionPolicy
from assent.wire.proofs import ProofLevel
from assent.wire.protocol import (
    DecisionResult,
    Execution,
    Handoff,
    Item,
    Prefix,
    RunRequest,
    RunStatus,
    Usage,
    WorkflowCall,
)
from assent.wire.requirements import Grant, IgnoredMessage, Requirement, RunState

MAX_TURNS: Final = 50
KEPT_MESSAGES: Final = 50
"""The ignored messages that a run keeps. It counts older ones, and the history has them all."""


@dataclass(frozen=True, slots=True)
class PendingCheck:
    """A message that a worker checks now: as it was read, and as it was received."""

    number: int
    message: Message
    event: MessageReceived


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that is known about a run at one moment.

    A tuple whose items stay the same is never rebuilt: code that asks whether requirements, calls or queued messages
    have changed compares the tuples by identity (`is`).

    *turns_before* and *tool_calls_before* count those of earlier answers of a conversation: the limits leave them out.
    *checks_before* counts the checks of earlier executions. *closing*: the run ends with its next answer. *budget* is
    the current limit, *allowance* the first one. *held* is what the next model call carries once the budget is
    extended. *attachments* are the bytes that the conversation, or a message for it, names: base64, by SHA-256.
    *prefix* names the items that the newest model call did not carry. *instructions* is the SHA-256 of the newest
    instructions from a function in the history of this execution.

    *rules_version* is that of its first turn (docs/why/changing-rules.md). *parent* is the parent run. After a handoff,
    *agent* continues the run, limited by *policy*; *handoff* takes effect with the next turn. *model_task_queue* is
    where model calls go, if it is known and not the run's own queue. *continue_after* is the number of history events
    after which the run continues as new (0: when the server suggests it; None: no turn has said it yet). *proof* is the
    level that every decision needs. *wake_at* is when its timer fires.
    """

    id: str = ""
    execution_id: str = ""
    first_execution_id: str = ""
    namespace: str = "default"
    request: RunRequest | None = None
    status: RunStatus = "running"
    turn: int = 0
    max_turns: int = MAX_TURNS
    max_tool_calls: int | None = None
    tool_calls: int = 0
    turns_before: int = 0
    tool_calls_before: int = 0
    closing: bool = False
    started_at: datetime | None = None
    budget: Budget | None = None
    allowance: Budget | None = None
    held: tuple[Item, ...] | None = None
    model_running: bool = False
    conversation: Conversation = field(default_factory=Conversation)
    prefix: Prefix | None = None
    attachments: Mapping[str, str] = field(default_factory=dict[str, str])
    compaction: Compaction | None = None
    calls: tuple[Call, ...] = ()
    queued: tuple[Item, ...] = ()
    queued_size: int = 0
    requirements: tuple[Requirement, ...] = ()
    requirements_dropped: int = 0
    grants: tuple[Grant, ...] = ()
    checks: tuple[PendingCheck, ...] = ()
    checks_made: int = 0
    checks_before: int = 0
    ignored_messages: tuple[IgnoredMessage, ...] = ()
    ignored_dropped: int = 0
    usage: Usage = field(default_factory=Usage)
    attributes: bool = False
    notices: bool = False
    rules_version: int = 1
    parent: Execution | None = None
    agent: str | None = None
    policy: PermissionPolicy | None = None
    handoff: Handoff | None = None
    model_task_queue: str | None = None
    continue_after: int | None = None
    proof: ProofLevel | None = None
    wake_at: datetime | None = None
    instructions: str | None = None
    content: str | None = None
    output: JsonValue = None
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Return whether the run has ended. An ended run changes no more; it only keeps late messages."""
        return self.status in {"completed", "failed", "cancelled"}

    @property
    def pending(self) -> list[Requirement]:
        """Return the pending requirements."""
        # A turn ends when nothing is pending, so only the newest turn can have some; the others may be thousands.
        newest = takewhile(lambda each: each.turn >= self.turn, reversed(self.requirements))
        return [each for each in newest if each.status == "pending"][::-1]

    @property
    def is_conversation(self) -> bool:
        """Return whether the run stays open after an answer."""
        return self.request is not None and self.request.conversation

    @property
    def workflow_call(self) -> WorkflowCall | None:
        """Return the call that workflow code asks people about, in a run without a model."""
        return self.request.call if self.request else None

    @property
    def caller(self) -> str | None:
        """Return the id of the workflow that asks people; empty if a client does, None in a run with a model."""
        if self.workflow_call is None:
            return None
        return self.parent.run_id if self.parent else ""

    @property
    def requested_by(self) -> str | None:
        """Return the claimed name of the requester."""
        return self.request.requested_by if self.request else None

    @property
    def context(self) -> dict[str, JsonValue] | None:
        """Return the context that the run was started with."""
        return self.request.context if self.request else None

    @property
    def call_context(self) -> CallContext:
        """Return what all tool calls of the turn have in common."""
        request = self.request
        return CallContext(
            run_id=self.id,
            first_execution_id=self.first_execution_id,
            agent=self.agent or (request.agent if request else ""),
            requested_by=self.requested_by,
            turn=self.turn,
            policy=self.policy if self.agent else request.policy if request else None,
            parent=self.parent,
            compacted=self.compaction is not None and self.compaction.made > 0,
            handed_over=self.agent is not None,
            context=self.context,
            activity=request is not None and request.call is not None and request.call.activity,
        )

    def on(self, event: RunEvent) -> Run:
        """Return the run with the status that follows *event*."""
        return replace(self, status=RUN.next(self.status, event))

    def requirement(self, identity: str | None) -> Requirement | None:
        """Return the requirement of exactly this id."""
        return next((each for each in reversed(self.requirements) if each.id == identity), None)

    def position(self, identity: str) -> int:
        """Return the position of the call that a requirement of the turn is for."""
        return next(index for index, call in enumerate(self.calls) if call.requirement_id == identity)

    def with_call(self, position: int, call: Call) -> Run:
        """Return the run with another call at *position* of its turn."""
        return replace(self, calls=(*self.calls[:position], call, *self.calls[position + 1 :]))

    def with_requirement(self, changed: Requirement) -> Run:
        """Return the run with *changed* in the place of the requirement of the same id."""
        index = next(i for i in range(len(self.requirements) - 1, -1, -1) if self.requirements[i].id == changed.id)
        return replace(self, requirements=(*self.requirements[:index], changed, *self.requirements[index + 1 :]))

    def update_requirement(self, identity: str | None, **update: object) -> Run:
        """Return the run with some fields of one requirement changed; without an id, the same run."""
        known = None if identity is None else self.requirement(identity)
        return self if known is None else self.with_requirement(known.model_copy(update=update))

    def with_ignored(self, message: IgnoredMessage) -> Run:
        """Return the run with one more ignored message; the oldest is dropped when there are too many."""
        kept = (*self.ignored_messages, message)[-KEPT_MESSAGES:]
        dropped = self.ignored_dropped + len(self.ignored_messages) + 1 - len(kept)
        return replace(self, ignored_messages=kept, ignored_dropped=dropped)


@dataclass(frozen=True, slots=True)
class Step:
    """What an event causes: the run after it, the commands to carry out, and the answer to the sender of a message.

    *check* is the number of the check that the message needs first; its answer comes with the end of that check.
    """

    run: Run
    commands: tuple[Command, ...] = ()
    result: DecisionResult | None = None
    check: int | None = None

    def followed_by(self, following: Step) -> Step:
        """Return the *following* step with the commands of this one first."""
        return replace(following, commands=(*self.commands, *following.commands))


def state_of(run: Run) -> RunState:
    """Return the run as the query `state` answers it."""
    request = run.request
    return RunState(
        id=run.id,
        execution_id=run.execution_id,
        first_execution_id=run.first_execution_id,
        agent=run.call_context.agent,
        status=run.status,
        input=request.prompt if request else "",
        requested_by=run.requested_by,
        context=run.context,
        content=run.content,
        output=run.output,
        error=f"{run.failure.kind}: {run.failure.message}" if run.failure else None,
        turns=run.turn,
        usage=run.usage,
        running=int(run.model_running) + len(run.checks) + sum(call.running for call in run.calls),
        tool_calls=run.tool_calls,
        grants=list(run.grants),
        budget=run.budget,
        parents=list(request.parents) if request else [],
        caller=run.caller,
        children=[call.child for call in run.calls if call.running and call.child is not None],
        requirements=list(run.requirements),
        requirements_dropped=run.requirements_dropped,
        ignored_messages=list(run.ignored_messages),
        ignored_dropped=run.ignored_dropped,
    )
