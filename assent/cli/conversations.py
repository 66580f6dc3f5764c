"""The commands `send-message` and `close`, which talk to a run."""

from collections.abc import Mapping
from typing import Annotated

import typer
from pydantic import JsonValue

from assent.cli.common import AsJson, Attach, RequireAnswer, RunId, connection_options
from assent.cli.connect import with_client
from assent.cli.console import field, make_console
from assent.cli.decisions import Report
from assent.cli.parsing import content_of
from assent.client.client import AgentClient
from assent.client.run_handle import message_of
from assent.views.commands import show_command
from assent.wire import protocol
from assent.wire.text import one_line

Sender = Annotated[str, typer.Option("--by", metavar="NAME", help="The sender: a name for the audit.")]


def send_message(
    context: typer.Context,
    run: RunId,
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="The message to the model.", show_default=False)] = "",
    *,
    by: Sender,
    attach: Attach = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Send the model a message, which it reads on its next turn. An idle conversation continues at once."""
    report = Report(connection_options(context), as_json, require_answer)
    return _send(report, run, protocol.SEND_MESSAGE, message_of(content_of(text, attach), by))


def close(
    context: typer.Context,
    run: RunId,
    *,
    by: Sender,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the history.")] = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """End a conversation with its last answer: at once if it is idle, otherwise after the next answer."""
    body: dict[str, JsonValue] = {"by": by} if reason is None else {"by": by, "reason": reason}
    return _send(Report(connection_options(context), as_json, require_answer), run, protocol.CLOSE, body)


def _send(report: Report, run_id: str, signal: str, body: Mapping[str, JsonValue]) -> int:
    async def work(client: AgentClient) -> int:
        outcome = await client.get_run(run_id).decide(signal, body, check=False)
        if report.print(outcome):
            console = make_console()
            field(console, outcome.status, one_line(outcome.detail), style="bold")
            field(console, "details", show_command(report.place.program, run_id))
        return report.code(outcome)

    return with_client(report.place, work)
