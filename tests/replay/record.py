"""Record a history of every kind of run and wait: `make histories`.

Recorded once and kept for ever: a run that waits since then must still be able to go on. Add a kind, or record anew
under a new name beside the old; never change a file that has landed.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from assent import Agent, PermissionPolicy, RunHandle
from assent.client import AgentClient
from assent.connection import exit_cleanly
from assent.testing import (
    Approved,
    Delivered,
    Environment,
    Rejected,
    Step,
    call,
    calls,
    drive,
    environment,
    fails,
    record,
    says,
)
from tests.support import tools

FOLDER = Path(__file__).parent / "histories"
Story = Callable[[AgentClient, RunHandle], Awaitable[None]]


async def finishes(_: AgentClient, run: RunHandle) -> None:
    await drive(run, lambda requirement: Delivered("ok") if requirement.kind == "external" else Approved("fine"))


async def rejected(_: AgentClient, run: RunHandle) -> None:
    await drive(run, lambda _: Rejected("not today"))


async def waits(_: AgentClient, run: RunHandle) -> None:
    await run.until_paused()


async def half_decided(_: AgentClient, run: RunHandle) -> None:
    state = await run.until_paused()
    await run.approve(state.active_requirements[0], by="bob")
    await run.until_paused()


async def mistyped(client: AgentClient, run: RunHandle) -> None:
    state = await run.until_paused()
    handle = client.temporal.get_workflow_handle(run.id)
    await handle.signal("approve")
    await handle.signal("aprove", {"id": state.active_requirements[0].id, "by": "bob"})
    await handle.signal("approve", {"id": "ffffffff", "by": "bob"})
    await run.send_message("Hurry up.", by="alice")
    await finishes(client, run)


async def cancelled(_: AgentClient, run: RunHandle) -> None:
    await run.until_paused()
    await run.cancel()
    await run.until_paused()


ASKS = calls(call("look_up", key="k"), call("pay", to="bob", amount=5), call("ship", order="17"))
STORIES: dict[str, tuple[Story, list[Step]]] = {
    "ungated": (finishes, [calls(call("look_up", key="a")), calls(call("look_up", key="b")), says("done")]),
    "approved": (finishes, [ASKS, calls(call("restart", service="s")), says("done")]),
    "rejected": (rejected, [ASKS, says("done")]),
    "waiting": (waits, [ASKS, says("done")]),
    "half-decided": (half_decided, [ASKS, says("done")]),
    "mistyped": (mistyped, [ASKS, says("done")]),
    "cancelled": (cancelled, [ASKS, says("done")]),
    "denied": (finishes, [calls(call("break_down", how="x"), call("no_such_tool")), says("done")]),
    "tool-failed": (finishes, [calls(call("break_down", how="x"), call("pay", to="bob")), says("done")]),
    "provider-refused": (finishes, [fails(400, message="no", times=None)]),
}


async def tell(running: Environment, name: str, story: Story, steps: list[Step]) -> None:
    """Live through one story, and write its history down."""
    policy = PermissionPolicy.of(deny=["break_*"], allow=["*"]) if name == "denied" else None
    agent = Agent(name="teller", model=running.responses(*steps), tools=tools.ALL, policy=policy)
    async with running.serve(agent, task_queue=f"record-{name}") as client:
        run = await client.start("teller", f"Tell the story {name!r}.", requested_by="alice", id=f"recorded-{name}")
        await story(client, run)
        await record(run, FOLDER / f"{name}.json")
        without_traces(FOLDER / f"{name}.json")


def without_traces(file: Path) -> None:
    """Take the paths of the recording machine out: stack traces are nothing to a replay."""
    text = file.read_text()
    file.write_text(re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', text))


async def main() -> None:
    """Record what is not there yet."""
    FOLDER.mkdir(exist_ok=True)
    async with environment() as running:
        for name, (story, steps) in STORIES.items():
            if not (FOLDER / f"{name}.json").exists():
                await tell(running, name, story, steps)
                sys.stdout.write(f"recorded {name}\n")


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
