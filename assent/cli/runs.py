"""`assent start`, `show`, `cancel` and `setup`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import typer
from pydantic import ValidationError

from assent.cli import exit_codes, output
from assent.cli.common import AsJson, RunId, complain, emit, place_of
from assent.cli.connect import with_client
from assent.cli.console import field, make_console
from assent.cli.parsing import seconds_of
from assent.cli.watching import watch_run
from assent.client.client import AgentClient
from assent.client.progress import progress_of
from assent.client.start import exists
from assent.wire import protocol
from assent.wire.budget import BOUNDS, Budget
from assent.wire.errors import MessageError
from assent.wire.policy import PermissionPolicy
from assent.wire.text import one_line

_ATTRIBUTES: Final = (
    protocol.ATTRIBUTE_AGENT,
    protocol.ATTRIBUTE_STATUS,
    protocol.ATTRIBUTE_PENDING,
    protocol.ATTRIBUTE_WAITING_ON,
    protocol.ATTRIBUTE_REQUESTED_BY,
)
_OPTIONS: Final = {
    "max_tokens": "--max-tokens",
    "max_model_calls": "--max-model-calls",
    "max_cost": "--max-cost",
    "max_time": "--max-time",
    "on_reached": "--on-budget",
    "approvers": "--budget-approver",
}


def start(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.", show_default=False)],
    prompt: Annotated[str, typer.Argument(metavar="[PROMPT]", help="What it is to do.", show_default=False)] = "",
    *,
    requested_by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the requester, who may not approve in the run.")
    ] = None,
    run_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The run's id; once for each id.")] = None,
    max_turns: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many turns.")] = None,
    max_tool_calls: Annotated[int | None, typer.Option(metavar="N", min=0, help="At most so many tool calls.")] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="Ask for more, or end, after so many.")] = None,
    max_model_calls: Annotated[int | None, typer.Option(metavar="N", help="The same, in model calls.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(metavar="X", help="The same, in money: the worker's prices.")
    ] = None,
    max_time: Annotated[str | None, typer.Option(metavar="TIME", help="The same, as in 30m, 2h or 7d.")] = None,
    on_budget: Annotated[
        Literal["ask", "end"] | None, typer.Option(help="What it does once one of these four is reached; ask.")
    ] = None,
    budget_approver: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Who may give more; again for each.", show_default=False)
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="FILE.toml", help="Rules besides the agent's own; the stricter hold.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=5, help="1 comes first where workers are behind, 5 last.")
    ] = None,
    conversation: Annotated[
        bool, typer.Option("--conversation", help="Stay open after an answer; may begin without a PROMPT.")
    ] = False,
    follow_it: Annotated[bool, typer.Option("--follow", help="Watch it to its end.")] = False,
    approver: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --follow, at a terminal: who is asked about what waits.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Start a run of an agent. With an id that a run has already, nothing is started and that run is meant.

    Each --max and --policy can only tighten what the agent has of its own. A --conversation goes on with
    `assent send-message`, and ends with `assent close`.
    """
    place = place_of(context)
    seconds = None if max_time is None else seconds_of("--max-time", max_time)
    bounds = {
        "max_tokens": max_tokens,
        "max_model_calls": max_model_calls,
        "max_cost": max_cost,
        "max_time": seconds,
    }
    budget = _budget({**bounds, "on_reached": on_budget, "approvers": budget_approver or None})
    rules = None if policy is None else PermissionPolicy.from_file(policy)

    async def work(client: AgentClient) -> int:
        known = run_id is not None and await exists(client.get_run(run_id))
        run = await client.start(
            agent,
            prompt,
            requested_by=requested_by,
            id=run_id,
            max_turns=max_turns,
            max_tool_calls=max_tool_calls,
            policy=rules,
            priority=priority,
            conversation=conversation,
            budget=budget,
        )
        if as_json:
            emit({"run_id": run.id, "started": not known})
        else:
            console = make_console()
            field(console, "run", run.id, style="bold")
            if known:
                field(console, "", "a run of this id was there already; nothing was started", style="yellow")
        if not follow_it:
            return exit_codes.DONE
        return await watch_run(run, place.program, as_json=as_json, approver=approver, speaker=requested_by or approver)

    return with_client(place, work)


def _budget(fields: Mapping[str, object]) -> Budget | None:
    """The budget of a run; None where no option gives one.

    Raises:
        MessageError: an option does not fit, or there is nothing to ask about.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        return None
    try:
        budget = Budget.model_validate(given)
    except ValidationError as error:
        message = "; ".join(f"{_OPTIONS[str(each['loc'][0])]}: {each['msg']}" for each in error.errors())
        raise MessageError(message) from None
    if not budget.bounds:
        needed = ", ".join(_OPTIONS[each] for each in BOUNDS)
        message = f"{_OPTIONS[next(iter(given))]} is about a budget; give one of {needed}"
        raise MessageError(message)
    if not all(map(str.strip, budget.approvers or ())):
        message = "--budget-approver: the name is empty"
        raise MessageError(message)
    return budget


def show(context: typer.Context, run: RunId, *, as_json: AsJson = False) -> int:
    """Everything about one run: what waits, what was decided, what did not count. Needs no worker."""
    place = place_of(context)

    async def work(client: AgentClient) -> int:
        handle = client.get_run(run)
        tree = await handle.tree()
        state = tree.state
        progress = None if state.is_finished else await progress_of(handle)
        if as_json:
            emit(output.state_document(state, progress, tree.children))
        else:
            output.print_state(make_console(), state, progress, place.program, await handle.fold(), tree.children)
        return exit_codes.DONE

    return with_client(place, work)


def cancel(context: typer.Context, run: RunId, *, as_json: AsJson = False) -> int:
    """Cancel a run, and the runs below it: what waits is cancelled, and nothing starts after."""

    async def work(client: AgentClient) -> int:
        handle = client.get_run(run)
        tree = await handle.tree()
        state = tree.state
        if state.is_finished:  # the server takes a cancellation of a run that has ended, and does nothing
            complain(f"run {run!r} has ended already: {state.status}; there is nothing to cancel")
            return exit_codes.NOT_TAKEN
        await handle.cancel()
        below = [each.state.id for each in tree.runs()][1:]
        if as_json:
            emit({"run_id": run, "status": "requested", "child_runs": below})
        else:
            console = make_console()
            field(console, "requested", "its worker cancels it, as soon as one runs")
            for each in below:
                field(console, "with it", f"run {one_line(each)}, which is below it")
        return exit_codes.DONE

    return with_client(place_of(context), work)


def setup(context: typer.Context, *, as_json: AsJson = False) -> int:
    """Register the search attributes that the inbox uses. Once for each namespace; again does no harm."""

    async def work(client: AgentClient) -> int:
        added = await client.setup()
        there = [name for name in _ATTRIBUTES if name not in added]
        if as_json:
            emit({"added": added, "present": there})
        else:
            console = make_console()
            field(console, "added", ", ".join(added) or "none")
            field(console, "there", ", ".join(there) or "none")
        return exit_codes.DONE

    return with_client(place_of(context), work)
