"""The commands that decide: `approve`, `reject`, `submit-result`, `submit-input` and `revoke`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer
from pydantic import JsonValue

from assent.cli import errors, exit_codes
from assent.cli.batch import decide_each, locate_all
from assent.cli.common import (
    AsJson,
    By,
    CallId,
    Calls,
    ConnectionOptions,
    RequireAnswer,
    RunId,
    connection_options,
    emit,
    warn,
)
from assent.cli.connect import with_client
from assent.cli.console import field, make_console, print_edit, quoted
from assent.cli.parsing import calls_of, json_object, json_value, seconds_of
from assent.cli.signing import Key, Sign, signed
from assent.client.client import AgentClient
from assent.client.run_handle import RunHandle
from assent.client.signals import Signal, as_read, locate_grant
from assent.core.approvals import edited_text
from assent.views.commands import format_json, show_command
from assent.views.facts import grant_words
from assent.wire import protocol
from assent.wire.errors import MessageError
from assent.wire.protocol import DecisionOutcome
from assent.wire.requirements import Requirement
from assent.wire.text import one_line, plain

RememberUses = Annotated[
    int | None, typer.Option(metavar="N", help="Decide the next N calls of the tool in this run in the same way.")
]
RememberFor = Annotated[
    str | None, typer.Option(metavar="TIME", help="Decide further calls in the same way for this long: 30m, 2h, 7d.")
]
RememberIf = Annotated[
    str | None, typer.Option(metavar="JSON", help='Only calls with such arguments: {"amount": {"below": 100}}.')
]


Signer = Callable[[RunHandle, str, Mapping[str, JsonValue]], Awaitable[dict[str, JsonValue]]]
"""Adds the proof of who decides to the body of a decision."""


@dataclass(frozen=True)
class Report:
    """How a command proves a decision, with a *signer*, and reports the outcome of it or of a message."""

    place: ConnectionOptions
    as_json: bool
    require_answer: bool
    signer: Signer | None = None

    def print(self, outcome: DecisionOutcome, call: str = "") -> bool:
        """Print JSON, and to standard error why there was no effect; return whether to print the outcome for people."""
        if self.as_json:
            emit(
                outcome.model_dump(
                    mode="json", exclude={"grant"} if outcome.requirement_id and not outcome.grant else None
                )
            )
        if not outcome.counted:
            see = show_command(self.place.program, outcome.run_id)
            warn(f"{call}no effect: {outcome.status}: {outcome.detail}; see: {see}")
        return outcome.counted and not self.as_json

    def code(self, outcome: DecisionOutcome) -> int:
        """Return the exit code of an outcome."""
        if outcome.status == "sent" and self.require_answer:
            return exit_codes.NO_WORKER
        return exit_codes.DONE if outcome.counted else exit_codes.NO_EFFECT


def body_of(**texts: str | None) -> dict[str, JsonValue]:
    """Return the options that were given, as fields of a message.

    Raises:
        MessageError: one is empty.
    """
    for name, text in texts.items():
        if text is not None and not text.strip():
            raise MessageError(f"--{name} must not be empty")
    return {name: text for name, text in texts.items() if text is not None}


def approve(
    context: typer.Context,
    calls: Calls,
    *,
    by: By,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the record.")] = None,
    arguments: Annotated[
        str | None, typer.Option(metavar="JSON", help="Arguments that replace the model's: all of them, as an object.")
    ] = None,
    remember_uses: RememberUses = None,
    remember_for: RememberFor = None,
    remember_if: RememberIf = None,
    sign: Sign = False,
    key: Key = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Approve a pending call with exactly its arguments, or with --arguments.

    A call whose outcome is unknown runs again.

    With several calls, all are looked up before anything is sent.
    """
    named = calls_of(calls)
    body = body_of(by=by, reason=reason)
    if arguments is not None:
        body["arguments"] = json_object("--arguments", arguments)
    body |= _remember(remember_uses, remember_for, remember_if)
    return _decide(_report(context, as_json, require_answer, sign, key), named, protocol.APPROVE, body)


def reject(
    context: typer.Context,
    calls: Calls,
    *,
    by: By,
    reason: Annotated[str, typer.Option(help="Why; the model gets it, and the record keeps it.")],
    remember_uses: RememberUses = None,
    remember_for: RememberFor = None,
    remember_if: RememberIf = None,
    sign: Sign = False,
    key: Key = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Reject a pending call. The model gets the reason; the run continues.

    A call whose outcome is unknown is given up.

    With several calls, all are looked up before anything is sent.
    """
    body = body_of(by=by, reason=reason) | _remember(remember_uses, remember_for, remember_if)
    return _decide(_report(context, as_json, require_answer, sign, key), calls_of(calls), protocol.REJECT, body)


def submit_result(
    context: typer.Context,
    run: RunId,
    call: CallId,
    *,
    by: By,
    output: Annotated[str | None, typer.Option(metavar="JSON", help="The result, as JSON.")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="How the call failed.")] = None,
    evidence: Annotated[
        str | None, typer.Option(metavar="JSON", help="Evidence for the record: a link, a ticket.")
    ] = None,
    sign: Sign = False,
    key: Key = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Submit the result, or the error, of a call that was made elsewhere.

    For a call whose outcome is unknown: it happened, with this result.
    """
    if (output is None) == (error is None):
        raise typer.BadParameter("give either --output JSON or --error TEXT", ctx=context)
    body = body_of(by=by, error=error)
    if output is not None:
        body["output"] = json_value("--output", output)
    if evidence is not None:
        body["evidence"] = json_value("--evidence", evidence)
    return _decide(_report(context, as_json, require_answer, sign, key), [(run, call)], protocol.SUBMIT_RESULT, body)


def submit_input(
    context: typer.Context,
    run: RunId,
    call: CallId,
    *,
    by: By,
    values: Annotated[str, typer.Option(metavar="JSON", help="The fields, as an object.")],
    sign: Sign = False,
    key: Key = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Submit the values that a tool asks a person for."""
    body = {**body_of(by=by), "values": json_object("--values", values)}
    return _decide(_report(context, as_json, require_answer, sign, key), [(run, call)], protocol.SUBMIT_INPUT, body)


def revoke_grant(
    context: typer.Context,
    run: RunId,
    grant: Annotated[
        str, typer.Argument(metavar="GRANT", help="The grant's id, or its beginning.", show_default=False)
    ],
    *,
    by: By,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the history.")] = None,
    sign: Sign = False,
    key: Key = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """End a remembered decision: people are asked about further calls again."""
    body = body_of(by=by, reason=reason)
    report = _report(context, as_json, require_answer, sign, key)

    async def work(client: AgentClient) -> int:
        handle = client.get_run(run)
        located = locate_grant(await handle.state(), grant)
        sent: dict[str, JsonValue] = {"id": located.id, **body}
        if report.signer is not None:
            sent = await report.signer(handle, protocol.REVOKE, sent)
        outcome = await handle.decide(protocol.REVOKE, sent, check=False)
        if report.print(outcome):
            console = make_console()
            field(console, "revoked" if outcome.status != "sent" else "sent", one_line(outcome.detail), style="bold")
            field(console, located.short_id, plain(grant_words(located)))
        return report.code(outcome)

    return with_client(report.place, work)


def _report(context: typer.Context, as_json: AsJson, require_answer: RequireAnswer, sign: Sign, key: Key) -> Report:
    return Report(
        connection_options(context), as_json, require_answer, partial(signed, key=key) if sign or key else None
    )


def _remember(uses: int | None, time: str | None, conditions: str | None) -> dict[str, JsonValue]:
    if uses is None and time is None:
        if conditions is None:
            return {}
        raise MessageError("--remember-if needs a limit: --remember-uses N, --remember-for TIME, or both")
    remember: dict[str, JsonValue] = {}
    if uses is not None:
        remember["uses"] = uses
    if time is not None:
        remember["expires_after"] = seconds_of("--remember-for", time)
    if conditions is not None:
        remember["arguments"] = json_object("--remember-if", conditions)
    return {"remember": remember}


def _decide(report: Report, calls: Sequence[tuple[str, str]], signal: Signal, body: Mapping[str, JsonValue]) -> int:
    if len(calls) > 1:
        if body.keys() & {"arguments", "remember"}:
            raise MessageError("--arguments and --remember-... go with one call; name one")
        if report.signer is not None:
            raise MessageError("--sign goes with one call, which is what you sign; name one")
        return with_client(report.place, lambda client: _decide_several(client, report, calls, signal, body))
    return with_client(report.place, lambda client: _decide_one(client, report, *calls[0], signal, body))


async def _decide_one(
    client: AgentClient, report: Report, run_id: str, call: str, signal: Signal, body: Mapping[str, JsonValue]
) -> int:
    run = client.get_run(run_id)
    requirement = await run.locate(call, signal)
    sent: dict[str, JsonValue] = {"id": requirement.id, **body}
    if report.signer is not None:
        sent = await report.signer(run, signal, sent)
    outcome = await run.decide(signal, sent, check=False)
    if report.print(outcome):
        console = make_console()
        field(console, outcome.status, one_line(outcome.detail), style="bold")
        short_id = (outcome.requirement_id or requirement.id)[:8]
        field(console, short_id, f"{one_line(requirement.tool)} in run {one_line(outcome.run_id)}")
        if "arguments" in body:
            print_edit(console, requirement.arguments, edited_text(as_read(signal, body)))
        else:
            quoted(console, "arguments", requirement.arguments)
        if "values" in body:
            quoted(console, "values", format_json(as_read(signal, body), ", "))
    return report.code(outcome)


async def _decide_several(
    client: AgentClient, report: Report, calls: Sequence[tuple[str, str]], signal: Signal, body: Mapping[str, JsonValue]
) -> int:
    as_read(signal, body)  # A body that is invalid for one call is invalid for all.
    located = await locate_all(client, calls, signal)
    if not report.as_json:
        console = make_console()
        for run, requirement in located:
            field(console, requirement.short_id, f"{one_line(requirement.tool)} in run {one_line(run.id)}")
            quoted(console, "arguments", requirement.arguments)
    codes: list[int] = []
    unwritten: OSError | SystemExit | None = None
    async for run, requirement, outcome in decide_each(located, signal, body):
        try:
            if isinstance(outcome, DecisionOutcome):
                _report_one(report, run.id, requirement, outcome)
                codes.append(report.code(outcome))
            else:
                _report_error(report, run.id, requirement, errors.describe_error(outcome))
                codes.append(errors.exit_code(outcome))
        except (OSError, SystemExit) as error:
            # The reader of the output has gone (`| head -1`). The other decisions are sent all the same.
            unwritten = error
    if unwritten is not None:
        raise unwritten
    return max(codes)


def _report_one(report: Report, run_id: str, requirement: Requirement, outcome: DecisionOutcome) -> None:
    """Print the outcome of one of several decisions in one line."""
    call = f"{one_line(run_id)}/{requirement.short_id}: "
    if report.print(outcome, call):
        field(make_console(), outcome.status, call + one_line(outcome.detail), style="bold")


def _report_error(report: Report, run_id: str, requirement: Requirement, error: str) -> None:
    if report.as_json:
        call = {"run_id": run_id, "requirement_id": requirement.id, "tool": requirement.tool}
        emit({**call, "status": "error", "detail": error})
    warn(f"{one_line(run_id)}/{requirement.short_id}: {error}")
