"""Start a run and follow it, as a service would: `python starter.py AGENT "PROMPT" [--requested-by NAME] [--id ID]`.

`--context '{"tenant": "acme"}'` is for tools, gates, policies and approvers.

At a terminal it asks about each call that waits; elsewhere it prints the commands that decide. Ctrl-C or SIGTERM ends
the following, not the run.
"""

import asyncio
import signal
import sys
from typing import Annotated

import typer
from pydantic import JsonValue

from assent import AgentClient, AssentError
from assent.cli.console import make_console
from assent.cli.errors import exit_code
from assent.cli.parsing import json_object
from assent.cli.terminal import can_ask, follow, os_user
from assent.runtime.connection import exit_cleanly
from assent.runtime.settings import Settings


async def main(
    agent: str,
    prompt: str,
    *,
    requested_by: str | None = None,
    run_id: str | None = None,
    by: str = "",
    context: dict[str, JsonValue] | None = None,
    client: AgentClient | None = None,
) -> int:
    """Start *agent*, follow the run to its end, and answer with an exit code: 0 completed, 1 not, 130 stopped."""
    client = client or await AgentClient.connect(task_queue=Settings.read().task_queue)
    run = await client.start(agent, prompt, requested_by=requested_by, id=run_id, context=context)
    console, ask = make_console(), can_ask() and bool(by)
    console.print(f"run {run.id}, requested by {requested_by or 'an unnamed person (--requested-by)'}", soft_wrap=True)
    if ask:
        console.print(f"you decide as {by} (--by); who asks for a run may not approve in it")
    following = asyncio.ensure_future(follow(run, approver=by, console=console, ask=ask))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, following.cancel)
    try:
        state = await following
    except asyncio.CancelledError:
        console.print(f"\nstopped following; the run continues: assent watch {run.id}", soft_wrap=True)
        return 130
    return 0 if state.status == "completed" else 1


def command(
    agent: str,
    prompt: str,
    requested_by: Annotated[str | None, typer.Option(help="Who requests the run, and may not approve in it.")] = None,
    run_id: Annotated[str | None, typer.Option("--id", help="The run's id.")] = None,
    by: Annotated[str | None, typer.Option(help="Who decides at this terminal; default: the OS user.")] = None,
    context: Annotated[str | None, typer.Option(metavar="JSON", help="An object for tools and approvers.")] = None,
) -> None:
    """Start AGENT with PROMPT and follow it; TEMPORAL_ADDRESS says where."""
    exit_cleanly()
    name = by or os_user() or ""
    try:
        context_fields = None if context is None else json_object("--context", context)
        sys.exit(
            asyncio.run(main(agent, prompt, requested_by=requested_by, run_id=run_id, by=name, context=context_fields))
        )
    except AssentError as error:
        print(f"starter: {error}", file=sys.stderr)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    typer.run(command)
