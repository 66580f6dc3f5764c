"""The commands `start`, `show`, `cancel` and `setup`."""

import asyncio
import shlex
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import typer
from pydantic import ValidationError
from temporalio.service import RPCError

from assent.cli import exit_codes, output
from assent.cli.common import AsJson, Attach, RunId, connection_options, emit, warn
from assent.cli.connect import with_client
from assent.cli.console import field, make_console
from assent.cli.parsing import content_of, json_object, seconds_of
from assent.cli.watching import exit_code_at_end, watch_run
from assent.client.client import AgentClient
from assent.client.progress import progress_of
from assent.client.run_handle import RunHandle
from assent.client.start import exists
from assent.views.commands import tree_command, watch_command
from assent.wire import protocol
from assent.wire.budget import BOUNDS, Budget
from assent.wire.errors import AssentError, MessageError
from assent.wire.policy import PermissionPolicy
from assent.wire.text import one_line

FIRST_LOOK: Final = 1.0
"""Seconds in which `assent start` sees that a run fails at once."""
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
    prompt: Annotated[str, typer.Argument(metavar="[PROMPT]", help="The task.", show_default=False)] = "",
    *,
    requested_by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the requester, who may not approve in the run.")
    ] = None,
    run_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The run's id, used only once.")] = None,
    max_turns: Annotated[int | None, typer.Option(metavar="N", min=1, help="Limit of turns.")] = None,
    max_tool_calls: Annotated[int | None, typer.Option(metavar="N", min=0, help="Limit of tool calls.")] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="Budget of tokens.")] = None,
    max_model_calls: Annotated[int | None, typer.Option(metavar="N", help="Budget of model calls.")] = None,
    max_cost: Annotated[float | None, typer.Option(metavar="X", help="Budget of cost, using worker prices.")] = None,
    max_time: Annotated[str | None, typer.Option(metavar="TIME", help="Budget of time: 90s, 30m, 2h, 7d.")] = None,
    on_budget: Annotated[
        Literal["ask", "end"] | None, typer.Option(help="When the budget is used up: ask (default) or end.")
    ] = None,
    budget_approver: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="May extend the budget (repeatable).", show_default=False)
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="FILE.toml", help="Additional rules; the stricter rule applies.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=5, help="1 (first) to 5 (last), when workers are busy.")
    ] = None,
    run_context: Annotated[
        str | None,
        typer.Option("--context", metavar="JSON", help="An object for tools, gates, policies and approvers."),
    ] = None,
    attach: Attach = None,
    conversation: Annotated[
        bool, typer.Option("--conversation", help="Stay open after an answer; PROMPT may be left out.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Watch the run until it ends.")] = False,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="With --follow: who decides at this terminal.")] = None,
    as_json: AsJson = False,
) -> int:
    """Start a run of an agent. If a run with this --id exists, nothing is started.

    Each limit and --policy can only tighten the agent's own. `assent send-message` continues a --conversation,
    `assent close` ends it.
    """
    content = content_of(prompt, attach)
    if not (isinstance(content, list) or prompt.strip() or conversation):
        message = f"the PROMPT is empty; say what {agent} should do: assent start {shlex.quote(agent)} 'PROMPT'"
        raise MessageError(message)
    place = connection_options(context)
    budget = _budget({
        "max_tokens": max_tokens,
        "max_model_calls": max_model_calls,
        "max_cost": max_cost,
        "max_time": None if max_time is None else seconds_of("--max-time", max_time),
        "on_reached": on_budget,
        "approvers": budget_approver or None,
    })  # fmt: skip
    rules = None if policy is None else PermissionPolicy.from_file(policy)
    context_fields = None if run_context is None else json_object("--context", run_context)

    async def work(client: AgentClient) -> int:
        known = run_id is not None and await exists(client.get_run(run_id))
        run = await client.start(
            agent,
            content,
            requested_by=requested_by,
            id=run_id,
            max_turns=max_turns,
            max_tool_calls=max_tool_calls,
            policy=rules,
            priority=priority,
            conversation=conversation,
            budget=budget,
            context=context_fields,
        )
        if as_json:
            emit({"run_id": run.id, "started": not known})
        else:
            console = make_console()
            field(console, "run", run.id, style="bold")
            if known:
                field(console, "", "a run with this id exists already; nothing was started", style="yellow")
            if not follow:
                field(console, "watch", watch_command(place.program, run.id))
                field(console, "pending", tree_command(place.program, run.id))
        if not follow:
            return exit_codes.DONE if known else await _exit_code_of_start(run)
        return await watch_run(run, place.program, as_json=as_json, approver=by, speaker=requested_by or by)

    return with_client(place, work)


async def _exit_code_of_start(run: RunHandle) -> int:
    """Return the exit code for a run that fails at once (no such agent, a wrong key); success for every other run."""
    try:
        state = await asyncio.wait_for(run.until_paused(), FIRST_LOOK)
    except (TimeoutError, AssentError, RPCError):  # The run is started, also where this command cannot read it.
        return exit_codes.DONE
    return exit_code_at_end(state) if state.is_finished else exit_codes.DONE


def _budget(fields: Mapping[str, object]) -> Budget | None:
    """Return the budget of a run; None if no option gives one.

    Raises:
        MessageError: an option is invalid, or no option sets a limit.
    """
    set_fields = {name: value for name, value in fields.items() if value is not None}
    if not set_fields:
        return None
    try:
        budget = Budget.model_validate(set_fields)
    except ValidationError as error:
        message = "; ".join(f"{_OPTIONS[str(each['loc'][0])]}: {each['msg']}" for each in error.errors())
        raise MessageError(message) from None
    if not budget.bounds:
        needed = ", ".join(_OPTIONS[each] for each in BOUNDS)
        raise MessageError(f"{_OPTIONS[next(iter(set_fields))]} needs a budget; give one of {needed}")
    if not all(map(str.strip, budget.approvers or ())):
        raise MessageError("--budget-approver: the name is empty")
    return budget


def show(context: typer.Context, run: RunId, *, as_json: AsJson = False) -> int:
    """Show one run: pending calls, decisions, ignored messages, the answer. Needs no worker."""
    place = connection_options(context)

    async def work(client: AgentClient) -> int:
        handle = client.get_run(run)
        tree = await handle.tree()
        state = tree.state
        progress = None if state.is_finished else await progress_of(handle)
        if as_json:
            emit(output.state_document(state, progress, tree.children, await handle.resets()))
        else:
            console = make_console()
            output.print_state(
                console, state, progress, place.program, await handle.fold(), tree.children, await handle.resets()
            )
        return exit_codes.DONE

    return with_client(place, work)


def cancel(context: typer.Context, run: RunId, *, as_json: AsJson = False) -> int:
    """Cancel a run and its child runs: pending calls are cancelled, no tool starts."""

    async def work(client: AgentClient) -> int:
        handle = client.get_run(run)
        tree = await handle.tree()
        state = tree.state
        if state.is_finished:  # The server accepts a cancellation of a run that has ended, and does nothing.
            warn(f"run {run!r} has already ended: {state.status}; there is nothing to cancel")
            return exit_codes.NO_EFFECT
        await handle.cancel()
        children = [each.state.id for each in tree.runs()][1:]
        if as_json:
            emit({"run_id": run, "status": "requested", "child_runs": children})
        else:
            console = make_console()
            field(console, "requested", "a worker cancels the run, as soon as one is there")
            for each in children:
                field(console, "child run", f"{one_line(each)} is cancelled too")
        return exit_codes.DONE

    return with_client(connection_options(context), work)


def setup(context: typer.Context, *, as_json: AsJson = False) -> int:
    """Register the search attributes of the inbox. Needed once in each namespace; safe to repeat."""

    async def work(client: AgentClient) -> int:
        added = await client.setup()
        present = [name for name in _ATTRIBUTES if name not in added]
        if as_json:
            emit({"added": added, "present": present})
        else:
            console = make_console()
            field(console, "added", ", ".join(added) or "none")
            field(console, "present", ", ".join(present) or "none")
        return exit_codes.DONE

    return with_client(connection_options(context), work)
