"""The demo: an agent asks, waits, is approved and finishes, on a real Temporal server.

    make demo          or python examples/demo.py

With a terminal it asks you; without one it decides by itself. Runs are kept in `.assent/temporal.db`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Container
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path

from pydantic import JsonValue

from assent import AgentClient, Approval, RunEvent, RunHandle
from assent.cli.terminal import Keyboard, can_ask
from assent.client.progress import progress_of
from assent.runtime.connection import exit_cleanly
from assent.runtime.embedded_server import PORT, UI_PORT, EmbeddedServer, embedded_server
from assent.testing import Environment, ModelServer, Step, call, calls
from assent.wire.errors import DatabaseInUseError
from assent.wire.names import TASK_QUEUE
from examples.hackernews import agent
from examples.support import (
    hacker_news,
    model,
    shell_lines,
    signal_by_hand,
    temporal_here,
    worker_process,
)
from examples.support.narration import Narrator, moment
from examples.support.scripts import tells_stories

SCRIPT: list[Step] = [calls(call("get_top_hackernews_stories", num_stories=3)), tells_stories]
PROMPT = "Fetch the top 3 stories of Hacker News, and list their titles."
ASKER, APPROVER = "alice", "bob"


async def demo() -> None:
    """Set the stage, run the agent, show the record; nothing is left running."""
    narrator, asking = Narrator(), can_ask()
    narrator.print("Assent: an agent asks, waits, is approved and finishes", style="bold")
    async with AsyncExitStack() as stack:
        server, client, database = await set_the_stage(stack, narrator)
        narrator.heading(f"{ASKER} asks the agent {agent.name!r}")
        narrator.quoted("prompt", PROMPT)
        run = await client.start(agent.name, PROMPT, requested_by=ASKER)
        narrator.field("run", run.id)
        await Attendance(run, narrator, server.address, Keyboard(sys.stdin.fileno()) if asking else None).attend()
        await conclude(run, narrator)
        narrator.heading("In the Temporal Web UI")
        narrator.print(server.run_url(run.id) or "")
        if asking:
            narrator.print("\nThe server is up for you to look. Enter ends the demo.")
            await Keyboard(sys.stdin.fileno()).line()
        else:
            narrator.print("\nThere is no terminal, so the server stops now; the run is kept. To look at it later:")
            narrator.print(f"  {temporal_here()} server start-dev --db-filename {database}")


async def set_the_stage(stack: AsyncExitStack, narrator: Narrator) -> tuple[EmbeddedServer, AgentClient, Path]:
    """Start the model, Hacker News, the server and a worker, each unless there is a real one, and say which it is."""
    models = await stack.enter_async_context(ModelServer())
    narrator.field("Model", stack.enter_context(model(agent, models, *SCRIPT)))
    with narrator.during("Looking for Hacker News"):
        news = await stack.enter_async_context(hacker_news())
    narrator.field("Hacker News", news)
    server, database = await start_the_server(stack)
    narrator.field("Temporal", f"{server.address}, a server of its own; runs are kept in {database}")
    narrator.field("Web UI", server.ui_url or "none")
    with narrator.during("Starting the worker"):
        log = database.with_name(f"{database.stem}-worker.log")
        worker = await stack.enter_async_context(worker_process("examples.hackernews", address=server.address, log=log))
    narrator.field("Worker", f"process {worker.pid}: worker.py --agents examples.hackernews; log in {log}")
    return server, Environment(server, models).client(TASK_QUEUE), database


async def start_the_server(stack: AsyncExitStack) -> tuple[EmbeddedServer, Path]:
    """A server on the first database file that no other server has open, and that file."""
    for number in count(1):
        database = Path(".assent") / ("temporal.db" if number == 1 else f"temporal-{number}.db")
        log = database.with_name(f"{database.stem}-server.log")
        with suppress(DatabaseInUseError):
            server = embedded_server(database, port=PORT, ui_port=UI_PORT, log=log)
            return await stack.enter_async_context(server), database
    raise AssertionError


class Attendance:
    """Watches a run and decides its requirements: the person at *keyboard*, or the demo by itself."""

    def __init__(self, run: RunHandle, narrator: Narrator, address: str, keyboard: Keyboard | None) -> None:
        """*address* is the server's, for the commands that are shown."""
        self._run, self._narrator, self._keyboard = run, narrator, keyboard
        self._command = partial(signal_by_hand, run.id, address=address)
        self._shown = partial(shell_lines, run.id, address=address)
        self._one_at_a_time = asyncio.Lock()
        self._questions: dict[str, asyncio.Task[None]] = {}

    async def attend(self) -> None:
        """Print each event until the run ends. A question that another person answers is withdrawn."""
        self._narrator.heading("What happens, read from the run's history as it is written")
        async with asyncio.TaskGroup() as group:
            alive = group.create_task(self._narrator.signs_of_life(self._obstacle))
            async for event in self._run.watch():
                self._narrator.event(event)
                identity = event.requirement_id or ""
                if event.kind == "waiting":
                    self._questions[identity] = group.create_task(self._decide(event, identity))
                elif event.kind == "decided" and identity in self._questions:
                    self._questions.pop(identity).cancel()
            for question in self._questions.values():
                question.cancel()
            alive.cancel()

    async def _obstacle(self) -> str:
        """Why what is under way failed last, while it is tried again."""
        failures = [each.failure for each in (await progress_of(self._run)).activities if each.failure]
        return f"; it is tried again after: {failures[0]}" if failures else ""

    async def _decide(self, event: RunEvent, requirement: str) -> None:
        identity = requirement[:8]
        async with self._one_at_a_time:
            approval: dict[str, JsonValue] = {"id": identity, "by": APPROVER, "reason": "it only reads"}
            self._narrator.heading("The run waits for a person; it holds no thread and no timer meanwhile")
            self._narrator.field("call", f"{event.tool}, requirement {identity}", style="bold")
            self._narrator.quoted("exactly", event.arguments or "")
            self._narrator.field("asked by", ASKER)
            self._narrator.print("\nAny approver can approve it from anywhere, with the temporal command:\n")
            self._narrator.print(self._shown("approve", approval) + "\n")
            if self._keyboard is None:
                self._narrator.print(f"There is no terminal, so the demo decides by itself: {APPROVER} runs it now.\n")
                self._questions.pop(requirement, None)
                await self._command("approve", approval)
            else:
                await self._ask(self._keyboard, requirement)

    async def _ask(self, keyboard: Keyboard, requirement: str) -> None:
        keyboard.discard()
        answer = await self._answer(keyboard, f"You are {APPROVER}. Approve it? [y/n] ", ("y", "yes", "n", "no"))
        why = await self._answer(keyboard, "Why not? The model is told: ") if answer in {"n", "no"} else None
        self._questions.pop(requirement, None)  # from here on it is decided, not asked
        if answer in {"y", "yes"}:
            await self._run.approve(requirement, by=APPROVER, reason="approved at the terminal")
        elif why is not None:
            await self._run.reject(requirement, by=APPROVER, reason=why)

    async def _answer(self, keyboard: Keyboard, prompt: str, choices: Container[str] | None = None) -> str | None:
        """One of *choices*, else any text; None if there are no more answers, and the run keeps waiting."""
        while True:
            self._narrator.prompt(prompt)
            line = await keyboard.line()
            self._narrator.answered()
            if line is None:
                self._narrator.print("No answer here; the run waits for the command above. Ctrl-C ends the demo.")
                return None
            answer = line.strip()
            if answer.lower() in choices if choices else answer:
                return answer.lower() if choices else answer


async def conclude(run: RunHandle, narrator: Narrator) -> None:
    """Show the answer, and the record of what was decided."""
    result = await run.result()
    narrator.heading("The answer")
    narrator.quoted("", result.content)
    narrator.heading("The record, read from the run's history alone")
    for record in await run.audit():
        tell(record, narrator)


def tell(record: Approval, narrator: Narrator) -> None:
    """One record: the operation, who decided, when, why, and the result."""
    narrator.field("asked", f"{record.requested_by}, by the agent {record.agent!r}, {moment(record.created_at)}")
    narrator.quoted("call", f"{record.tool_name}({record.arguments})")
    narrator.field("id", record.id)
    decided = f"{record.status} by {record.resolved_by}"
    narrator.field("decision", f"{decided}, {moment(record.resolved_at)}" if record.resolved_at else decided)
    narrator.quoted("why", record.reason or "no reason given")
    narrator.field("ran", record.execution or "no")
    if record.result is not None:
        narrator.quoted("result", record.result, limit=300)


async def until_stopped() -> None:
    """The demo, ended in good order by SIGTERM as by Ctrl-C."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await demo()


def main() -> int:
    """Run the demo; the exit code is 0, or 130 where it was stopped."""
    exit_cleanly()
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(until_stopped())
        return 0
    print("\nStopped; nothing is left running.")
    return 130


if __name__ == "__main__":
    sys.exit(main())
