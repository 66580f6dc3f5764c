"""`python -m bench [FIGURE]... [--quick] [--json]`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from assent.connection import exit_cleanly
from assent.errors import ConfigurationError
from bench.figures import FULL, MEASURES, QUICK, Scale
from bench.processes import quiet_output
from bench.report import Line, as_json, machine, show
from bench.stage import stage


async def measure(names: Sequence[str], scale: Scale, progress: Console) -> list[Line]:
    """Measure the figures of these names. SIGTERM ends it as Ctrl-C does, and leaves nothing running."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    found: list[Line] = []
    with progress.status("Starting a server, a model and two workers") as status:
        async with stage() as both:
            for name in names:
                status.update(f"Measuring {name}")
                found += await MEASURES[name](both, scale)
    return found


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
    before = machine()
    try:
        with quiet_output():
            found = asyncio.run(measure(names, QUICK if quick else FULL, Console(stderr=True)))
    except (ConfigurationError, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise SystemExit(130) from None
    if json:
        print(as_json(found, [before, machine()]))
    else:
        show(found, before)


if __name__ == "__main__":
    typer.run(main)
