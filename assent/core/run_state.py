"""A run at one moment, and what an event came to: the values that `assent.core.state_machine.decide` takes and gives.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile
from typing import Final

from pydantic import JsonValue

from assent.core import ignored_messages
from assent.core.compaction import Compaction
from assent.core.events import Command, Failure, MessageReceived
from assent.core.tool_calls import Call, CallContext
from assent.wire.budget import Budget
from assent.wire.conversation import Conversation
from assent.wire.messages import Message
from assent.wire.policy import PermissionPolicy
from assent.wire.protocol import DecisionResult, Execution, Handoff, Item, Prefix, RunRequest, RunStatus, Usage
from assent.wire.requirements import Attempt, Grant, Requirement, RunState

MAX_TURNS: Final = 50


@dataclass(frozen=True, slots=True)
class PendingCheck:
    """Something that a person sent, while a worker checks it: the message as it was read, and as it came."""

    number: int
    message: Message
    event: MessageReceived


@dataclass(frozen=True, slots=True)
class Run:
    """Everything there is to know about a run, at one moment.

    *turns_before* and *tool_calls_before* are those of earlier answers of a conversation, which the limits do not
    count; *closing* says that it ends with the answer under way. *budget* is what it may use by now, *allowance*
    what it was given at first; *held* is what the next model call will carry once the budget is extended. *prefix*
    names what the newest model call did not carry. *rules_version* says which rules the run follows: those of its
    first turn (docs/changing-rules.md). *parent* is the run that it works for. *agent* goes on with the conversation
    in the place of the one that was asked, bounded by *policy*, once that was handed over; *handoff* is to be, with
    the next turn. *model_task_queue* is where its model is asked, where that is known and not the run's own task
    queue. *continue_after* is after how many events of its history the run goes on in a new execution (0: when the
    server suggests it; None: the first turn has not said so yet). *wake_at* is when its timer fires, if it has one.
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
    compaction: Compaction | None = None
    calls: tuple[Call, ...] = ()
    queued: tuple[Item, ...] = ()
    queued_size: int = 0
    requirements: tuple[Requirement, ...] = ()
    grants: tuple[Grant, ...] = ()
    checks: tuple[PendingCheck, ...] = ()
    checks_made: int = 0
    attempts: tuple[Attempt, ...] = ()
    attempts_dropped: int = 0
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
    wake_at: datetime | None = None
    content: str | None = None
    output: JsonValue = None
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Whether the run is over; nothing changes a run that is, except that late messages are kept."""
        return self.status in {"completed", "failed", "cancelled"}

    @property
    def pending(self) -> list[Requirement]:
        """The requirements that wait."""
        # A turn ends when nothing waits any more, so that only those of the newest can: the others may be thousands.
        newest = takewhile(lambda each: each.turn >= self.turn, reversed(self.requirements))
        return [each for each in newest if each.status == "pending"][::-1]

    @property
    def is_conversation(self) -> bool:
        """Whether it stays open after an answer."""
        return self.request is not None and self.request.conversation

    @property
    def requested_by(self) -> str | None:
        """Who asked for the run, as a claim."""
        return self.request.requested_by if self.request else None

    @property
    def call_context(self) -> CallContext:
        """Whose calls its tool calls are."""
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
        )

    def requirement(self, identity: str | None) -> Requirement | None:
        """The requirement of exactly this id."""
        return next((each for each in reversed(self.requirements) if each.id == identity), None)

    def with_call(self, position: int, call: Call) -> Run:
        """The run with another call at *position* of its turn."""
        return replace(self, calls=(*self.calls[:position], call, *self.calls[position + 1 :]))

    def with_requirement(self, identity: str, change: Callable[[Requirement], Requirement]) -> Run:
        """The run with one requirement changed."""
        for index in range(len(self.requirements) - 1, -1, -1):
            if (found := self.requirements[index]).id == identity:
                changed = (*self.requirements[:index], change(found), *self.requirements[index + 1 :])
                return replace(self, requirements=changed)
        return self

    def with_ignored(self, attempt: Attempt) -> Run:
        """The run with something kept that did not count; the oldest gives way."""
        kept = (*self.attempts, attempt)[-ignored_messages.KEPT :]
        dropped = self.attempts_dropped + len(self.attempts) + 1 - len(kept)
        return replace(self, attempts=kept, attempts_dropped=dropped)


@dataclass(frozen=True, slots=True)
class Step:
    """What an event came to: the run as it is now, the commands to carry out, the answer to whoever sent it.

    *check* is the number of the check that a message waits for; its answer comes with the event that ends that.
    """

    run: Run
    commands: tuple[Command, ...] = ()
    result: DecisionResult | None = None
    check: int | None = None


def state_of(run: Run) -> RunState:
    """The run as the query `state` answers it."""
    request = run.request
    return RunState(
        id=run.id,
        execution_id=run.execution_id,
        agent=run.call_context.agent,
        status=run.status,
        input=request.input if request else "",
        requested_by=run.requested_by,
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
        children=[call.child for call in run.calls if call.running and call.child is not None],
        requirements=list(run.requirements),
        attempts=list(run.attempts),
        attempts_dropped=run.attempts_dropped,
    )
