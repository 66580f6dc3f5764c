"""What every command starts from: where Temporal is, and how output is written. Imports little: see `main`."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from assent.wire.text import one_line

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
CallId = Annotated[
    str, typer.Argument(metavar="ID", help="The call's id, or 6 or more of its first digits.", show_default=False)
]
Calls = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN ID | RUN/ID",
        help="The run's id and those of its calls; or RUN/ID for each call, of any run.",
        show_default=False,
    ),
]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides: a name the audit keeps.")]
RequireAnswer = Annotated[
    bool, typer.Option("--require-answer", help="Exit with 5 where it was sent and no worker has read it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]


@dataclass(frozen=True)
class Place:
    """The global options. None is left to `TEMPORAL_*` and the profile file."""

    address: str | None
    namespace: str | None
    profile: str | None
    task_queue: str

    @property
    def program(self) -> str:
        """How a command that is shown to be copied begins, so that it reaches the same server."""
        given = (("--address", self.address), ("--namespace", self.namespace), ("--profile", self.profile))
        return " ".join(["assent", *(f"{name} {shlex.quote(value)}" for name, value in given if value is not None)])


def place_of(context: typer.Context) -> Place:
    """The global options of the command line that *context* belongs to."""
    place: Place = context.obj
    return place


def emit(value: object) -> None:
    """Write one JSON document, on one line, in ASCII: nothing in it can move a terminal's cursor."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def complain(what: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"assent: {one_line(what)}\n")
