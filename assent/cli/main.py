"""The entry point: the global options, the table of commands, and each error as one line and an exit code.

A command's module is imported when the command runs. So `assent --help` needs neither Temporal nor a model.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from assent._version import __version__
from assent.cli import exit_codes
from assent.cli.common import ConnectionOptions, warn
from assent.wire.errors import AssentError
from assent.wire.names import TASK_QUEUE

if TYPE_CHECKING:  # Typer's own classes of these are not public.
    from typer._click import Command, Context

COMMANDS: Final = {
    "start": ("Runs", "runs:start", "Start a run of an agent. If a run with this --id exists, nothing is started."),
    "show": (
        "Runs",
        "runs:show",
        "Show one run: pending calls, decisions, ignored messages, the answer. Needs no worker.",
    ),
    "watch": ("Runs", "watching:watch", "Print the events of a run until it ends; with --all, of all runs."),
    "send-message": (
        "Runs",
        "conversations:send_message",
        "Send the model a message, which it reads on its next turn. An idle conversation continues at once.",
    ),
    "close": (
        "Runs",
        "conversations:close",
        "End a conversation with its last answer: at once if it is idle, otherwise after the next answer.",
    ),
    "cancel": ("Runs", "runs:cancel", "Cancel a run and its child runs: pending calls are cancelled, no tool starts."),
    "pending": ("Decisions", "inbox:pending", "List the calls of all runs that wait for a person. Needs no worker."),
    "approve": (
        "Decisions",
        "decisions:approve",
        "Approve a pending call with exactly its arguments, or with --arguments.",
    ),
    "reject": ("Decisions", "decisions:reject", "Reject a pending call. The model gets the reason; the run continues."),
    "submit-result": (
        "Decisions",
        "decisions:submit_result",
        "Submit the result, or the error, of a call that was made elsewhere.",
    ),
    "submit-input": ("Decisions", "decisions:submit_input", "Submit the values that a tool asks a person for."),
    "sign": (
        "Decisions",
        "signing:sign",
        "Print a signed decision as JSON, to be sent with the `temporal` CLI or by a program; nothing is sent.",
    ),
    "revoke": (
        "Decisions",
        "decisions:revoke_grant",
        "End a remembered decision: people are asked about further calls again.",
    ),
    "audit": (
        "Audit",
        "audit:app",
        "Audit a run from its history alone: who asked, who decided, what ran. Needs no worker.",
    ),
    "stats": (
        "Audit",
        "stats:stats",
        "Show how people decide, by tool and by person: how many, how fast, how many too fast to have read the call.",
    ),
    "worker": (
        "Worker",
        "worker:worker",
        "Serve agents until SIGTERM or Ctrl-C. Reads ASSENT_AGENTS=module,module and ASSENT_WEBHOOKS too.",
    ),
    "web": ("Worker", "web:web", "Serve the page on which people decide, in a browser. Needs no worker."),
    "invite": (
        "Worker",
        "web:invite",
        "Print a link with which a person makes a passkey. You sign it with your SSH key, as an administrator.",
    ),
    "setup": (
        "Worker",
        "runs:setup",
        "Register the search attributes of the inbox. Needed once in each namespace; safe to repeat.",
    ),
}
"""Each command: its panel in the list, the place of its function or `Typer`, and the first paragraph of its help."""
_EPILOG: Final = "\n\n".join(["Exit codes:", *(f"{code} {meaning}" for code, meaning in exit_codes.TABLE)])


class _Commands(TyperGroup):
    """The list of commands, which imports the module of a command when that command runs."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """Find the command that *args* begin with, and import its module."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and imported(str(name)), rest


app: Final = typer.Typer(
    name="assent", cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    epilog=_EPILOG, rich_markup_mode="rich",
)  # fmt: skip


def _show_version(requested: bool) -> None:  # noqa: FBT001 - typer's own signature
    if requested:
        sys.stdout.write(f"assent {__version__}\n")
        raise typer.Exit


@app.callback()
def place(
    context: typer.Context,
    *,
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Default: TEMPORAL_ADDRESS.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Default: TEMPORAL_NAMESPACE.")] = None,
    profile: Annotated[str | None, typer.Option(help="A profile in the `temporal` CLI's file.")] = None,
    task_queue: Annotated[
        str, typer.Option(envvar="ASSENT_TASK_QUEUE", help="The task queue of new runs.")
    ] = TASK_QUEUE,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Start agents, see which calls wait for a person, decide them, and read the records."""
    del version  # Its callback has printed it.
    context.obj = ConnectionOptions(address=address, namespace=namespace, profile=profile, task_queue=task_queue)


def imported(name: str) -> Command:
    """Import the module of a command, and return the command."""
    module, _, attribute = COMMANDS[name][1].partition(":")
    gc.disable()  # What is imported stays: looking through it for garbage takes a fifth of the time.
    command: object = getattr(import_module(f"{__package__}.{module}"), attribute)
    gc.enable()
    if isinstance(command, typer.Typer):
        return get_command(command)
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    single.command(name)(cast("Callable[..., int]", command))
    made = get_command(single)
    # Typer keeps the line breaks of all paragraphs but the first, which a narrower console would break once more.
    made.help = "\n\n".join(" ".join(each.split()) for each in (made.help or "").split("\n\n"))
    return made


for _name, (_panel, _, _help) in COMMANDS.items():
    app.command(_name, help=_help, rich_help_panel=_panel)(lambda: None)  # Stands for it until it is imported.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, `sys.argv` unless *arguments* are given, and return the exit code."""
    atexit.register(gc.freeze)  # Without it, the end of a process looks through all modules for garbage: half a second.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # Escape what the stream's encoding lacks, instead of failing.
            stream.reconfigure(errors="backslashreplace")
    try:
        code: object = app(args=arguments, prog_name="assent", standalone_mode=False)
    except typer.TyperException as error:
        return _misused(error)
    except (KeyboardInterrupt, typer.Abort):
        code = exit_codes.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    except Exception as error:  # One line is more use at a terminal than a traceback, which ASSENT_DEBUG=1 prints.
        return _failed(error)
    if code == exit_codes.INTERRUPTED and sys.stderr.isatty():
        sys.stderr.write("\n")  # What the shell prints next gets a line of its own.
    return code if isinstance(code, int) else exit_codes.DONE


def _misused(error: typer.TyperException) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        return exit_codes.USAGE
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "assent")
    text = error.format_message().rstrip(".").removeprefix("Invalid value: ").replace(": Value error, ", ": ")
    warn(f"{text}; see: {path} --help")
    return exit_codes.USAGE


def _failed(error: Exception) -> int:
    from temporalio.service import RPCError

    from assent.cli import errors

    if isinstance(error, AssentError | RPCError):
        warn(errors.describe_error(error))
        return errors.exit_code(error)
    if os.environ.get("ASSENT_DEBUG"):
        traceback.print_exc()
    warn(f"an error in Assent itself: {type(error).__name__}: {error}; ASSENT_DEBUG=1 shows where; please report it")
    return exit_codes.BUG
