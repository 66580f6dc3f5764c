"""The entry point: the global options, the commands, and every error as one line and an exit code.

A command's module is imported when the command runs. So `assent --help` needs neither Temporal nor a model.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final, TextIO, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from assent._version import __version__
from assent.cli import exit_codes
from assent.cli.common import Place, complain
from assent.wire.errors import AssentError
from assent.wire.names import TASK_QUEUE

if TYPE_CHECKING:  # Typer's own classes of these are not public.
    from typer._click import Command, Context

COMMANDS: Final = {
    "start": (
        "runs:start",
        "Start a run of an agent. With an id that a run has already, nothing is started and that run is meant.",
    ),
    "pending": ("inbox:pending", "What waits for a person, over all runs. Works with every worker stopped."),
    "show": (
        "runs:show",
        "Everything about one run: what waits, what was decided, what did not count. Needs no worker.",
    ),
    "watch": (
        "watching:watch",
        "What happens in a run, from its beginning to its end, as it happens; or, with --all, in all runs.",
    ),
    "stats": (
        "stats:stats",
        "How people decide: by tool and by person, how much, how fast, and how often too fast to have read it.",
    ),
    "approve": (
        "decisions:approve",
        "Approve a call that waits: exactly that call, with exactly those arguments, or with --arguments those.",
    ),
    "reject": ("decisions:reject", "Reject a call that waits; the model is told why, and the run goes on."),
    "submit-result": (
        "decisions:submit_result",
        "Hand in the result of a call that was carried out elsewhere, or how it failed.",
    ),
    "submit-input": ("decisions:submit_input", "Fill in what a tool asks of a person."),
    "send-message": (
        "conversations:send_message",
        "Tell the model something more: it reads it with its next turn; an idle conversation goes on with it at once.",
    ),
    "close": (
        "conversations:close",
        "End a conversation with its last answer: at once where it is idle, else once it has answered.",
    ),
    "cancel": (
        "runs:cancel",
        "Cancel a run, and the runs below it: what waits is cancelled, and nothing starts after.",
    ),
    "setup": (
        "runs:setup",
        "Register the search attributes that the inbox uses. Once for each namespace; again does no harm.",
    ),
    "worker": (
        "worker:worker",
        "Serve agents until SIGTERM or Ctrl-C. Also from ASSENT_AGENTS=module,module and ASSENT_WEBHOOKS.",
    ),
    "revoke": ("decisions:revoke_grant", "End a remembered approval: further calls need an approval again."),
    "audit": (
        "audit:app",
        "The audit of a run, from its history alone: who asked, who decided, what ran. Needs no worker.",
    ),
}
"""Each command: where its function or `Typer` is, and the first paragraph of its help, which the list of all shows."""
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


def imported(name: str) -> Command:
    """Import the module of a command, and give the command."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found: object = getattr(import_module(f"{__package__}.{module}"), attribute)
    if isinstance(found, typer.Typer):
        return get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    single.command(name)(cast("Callable[..., int]", found))
    return get_command(single)


def _listed() -> None:
    """Stand for a command until it is imported."""


for _name, (_, _help) in COMMANDS.items():
    app.command(_name, help=_help)(_listed)


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
    except (KeyboardInterrupt, typer.Abort):
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.BROKEN_PIPE
    except Exception as error:  # a traceback helps nobody at a terminal; ASSENT_DEBUG shows it
        return _failed(error)
    return code if isinstance(code, int) else exit_codes.DONE


def _misused(error: typer.TyperException) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        return exit_codes.USAGE
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "assent")
    told = error.format_message().rstrip(".").removeprefix("Invalid value: ").replace(": Value error, ", ": ")
    complain(f"{told}; see: {path} --help")
    return exit_codes.USAGE


def _failed(error: Exception) -> int:
    from temporalio.service import RPCError

    from assent.cli import errors

    if isinstance(error, AssentError | RPCError):
        complain(errors.describe_error(error))
        return errors.exit_code(error)
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
