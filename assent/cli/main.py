"""The entry point: the global options, the commands, and every error as one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Final, TextIO

import typer
from temporalio.service import RPCError

from assent._version import __version__
from assent.cli import audit, conversations, decisions, exit_codes, inbox, runs, stats, watching
from assent.cli.common import Place, complain
from assent.cli.worker import worker
from assent.wire.errors import AssentError
from assent.wire.protocol import TASK_QUEUE

_EPILOG: Final = "\n\n".join(["Exit codes:", *(f"{code} {meaning}" for code, meaning in exit_codes.TABLE)])

app: Final = typer.Typer(
    name="assent", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, epilog=_EPILOG,
    rich_markup_mode="rich",
)  # fmt: skip


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's own signature
    if wanted:
        sys.stdout.write(f"assent {__version__}\n")
        raise typer.Exit


@app.callback()
def place(
    context: typer.Context,
    *,
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Default: TEMPORAL_ADDRESS.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Default: TEMPORAL_NAMESPACE.")] = None,
    profile: Annotated[str | None, typer.Option(help="A profile of the `temporal` CLI's file.")] = None,
    task_queue: Annotated[str, typer.Option(envvar="ASSENT_TASK_QUEUE", help="Where runs start.")] = TASK_QUEUE,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Start agents, see what waits for a person, decide it, and read the records."""
    del version  # Its callback has answered.
    context.obj = Place(address=address, namespace=namespace, profile=profile, task_queue=task_queue)


for _command in (
    runs.start,
    inbox.pending,
    runs.show,
    watching.watch,
    stats.stats,
    decisions.approve,
    decisions.reject,
    decisions.submit_result,
    decisions.submit_input,
    conversations.send_message,
    conversations.close,
    runs.cancel,
    runs.setup,
    worker,
):
    app.command()(_command)
app.command("revoke")(decisions.revoke_grant)
app.add_typer(audit.app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, `sys.argv` unless *arguments* are given, and answer with the exit code.

    I/O; not in workflow code.
    """
    for stream in (sys.stdout, sys.stderr):
        _never_fail(stream)
    try:
        code: object = app(args=arguments, prog_name="assent", standalone_mode=False)
    except typer.TyperException as error:
        return _misused(error)
    except (AssentError, RPCError) as error:
        complain(exit_codes.told(error))
        return exit_codes.exit_code(error)
    except (KeyboardInterrupt, typer.Abort):
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    except Exception as error:  # a traceback helps nobody at a terminal; ASSENT_DEBUG shows it
        return _broken(error)
    return code if isinstance(code, int) else exit_codes.DONE


def _misused(error: typer.TyperException) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        return exit_codes.USAGE
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "assent")
    told = error.format_message().rstrip(".").removeprefix("Invalid value: ").replace(": Value error, ", ": ")
    complain(f"{told}; see: {path} --help")
    return exit_codes.USAGE


def _broken(error: Exception) -> int:
    if os.environ.get("ASSENT_DEBUG"):
        traceback.print_exc()
    complain(
        f"an error in Assent itself: {type(error).__name__}: {error}; ASSENT_DEBUG=1 shows where; please report it"
    )
    return exit_codes.BUG


def _never_fail(stream: TextIO) -> None:
    """Escape what the stream's encoding does not have, instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if callable(reconfigure):
        reconfigure(errors="backslashreplace")
