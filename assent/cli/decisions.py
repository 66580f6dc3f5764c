"""`assent approve`, `reject`, `submit-result`, `submit-input` and `revoke`: what an operator does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from pydantic import JsonValue
from temporalio.service import RPCError

from assent.cli import errors, exit_codes
from assent.cli.batch import all_located, decided
from assent.cli.common import (
    AsJson,
    By,
    CallId,
    Calls,
    Place,
    RequireAnswer,
    RunId,
    complain,
    emit,
    place_of,
)
from assent.cli.connect import with_client
from assent.cli.console import field, make_console, quoted
from assent.cli.parsing import calls_of, json_object, json_value, seconds_of
from assent.client.client import AgentClient
from assent.client.signals import Signal, as_read, locate_grant
from assent.core.approvals import edited_text
from assent.views.commands import show_command, typed
from assent.views.facts import grant_words
from assent.wire import protocol
from assent.wire.errors import AssentError, MessageError
from assent.wire.protocol import DecisionOutcome
from assent.wire.requirements import Requirement
from assent.wire.text import one_line, plain


def approve(
    context: typer.Context,
    calls: Calls,
    *,
    by: By,
    reason: Annotated[str | None, typer.Option(help="Why; the record keeps it.")] = None,
    arguments: Annotated[
        str | None, typer.Option(metavar="JSON", help="Run these instead of the model's: all of them, as an object.")
    ] = None,
    remember_uses: Annotated[
        int | None, typer.Option(metavar="N", help="Let as many further calls of the tool in this run through.")
    ] = None,
    remember_for: Annotated[
        str | None, typer.Option(metavar="TIME", help="Let further calls through for so long: 30m, 2h, 7d.")
    ] = None,
    remember_if: Annotated[
        str | None, typer.Option(metavar="JSON", help='Only with such arguments: {"amount": {"below": 100}}.')
    ] = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Approve a call that waits: exactly that call, with exactly those arguments, or with --arguments those.

    Of a call whose outcome is unknown it says: run it again.

    Several calls are each named, and all looked up before anything is sent.
    """
    named = calls_of(calls)
    body: dict[str, JsonValue] = {"by": by} if reason is None else {"by": by, "reason": reason}
    if arguments is not None:
        body["arguments"] = json_object("--arguments", arguments)
    body |= _remember(remember_uses, remember_for, remember_if)
    if len(named) > 1 and body.keys() & {"arguments", "remember"}:
        message = "--arguments and --remember-... go with one call; name one"
        raise MessageError(message)
    return _decide(place_of(context), named, protocol.APPROVE, body, as_json=as_json, require_answer=require_answer)


def reject(
    context: typer.Context,
    calls: Calls,
    *,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; the model is told, and the record keeps it.")],
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Reject a call that waits; the model is told why, and the run goes on.

    Of a call whose outcome is unknown it says: give up.

    Several calls are each named, and all looked up before anything is sent.
    """
    body: dict[str, JsonValue] = {"by": by, "reason": reason}
    return _decide(
        place_of(context), calls_of(calls), protocol.REJECT, body, as_json=as_json, require_answer=require_answer
    )


def submit_result(
    context: typer.Context,
    run: RunId,
    call: CallId,
    *,
    by: By,
    output: Annotated[str | None, typer.Option(metavar="JSON", help="The result, as JSON.")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="How it failed.")] = None,
    evidence: Annotated[
        str | None, typer.Option(metavar="JSON", help="What shows it: a link, a ticket; the record keeps it.")
    ] = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Hand in the result of a call that was carried out elsewhere, or how it failed.

    Of a call whose outcome is unknown it says: it happened, and this came of it.
    """
    if (output is None) == (error is None):
        message = "give --output JSON or --error TEXT, one of them"
        raise typer.BadParameter(message, ctx=context)
    body: dict[str, JsonValue] = {"by": by}
    body |= {"error": error} if output is None else {"output": json_value("--output", output)}
    if evidence is not None:
        body["evidence"] = json_value("--evidence", evidence)
    return _decide(
        place_of(context), [(run, call)], protocol.SUBMIT_RESULT, body, as_json=as_json, require_answer=require_answer
    )


def submit_input(
    context: typer.Context,
    run: RunId,
    call: CallId,
    *,
    by: By,
    values: Annotated[str, typer.Option(metavar="JSON", help="The fields, as an object.")],
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Fill in what a tool asks of a person."""
    body: dict[str, JsonValue] = {"by": by, "values": json_object("--values", values)}
    return _decide(
        place_of(context), [(run, call)], protocol.SUBMIT_INPUT, body, as_json=as_json, require_answer=require_answer
    )


def revoke_grant(
    context: typer.Context,
    run: RunId,
    grant: Annotated[
        str, typer.Argument(metavar="GRANT", help="The grant's id, or its beginning.", show_default=False)
    ],
    *,
    by: By,
    reason: Annotated[str | None, typer.Option(help="Why; the history keeps it.")] = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """End a remembered approval: further calls need an approval again."""
    body: dict[str, JsonValue] = {"by": by} if reason is None else {"by": by, "reason": reason}
    _check(body)
    place = place_of(context)

    async def work(client: AgentClient) -> int:
        handle = client.get_run(run)
        found = locate_grant(await handle.state(), grant)
        outcome = await handle.decide(protocol.REVOKE, {"id": found.id, **body}, check=False)
        _answer(outcome, place, as_json=as_json)
        if outcome.counted and not as_json:
            console = make_console()
            field(console, "revoked" if outcome.status != "sent" else "sent", one_line(outcome.detail), style="bold")
            field(console, found.short_id, plain(grant_words(found)))
        return _code(outcome, require_answer=require_answer)

    return with_client(place, work)


def _remember(uses: int | None, time: str | None, conditions: str | None) -> dict[str, JsonValue]:
    if uses is None and time is None:
        if conditions is None:
            return {}
        message = "--remember-if needs a bound: --remember-uses N, --remember-for TIME, or both"
        raise MessageError(message)
    remember: dict[str, JsonValue] = {}
    if uses is not None:
        remember["uses"] = uses
    if time is not None:
        remember["expires_after"] = seconds_of("--remember-for", time)
    if conditions is not None:
        remember["arguments"] = json_object("--remember-if", conditions)
    return {"remember": remember}


def _decide(
    place: Place,
    calls: Sequence[tuple[str, str]],
    signal: Signal,
    body: Mapping[str, JsonValue],
    *,
    as_json: bool,
    require_answer: bool,
) -> int:
    _check(body)

    async def one(client: AgentClient) -> int:
        [(run_id, call)] = calls
        run = client.get_run(run_id)
        requirement = await run.locate(call, signal)
        outcome = await run.decide(signal, {"id": requirement.id, **body}, check=False)
        _answer(outcome, place, as_json=as_json)
        if outcome.counted and not as_json:
            _tell(outcome, requirement, signal, body)
        return _code(outcome, require_answer=require_answer)

    async def several(client: AgentClient) -> int:
        as_read(signal, body)  # What cannot be sent to one can be sent to none.
        named = await all_located(client, calls, signal)
        if not as_json:
            for run, requirement in named:
                _show(run.id, requirement)
        codes: list[int] = []
        unread: OSError | SystemExit | None = None
        async for run, requirement, outcome in decided(named, signal, body):
            try:
                codes.append(_line(run.id, requirement, outcome, place, as_json=as_json, require_answer=require_answer))
            except (OSError, SystemExit) as error:
                # Whoever read this has gone (`| head -1`). The others were named too, and are sent all the same.
                unread = error
        if unread is not None:
            raise unread
        return max(codes)

    return with_client(place, one if len(calls) == 1 else several)


def _show(run_id: str, requirement: Requirement) -> None:
    console = make_console()
    field(console, requirement.short_id, f"{one_line(requirement.tool)} in run {one_line(run_id)}")
    quoted(console, "arguments", requirement.arguments)


def _line(
    run_id: str,
    requirement: Requirement,
    outcome: DecisionOutcome | AssentError | RPCError,
    place: Place,
    *,
    as_json: bool,
    require_answer: bool,
) -> int:
    """Say what came of one of several, in one line, and answer with its exit code."""
    call = f"{one_line(run_id)}/{requirement.short_id}"
    if not isinstance(outcome, DecisionOutcome):
        detail = errors.describe_error(outcome)
        if as_json:
            emit({
                "run_id": run_id, "requirement_id": requirement.id, "tool": requirement.tool, "status": "error",
                "detail": detail,
            })  # fmt: skip
        complain(f"{call}: {detail}")
        return errors.exit_code(outcome)
    if as_json or not outcome.counted:
        _answer(outcome, place, as_json=as_json, call=f"{call}: ")
    else:
        field(make_console(), outcome.status, f"{call}: {one_line(outcome.detail)}", style="bold")
    return _code(outcome, require_answer=require_answer)


def _answer(outcome: DecisionOutcome, place: Place, *, as_json: bool, call: str = "") -> None:
    if as_json:
        emit(outcome.model_dump(mode="json", exclude=None if outcome.grant else {"grant"}))
    if not outcome.counted:
        see = show_command(place.program, outcome.run_id)
        complain(f"{call}not taken: {outcome.status}: {outcome.detail}; see: {see}")


def _code(outcome: DecisionOutcome, *, require_answer: bool) -> int:
    if outcome.status == "sent" and require_answer:
        return exit_codes.NO_WORKER
    return exit_codes.DONE if outcome.counted else exit_codes.NOT_TAKEN


def _tell(outcome: DecisionOutcome, requirement: Requirement, signal: Signal, body: Mapping[str, JsonValue]) -> None:
    console = make_console()
    field(console, outcome.status, one_line(outcome.detail), style="bold")
    field(
        console,
        (outcome.requirement_id or requirement.id)[:8],
        f"{one_line(requirement.tool)} in run {one_line(outcome.run_id)}",
    )
    if "arguments" in body:
        quoted(console, "before", requirement.arguments)
        quoted(console, "now", edited_text(as_read(signal, body)))
    else:
        quoted(console, "arguments", requirement.arguments)
    if "values" in body:
        quoted(console, "values", typed(as_read(signal, body), ", "))


def _check(body: Mapping[str, JsonValue]) -> None:
    for name in ("by", "reason", "error"):
        value = body.get(name)
        if isinstance(value, str) and not value.strip():
            message = f"--{name} is empty; say it"
            raise MessageError(message)
