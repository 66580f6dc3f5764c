"""Shared by all commands: their common arguments, the global options, and how output is written.

`main` imports this module for the help, so it imports little itself.
"""

import json
import shlex
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from assent.wire.text import one_line

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
CallId = Annotated[
    str, typer.Argument(metavar="ID", help="The call's id, or at least 6 of its first digits.", show_default=False)
]
Calls = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN ID | RUN/ID",
        help="The id of a run and of its calls; or RUN/ID for each call, of any run.",
        show_default=False,
    ),
]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides: a name for the audit.")]
RequireAnswer = Annotated[bool, typer.Option("--require-answer", help="Exit with 5 if no worker has read it yet.")]
Attach = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE|URL", help="An image or file for the model (repeatable).", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


@dataclass(frozen=True)
class ConnectionOptions:
    """The global options. None means: as `TEMPORAL_*` or the profile says."""

    address: str | None
    namespace: str | None
    profile: str | None
    task_queue: str

    @property
    def program(self) -> str:
        """The beginning of a command to copy, with the options that reach the same server."""
        options = (("--address", self.address), ("--namespace", self.namespace), ("--profile", self.profile))
        return " ".join(["assent", *(f"{name} {shlex.quote(value)}" for name, value in options if value is not None)])


def connection_options(context: typer.Context) -> ConnectionOptions:
    """Return the global options of a command line."""
    place: ConnectionOptions = context.obj
    return place


def emit(value: object) -> None:
    """Write one JSON document, on one line, in ASCII: nothing in it can move a terminal's cursor."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"assent: {one_line(text)}\n")
