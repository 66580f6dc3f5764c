"""Decide as a person does: send a signal, which nothing loses, and read its outcome from the run's history.

An update would be answered directly. But where no worker runs, an update that its sender gave up on stays with the
server and counts later, so that a signal sent after it is recorded twice (measured on server 1.32). And a signal
carries its sender's identity into history, where an update carries the worker's.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final, Literal

from pydantic import JsonValue
from temporalio.client import Client

from assent.client.read import describe, fold_for, follow_history, translate_errors
from assent.client.rpc import check_size
from assent.client.run_tree import find_in_children, read_tree
from assent.core.approvals import SHORTEST_PREFIX, find_requirement, with_dropped
from assent.core.events import CheckAnswered, MessageReceived
from assent.core.run_state import Run, state_of
from assent.history.fold import HistoryFold
from assent.history.pages import Page
from assent.wire import messages
from assent.wire.errors import RequirementNotFoundError, RunNotFoundError
from assent.wire.messages import Approve, SubmitInput
from assent.wire.protocol import REVOKE, DecisionOutcome, DecisionResult
from assent.wire.requirements import Grant, Requirement, RunState

ANSWER_WAIT: Final = timedelta(seconds=5)
"""How long a sender waits for the outcome of a decision."""
SENT: Final = "no worker has read it yet; it counts once one runs"

Signal = Literal["approve", "reject", "submit_result", "submit_input"]


def locate(state: RunState, wanted: str) -> Requirement:
    """Return the requirement that an id, or a unique prefix of one, names.

    Raises:
        RequirementNotFoundError: none, or more than one.
    """
    requirement = find_requirement(state.requirements, wanted)
    if isinstance(requirement, str):
        message = f"{with_dropped(requirement, state.requirements_dropped)}; see: assent show {state.id}"
        raise RequirementNotFoundError(message)
    return requirement


def locate_grant(state: RunState, wanted: str) -> Grant:
    """Return the grant that an id, or a unique prefix of one, names.

    Raises:
        RequirementNotFoundError: none, or more than one.
    """
    prefix = wanted.strip().lower()
    matches = [grant for grant in state.grants if grant.id.startswith(prefix)] if len(prefix) >= SHORTEST_PREFIX else []
    if len(matches) == 1:
        return matches[0]
    raise RequirementNotFoundError(f"{_grant_problem(state.grants, wanted, len(matches))}; see: assent show {state.id}")


def _grant_problem(grants: Sequence[Grant], wanted: str, count: int) -> str:
    if count:
        return f"the id {wanted!r} matches {count} grants; give more digits"
    if len(wanted.strip()) < SHORTEST_PREFIX:
        return f"the id {wanted!r} is too short; give at least {SHORTEST_PREFIX} digits"
    return f"no grant of this run has the id {wanted!r}" + ("" if grants else ": it has none")


def as_read(signal: Signal, body: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the arguments or values of a decision as the run reads them: what is shown is what runs.

    Raises:
        MessageError: the body does not fit.
    """
    message = messages.read(signal, [{"id": "0" * SHORTEST_PREFIX, **body}])
    if isinstance(message, SubmitInput):
        return message.values
    return (message.arguments if isinstance(message, Approve) else None) or {}


async def send(client: Client, run_id: str, signal: str, body: Mapping[str, JsonValue]) -> None:
    """Send a signal by its wire name. Raises as `RunHandle.send`."""
    with translate_errors(client, run_id):
        await client.get_workflow_handle(run_id).signal(signal, check_size(client, body))


async def decide(
    client: Client, run_id: str, signal: str, body: Mapping[str, JsonValue], wait: timedelta = ANSWER_WAIT
) -> DecisionOutcome:
    """Send a message to a run and read its outcome, which is `sent` if no worker has handled it within *wait*.

    The *id* in *body*, where the signal has one, may be a unique prefix. The run's newest execution is read once: up
    to the present before the message is sent, so that the id can be resolved, and then on until the outcome is there.

    Raises:
        MessageError: the body does not fit; nothing was sent.
        RequirementNotFoundError: no requirement (or grant) of the run has the id, or several have; nothing was sent.
        RunNotFoundError: there is no run of this id.
        HistoryError: the workflow of this id is not a run of Assent.
        ServerUnreachableError: the server does not answer.
    """
    by = messages.read(signal, [body]).by
    description = await describe(client, run_id)
    async with aclosing(follow_history(client, run_id, description.run_id)) as pages:
        fold = HistoryFold(run_id, description.run_id or "")
        async for page in pages:
            fold = fold_for(fold, page)
            deque(fold.add(page.events), maxlen=0)
            if page.execution_id != description.run_id or page.events[-1].event_id >= description.history_length:
                break
        target = await _target(client, state_of(fold.run), signal, body)
        outcome = DecisionOutcome(run_id=run_id, by=by, status="sent", detail=SENT).model_copy(update=target)
        # Two senders may send equal messages: by the reference each knows which outcome is its own.
        sent = {**body, "ref": uuid.uuid4().hex}
        if target:
            sent["id"] = outcome.grant or outcome.requirement_id
        try:
            await send(client, run_id, signal, sent)
        except RunNotFoundError:
            return outcome.model_copy(update={"status": "late", "detail": _late_reason(fold.run, outcome)})
        result = await _result(pages, fold, signal, sent, wait)
    if result is None:
        return outcome
    opened = result.requirement_id if outcome.grant is None else None
    return outcome.model_copy(
        update={"status": result.status, "detail": result.detail, "requirement_id": opened or outcome.requirement_id}
    )


async def _target(client: Client, state: RunState, signal: str, body: Mapping[str, JsonValue]) -> dict[str, str]:
    """Return the fields of an outcome that name the message's subject; none for a message to the run itself."""
    if "id" not in body:
        return {}
    wanted = str(body["id"])
    if signal == REVOKE:
        grant = locate_grant(state, wanted)
        return {"requirement_id": grant.requirement_id, "tool": grant.tool, "grant": grant.id}
    requirement = await find_requirement_of_run(client, state, wanted, signal)
    return {"requirement_id": requirement.id, "tool": requirement.tool}


async def find_requirement_of_run(client: Client, state: RunState, wanted: str, signal: str) -> Requirement:
    """Return the requirement of a run that an id, or a unique prefix of one, names.

    Raises:
        RequirementNotFoundError: none, or more than one. If it is one of a child run, the message names the command.
    """
    try:
        return locate(state, wanted)
    except RequirementNotFoundError:
        hint = find_in_children(await read_tree(client, state.id), wanted, signal) if state.children else None
        if hint is None:
            raise
        raise RequirementNotFoundError(hint) from None


async def _result(
    pages: AsyncGenerator[Page], fold: HistoryFold, signal: str, sent: Mapping[str, JsonValue], wait: timedelta
) -> DecisionResult | None:
    """Return the run's answer to exactly this message; None if there is none within *wait*."""
    checked: int | None = None
    try:
        async with asyncio.timeout(wait.total_seconds()):
            async for page in pages:
                fold = fold_for(fold, page)
                for transition in fold.add(page.events):
                    event, step = transition.event, transition.step
                    mine = isinstance(event, MessageReceived) and event.name == signal and event.arguments == (sent,)
                    if mine and step.check is not None:  # A worker checks it first
                        checked = step.check
                    mine = mine or (isinstance(event, CheckAnswered) and event.number == checked)
                    if mine and step.result is not None:
                        return step.result
    except TimeoutError:
        return None
    return DecisionResult(status="late", detail="the run ended before it was read")


def _late_reason(run: Run, outcome: DecisionOutcome) -> str:
    """Say why a decision for a run that has ended is late."""
    if outcome.grant is not None:
        return "the run has ended; its grants ended with it"
    requirement = run.requirement(outcome.requirement_id)
    if requirement is None:
        return "the run has ended; it takes no more messages"
    if requirement.status == "expired":
        return "the run has ended; this call expired without a decision"
    by = f" by {requirement.resolved_by}" if requirement.resolved_by else ""
    return f"the run has ended; this call was {requirement.status}{by}"
