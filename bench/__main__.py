"""`python -m bench [FIGURE]... [--quick] [--json]`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from temporalio.service import RPCError

from assent.runtime.connection import exit_cleanly
from assent.wire.errors import ConfigurationError
from bench.figures import FULL, MEASURES, QUICK, Scale
from bench.processes import quiet_output
from bench.report import Line, as_json, machine, show
from bench.stage import stage


async def measure(names: Sequence[str], scale: Scale, progress: Console, found: list[Line]) -> None:
    """Measure the figures of these names into *found*. SIGTERM ends it as Ctrl-C does, and leaves nothing running.

    Raises:
        RuntimeError: one of them could not be measured; those before it are in *found*.
    """
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with progress.status("Starting a server, a model and two workers") as status:
        async with stage() as both:
            for name in names:
                status.update(f"Measuring {name}")
                try:
                    found += await MEASURES[name](both, scale)
                except RPCError as error:
                    message = f"{name}: the server said: {error.message}"
                    raise RuntimeError(message) from error


def main(
    figures: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(MEASURES)}. All by default.")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run: few repetitions, small sizes.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Every measurement, as JSON.")] = False,
) -> None:
    """Measure Assent beside a bare Temporal workflow that does the same work, on the same server."""
    exit_cleanly()
    unknown = set(figures or ()) - set(MEASURES)
    if unknown:
        raise typer.BadParameter(f"no figure {', '.join(sorted(unknown))}; there are: {', '.join(MEASURES)}")
    names = [name for name in MEASURES if not figures or name in figures]
    before, code = machine(), 0
    found: list[Line] = []
    try:
        with quiet_output():
            asyncio.run(measure(names, QUICK if quick else FULL, Console(stderr=True), found))
    except (ConfigurationError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        code = 2
    except (asyncio.CancelledError, KeyboardInterrupt):
        code = 130
    # What was measured took minutes: it is shown also where the rest could not be.
    if json and (found or not code):
        print(as_json(found, [before, machine()]))
    elif found or not code:
        show(found, before)
    raise SystemExit(code)


if __name__ == "__main__":
    typer.run(main)
