"""`assent pending`, `approve`, `reject` and `submit-result`: what an operator does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, NoReturn

import typer
from pydantic import JsonValue

from assent import protocol
from assent.cli import exits, pages
from assent.cli.context import AsJson, By, CallId, Place, RunId, complain, emit, place_of, with_client
from assent.client import AgentClient
from assent.console import field, make_console, quoted
from assent.decisions import Outcome, Signal, decide, locate
from assent.errors import MessageError
from assent.render import one_line
from assent.requirements import Requirement

_RequireAnswer = Annotated[
    bool, typer.Option("--require-answer", help="Exit with 5 where it was sent and no worker has read it.")
]


def pending(
    context: typer.Context,
    *,
    agent: Annotated[str | None, typer.Option(help="Only runs of this agent.")] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    as_json: AsJson = False,
) -> int:
    """What waits for a person, over all runs. Works with every worker stopped."""
    place = place_of(context)

    async def work(client: AgentClient) -> int:
        runs = await client.pending(agent=agent, tool=tool)
        if as_json:
            emit(pages.pending_document(runs))
        else:
            pages.print_pending(make_console(), runs, place.program)
        return exits.DONE

    return with_client(place, work)


def approve(
    context: typer.Context,
    run: RunId,
    call: CallId,
    *,
    by: By,
    reason: Annotated[str | None, typer.Option(help="Why; the record keeps it.")] = None,
    require_answer: _RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Approve a call that waits: exactly that call, with exactly those arguments."""
    body: dict[str, JsonValue] = {"by": by} if reason is None else {"by": by, "reason": reason}
    return _decide(place_of(context), run, call, protocol.APPROVE, body, as_json=as_json, require_answer=require_answer)


def reject(
    context: typer.Context,
    run: RunId,
    call: CallId,
    *,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; the model is told, and the record keeps it.")],
    require_answer: _RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Reject a call that waits; the model is told why, and the run goes on."""
    body: dict[str, JsonValue] = {"by": by, "reason": reason}
    return _decide(place_of(context), run, call, protocol.REJECT, body, as_json=as_json, require_answer=require_answer)


def submit_result(
    context: typer.Context,
    run: RunId,
    call: CallId,
    *,
    by: By,
    output: Annotated[str | None, typer.Option(metavar="JSON", help="The result, as JSON.")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="How it failed.")] = None,
    require_answer: _RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Hand in the result of a call that was carried out elsewhere, or how it failed."""
    if (output is None) == (error is None):
        message = "give --output JSON or --error TEXT, one of them"
        raise typer.BadParameter(message, ctx=context)
    body: dict[str, JsonValue] = {"by": by}
    body |= {"error": error} if output is None else {"output": _json(output)}
    return _decide(
        place_of(context), run, call, protocol.SUBMIT_RESULT, body, as_json=as_json, require_answer=require_answer
    )


def _decide(
    place: Place,
    run_id: str,
    call: str,
    signal: Signal,
    body: Mapping[str, JsonValue],
    *,
    as_json: bool,
    require_answer: bool,
) -> int:
    _check(body)

    async def work(client: AgentClient) -> int:
        run = client.run(run_id)
        requirement = locate(await run.state(), call)
        outcome = await decide(run, requirement, signal, body)
        if as_json:
            emit(outcome.model_dump(mode="json"))
        _tell(outcome, requirement, as_json=as_json)
        if outcome.status == "sent" and require_answer:
            return exits.NO_WORKER
        return exits.DONE if outcome.taken else exits.NOT_TAKEN

    return with_client(place, work)


def _tell(outcome: Outcome, requirement: Requirement, *, as_json: bool) -> None:
    if not outcome.taken:
        complain(f"not taken: {outcome.status}: {outcome.detail}; see: assent show {outcome.run_id}")
    elif not as_json:
        console = make_console()
        field(console, outcome.status, one_line(outcome.detail), style="bold")
        field(console, requirement.short_id, f"{one_line(requirement.tool)} in run {one_line(outcome.run_id)}")
        quoted(console, "arguments", requirement.arguments)


def _check(body: Mapping[str, JsonValue]) -> None:
    for name in ("by", "reason", "error"):
        value = body.get(name)
        if isinstance(value, str) and not value.strip():
            message = f"--{name} is empty; say it"
            raise MessageError(message)


def _json(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        message = f"--output is not JSON ({error}); text goes in double quotes: --output '\"done\"'"
        raise MessageError(message) from None
    return value


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not a JSON number"
    raise ValueError(message)
