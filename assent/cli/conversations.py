"""`assent send-message` and `close`: talking to a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from pydantic import JsonValue

from assent.cli import exit_codes
from assent.cli.common import AsJson, Place, RequireAnswer, RunId, complain, emit, place_of
from assent.cli.connect import with_client
from assent.cli.console import field, make_console
from assent.client.client import AgentClient
from assent.views.commands import show_command
from assent.wire import protocol
from assent.wire.text import one_line

Sender = Annotated[str, typer.Option("--by", metavar="NAME", help="Who says it: a name the audit keeps.")]


def send_message(
    context: typer.Context,
    run: RunId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the model is told.", show_default=False)],
    *,
    by: Sender,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """Tell the model something more: it reads it with its next turn; an idle conversation goes on with it at once."""
    body: dict[str, JsonValue] = {"content": text, "by": by}
    return _send(place_of(context), run, protocol.SEND_MESSAGE, body, as_json=as_json, require_answer=require_answer)


def close(
    context: typer.Context,
    run: RunId,
    *,
    by: Sender,
    reason: Annotated[str | None, typer.Option(help="Why; the history keeps it.")] = None,
    require_answer: RequireAnswer = False,
    as_json: AsJson = False,
) -> int:
    """End a conversation with its last answer: at once where it is idle, else once it has answered."""
    body: dict[str, JsonValue] = {"by": by} if reason is None else {"by": by, "reason": reason}
    return _send(place_of(context), run, protocol.CLOSE, body, as_json=as_json, require_answer=require_answer)


def _send(
    place: Place, run_id: str, signal: str, body: Mapping[str, JsonValue], *, as_json: bool, require_answer: bool
) -> int:
    async def work(client: AgentClient) -> int:
        outcome = await client.get_run(run_id).decide(signal, body, check=False)
        if as_json:
            emit(outcome.model_dump(mode="json"))
        if not outcome.counted:
            complain(f"not taken: {outcome.status}: {outcome.detail}; see: {show_command(place.program, run_id)}")
            return exit_codes.NOT_TAKEN
        if not as_json:
            console = make_console()
            field(console, outcome.status, one_line(outcome.detail), style="bold")
            field(console, "see", show_command(place.program, run_id))
        return exit_codes.NO_WORKER if outcome.status == "sent" and require_answer else exit_codes.DONE

    return with_client(place, work)
