"""What the tests of the abuse cases share: questions to a run and its history, and agents whose process dies."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.testing import ActivityEnvironment

from assent import Agent, OpenAIResponses, RunHandle, RunNotFoundError, RunState, approval, tool
from assent.client.client import AgentClient
from assent.testing import Approved, Conversation, Reply, drive, says
from assent.wire.protocol import CALL_MODEL, WORKFLOW, ModelTurn, ToolCallInput
from tests.support.visibility import soon

PATIENCE = 60
"""Seconds."""


def told(seen: Conversation) -> Reply:
    """An answer that says what the model was told of each call, in order."""
    return says(json.dumps(list(seen.tool_outputs.values())))


async def until(run: RunHandle, holds: Callable[[RunState], bool]) -> RunState:
    """The run's state, once it *holds*."""
    state = await soon(run.state, holds)
    for _ in range(3):
        state = state if holds(state) else await soon(run.state, holds)
    assert holds(state), state
    return state


async def at_once(*acts: Awaitable[object]) -> None:
    """Do all of this at once, one of which ends the run: what comes after that finds none, and is no fault."""
    for answer in await asyncio.gather(*acts, return_exceptions=True):
        if isinstance(answer, BaseException) and not isinstance(answer, RunNotFoundError):
            raise answer


async def content(run: RunHandle) -> str:
    """What the run ends with; a run that wrongly never ends fails its test instead of stopping them all."""
    async with asyncio.timeout(PATIENCE):
        return (await run.result()).content


async def approve_all(run: RunHandle) -> RunState:
    """The run's state once it has ended, everything that it asked for approved."""
    async with asyncio.timeout(PATIENCE):
        return await drive(run, lambda _: Approved())


def executed(state: RunState, tool_name: str) -> bool:
    """Whether a gated call of the tool has given its result."""
    return any(each.execution == "executed" for each in state.requirements if each.tool == tool_name)


def calls_of(history: WorkflowHistory, tool_name: str) -> list[ToolCallInput]:
    """The input of each activity that a run scheduled for a tool: each time that the tool was to be run."""
    found = [event.activity_task_scheduled_event_attributes for event in events(history, "ACTIVITY_TASK_SCHEDULED")]
    inputs = [each.input.payloads[0].data for each in found if each.activity_type.name == tool_name]
    return [ToolCallInput.model_validate_json(data) for data in inputs]


async def model_turns(run: RunHandle) -> list[ModelTurn]:
    """What the model calls of a run returned, in order, as its history has it."""
    history = await run.history()
    asked = {
        event.event_id
        for event in events(history, "ACTIVITY_TASK_SCHEDULED")
        if event.activity_task_scheduled_event_attributes.activity_type.name == CALL_MODEL
    }
    done = [event.activity_task_completed_event_attributes for event in events(history, "ACTIVITY_TASK_COMPLETED")]
    return [
        ModelTurn.model_validate_json(each.result.payloads[0].data) for each in done if each.scheduled_event_id in asked
    ]


def events(history: WorkflowHistory, kind: str) -> list[HistoryEvent]:
    """The events of a kind, named as Temporal names them."""
    wanted = EventType.Value(f"EVENT_TYPE_{kind}")
    return [event for event in history.events if event.event_type == wanted]


def task_faults(*histories: WorkflowHistory) -> list[str]:
    """How workflow tasks failed by what the run's code did.

    A task also fails if a message arrives as it ends the run, and if the machine is so busy that the SDK gives it up.
    """
    failed = [
        event.workflow_task_failed_event_attributes
        for history in histories
        for event in events(history, "WORKFLOW_TASK_FAILED")
    ]
    return [
        f"{WorkflowTaskFailedCause.Name(each.cause)}: {each.failure.message}"
        for each in failed
        if each.cause != WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
        and "TMPRL1101" not in each.failure.message
    ]


def activity_of(client: AgentClient, run_id: str, call: ToolCallInput) -> ActivityEnvironment:
    """Run activities as if the worker did, for the first call of a run."""
    environment = ActivityEnvironment(client=client.temporal)
    environment.info = dataclasses.replace(
        environment.info,
        activity_id="1.0",
        workflow_id=run_id,
        workflow_run_id=call.authorization.execution_id if call.authorization else None,
        workflow_type=WORKFLOW,
    )
    return environment


# -- agents of real worker processes, and what their tools did: lines of the file that `LEDGER` names -----------------


def lines(ledger: Path) -> list[str]:
    """What tools did, in any process."""
    return ledger.read_text().splitlines() if ledger.exists() else []


def _note(line: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(f"{line}\n")


@approval
@tool(requires_confirmation=True)
def pay(to: str) -> str:
    """Pay somebody."""
    _note(f"paid {to}")
    return f"paid {to}"


@approval
@tool(requires_confirmation=True, heartbeat_timeout=timedelta(seconds=1))
def pay_and_die(to: str) -> str:
    """Pay somebody; the process is killed before anybody hears of it."""
    _note(f"paid {to}")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@approval(type="audit")
@tool(requires_confirmation=True, heartbeat_timeout=timedelta(seconds=1))
def wipe_and_die(user: str) -> str:
    """Wipe a user's data; the process is killed while it does."""
    _note(f"wipes {user}")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


doomed = Agent(name="doomed", model=OpenAIResponses(id="doomed"), tools=[pay, pay_and_die, wipe_and_die])
