"""`make mcp-proof`: MCP servers that nobody here wrote, and `kill -9` of server, worker and Temporal in every gap.

What took effect is counted by lines in a file that the server writes. One for each approval, none after a rejection.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import JsonValue

from assent import Requirement, RunHandle
from assent.runtime.embedded_server import free_port
from assent.testing import Conversation, ModelServer, Reply, Step, call, calls, says
from tests.e2e.processes import ROOT, WORKER, Running, reachable, server, start

pytestmark = [pytest.mark.mcp, pytest.mark.timeout(150)]

R = TypeVar("R")
PYTHON = ROOT / ".mcp-servers" / "bin"
NODE = ROOT / ".mcp-servers" / "node_modules" / ".bin"
HELD = Path(__file__).with_name("mcp_held.py")
HOOK = """#!/bin/sh
# Git's hook before a commit: the server waits for it, in the middle of a call.
echo commit >>begun
echo $PPID >pid
sleep 1
"""


@dataclass
class Stage:
    """Temporal, a worker and MCP servers, each a process that can be killed and started again."""

    folder: Path
    servers: tuple[str, ...]
    models: ModelServer
    model: str
    held: bool = False
    """Whether servers that are commands report what they did a while after it."""
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in ("temporal", "rooms", "all")})
    queue: str = field(default_factory=lambda: f"mcp-{uuid.uuid4().hex[:8]}")
    processes: dict[str, Running] = field(default_factory=dict[str, Running])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports['temporal']}"

    async def start(self, name: str) -> None:
        """Start one of: temporal, rooms, everything, worker."""
        command: list[str]
        match name:
            case "temporal":
                self.processes[name] = await server(self.folder / "temporal.db", self.ports[name])
                await reachable(self.address, self.queue)
            case "rooms":
                command = [
                    sys.executable,
                    "-m",
                    "tests.integrations.mcp_rooms",
                    str(self.ports[name]),
                    str(self.folder),
                ]
                self.processes[name] = await start(*command)
            case "everything":
                command = [str(NODE / "mcp-server-everything"), "streamableHttp"]
                self.processes[name] = await start(*command, env={"PORT": str(self.ports["all"])})
            case _:
                env = {
                    "TEMPORAL_ADDRESS": self.address,
                    "OPENAI_BASE_URL": self.models.url,
                    "MODEL": self.model,
                    "HELD": f"{sys.executable} {HELD} {self.folder}" if self.held else "",
                    "SERVERS": " ".join(self.servers),
                    "FILES": str(NODE / "mcp-server-filesystem"),
                    "GIT": str(PYTHON / "mcp-server-git"),
                    "FOLDER": str(self.folder),
                    "EVERYTHING_URL": f"http://127.0.0.1:{self.ports['all']}/mcp",
                    "ROOMS_URL": f"http://127.0.0.1:{self.ports['rooms']}/mcp",
                    "ASSENT_CACHED_RUNS": "0",
                }
                command = [*WORKER(), "--agents", "tests.integrations.mcp_agents", "--task-queue", self.queue]
                self.processes[name] = await start(*command, env=env)
                await self.processes[name].until("Serving")

    async def kill(self, name: str) -> None:
        """Kill a process at once, and start it again; the worker starts those whose command it knows."""
        if name not in self.processes:
            for each in (self.lines("held") or self.lines("pid"))[-1].split():
                os.kill(int(each), signal.SIGKILL)
            return
        await self.processes[name].end(signal.SIGKILL)
        await self.start(name)

    def lines(self, name: str) -> list[str]:
        """The lines of a file that the server writes."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    async def begins(self, name: str = "begun") -> None:
        """Wait until a tool has begun, or for the first line of another file."""
        async with asyncio.timeout(60):
            while not self.lines(name):  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.02)


@asynccontextmanager
async def stage(
    folder: Path, servers: str, *steps: Step, held: bool = False
) -> AsyncGenerator[tuple[Stage, RunHandle]]:
    """A stage with these *servers*, and a run of its agent."""
    assert NODE.exists(), "make mcp-proof installs the servers"
    async with AsyncExitStack() as stack:
        models = await stack.enter_async_context(ModelServer())
        model = f"mcp-{uuid.uuid4().hex[:8]}"
        models.script(model, *steps)
        made = Stage(folder, tuple(servers.split()), models, model, held)
        try:
            for name in ("temporal", *({"rooms", "everything"} & {*made.servers}), "worker"):
                await made.start(name)
            client = await reachable(made.address, made.queue)
            yield made, await client.start("clerk", "Go.", requested_by="alice")
        finally:
            for running in made.processes.values():
                await running.end(signal.SIGKILL)


async def retried(what: Callable[[], Awaitable[R]]) -> R:
    """Do it once the server, which was just started again, answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await what()
            except Exception:  # the connection was cut, or a worker is not there yet
                await asyncio.sleep(0.3)


async def waiting(run: RunHandle, kind: str, than: Requirement | None = None) -> Requirement:
    """The requirement that the run waits for, another *than* before."""
    async with asyncio.timeout(90):
        while True:
            state = await retried(run.until_paused)
            found = [each for each in state.active_requirements if than is None or each.id != than.id]
            if found:
                assert found[0].kind == kind
                return found[0]
            await asyncio.sleep(0.2)


async def ended(run: RunHandle, made: Stage) -> str:
    """The content of the run; a person who is asked for an outcome reads it from the file."""
    async with asyncio.timeout(120):
        while True:
            state = await retried(run.state)
            for each in state.active_requirements:
                if each.kind == "outcome":
                    said = f"seen: {len(made.lines('effects'))}"
                    await retried(partial(run.submit_result, each, by="bob", output=said))
            if state.is_finished:
                return str(state.content or state.error)
            await asyncio.sleep(0.3)


def told(seen: Conversation) -> Reply:
    return says(str(seen.last_output))


def commits(folder: Path) -> int:
    """How many commits were made: Git's own log has a line for each, and for the first one, which the test made."""
    return len((folder / ".git" / "logs" / "HEAD").read_text().splitlines()) - 1


def repository(folder: Path) -> None:
    """Make a repository with a change that can be committed, slowly."""
    (folder / "change").touch()
    about = "config user.name clerk", "config user.email clerk@example.com"
    for command in ("init -q", *about, "commit -q --allow-empty -m first", "add change"):
        subprocess.run(["git", "-C", folder, *command.split()], check=True)
    hook = folder / ".git" / "hooks" / "pre-commit"
    hook.write_text(HOOK)
    hook.chmod(0o755)


def texts(folder: Path) -> dict[str, str]:
    """What is written in the text files of a folder."""
    return {each.name: each.read_text() for each in folder.glob("*.txt")}


async def test_servers_of_other_people_do_what_is_approved_and_nothing_else(tmp_path: Path) -> None:
    """Filesystem over standard input and output, "everything" over HTTP: killed while calls and its question wait."""
    ledger, dropped = tmp_path / "ledger.txt", str(tmp_path / "dropped.txt")
    line: JsonValue = {"oldText": "end", "newText": "paid\nend"}
    steps: list[Step] = [
        calls(call("files_read_text_file", path=str(ledger))),
        calls(
            call("files_edit_file", path=str(ledger), edits=[line]),
            call("files_write_file", path=dropped, content="no"),
        ),
        calls(call("everything_trigger-elicitation-request")),
        calls(call("everything_echo", message="hello")),
        lambda seen: says("; ".join(list(seen.tool_outputs.values())[-2:])),
    ]
    ledger.write_text("end\n")
    async with stage(tmp_path, "files everything", *steps) as (made, run):
        # Reading is allowed: the server is trusted.
        edit, write = (await run.until_paused()).active_requirements
        assert [edit.tool, write.tool] == ["files.edit_file", "files.write_file"]
        await made.kill("worker")  # The filesystem server ends with it.
        await run.approve(edit, by="bob")
        await run.reject(write, by="bob", reason="not that one")
        asks = await waiting(run, "confirmation")
        assert ledger.read_text() == "paid\nend\n"
        await run.approve(asks, by="bob")
        question = await waiting(run, "input")  # The server holds the call meanwhile, so it is ended.
        await made.kill("everything")
        await run.submit_input(question, by="bob", values={"name": "Ann"})
        echo = await waiting(run, "confirmation")
        await made.processes["everything"].end(signal.SIGKILL)
        await run.approve(echo, by="bob")
        await asyncio.sleep(1)  # The worker has the approval, and finds no server.
        await made.start("everything")
        content = await ended(run, made)
        assert "- Name: Ann" in content
        assert content.endswith("; Echo: hello")
    assert texts(tmp_path) == {"ledger.txt": "paid\nend\n"}


@pytest.mark.parametrize("victim", ["git", "worker", "temporal"])
async def test_a_python_server_of_other_people_makes_one_commit_for_an_approval(tmp_path: Path, victim: str) -> None:
    """It is killed in the call over standard input and output, and Git's own log counts what it did."""
    repository(tmp_path)
    both = [call("git_git_commit", repo_path=str(tmp_path), message=each) for each in ("dropped", "kept")]
    async with stage(tmp_path, "git", calls(*both), told) as (made, run):
        dropped, kept = (await run.until_paused()).active_requirements
        await retried(lambda: run.reject(dropped, by="bob", reason="not that one"))
        if victim != "git":
            await made.kill(victim)
        assert commits(tmp_path) == 0
        await retried(lambda: run.approve(kept, by="bob"))
        await made.begins()
        await made.kill(victim)
        content = await ended(run, made)
    # The server ends with its worker, which it may do before or after the commit.
    assert made.lines("begun") == ["commit"]
    assert commits(tmp_path) in {"git": {0}, "worker": {0, 1}, "temporal": {1}}[victim]
    assert content.startswith("seen: ") or (victim == "temporal" and "committed" in content)


@pytest.mark.parametrize("victim", ["rooms", "worker", "temporal"])
async def test_a_kill_before_the_approval_and_one_in_the_call_leave_one_effect_at_most(
    tmp_path: Path, victim: str
) -> None:
    async with stage(tmp_path, "rooms", calls(call("rooms_clean")), told) as (made, run):
        asked = await waiting(run, "confirmation")
        await made.kill(victim)
        assert made.lines("effects") == []
        await retried(lambda: run.approve(asked, by="bob"))
        await made.begins()
        await made.kill(victim)
        content = await ended(run, made)
    # A killed server did nothing, and a person said so; what the others asked for, it did once.
    assert (made.lines("begun"), made.lines("effects")) == (["clean"], [] if victim == "rooms" else ["clean"])
    assert content in {"seen: 0", "seen: 1", "cleaned"}


@pytest.mark.parametrize("victim", ["rooms", "worker", "temporal", "clock"])
async def test_a_question_outlives_kills_and_its_state_and_its_answer_is_given_once(
    tmp_path: Path, victim: str
) -> None:
    async with stage(tmp_path, "rooms", calls(call("rooms_book")), told) as (made, run):
        asked = await waiting(run, "confirmation")
        await run.approve(asked, by="bob")
        question = await waiting(run, "input", than=asked)
        if victim == "clock":  # Past the ten minutes for which the server takes its state back.
            (tmp_path / "clock").write_text("900")
        else:
            await made.kill(victim)
        await retried(lambda: run.submit_input(question, by="bob", values={"room": 7}))
        await made.begins()
        if victim != "clock":
            await made.kill(victim)
        content = await ended(run, made)
    assert (made.lines("begun"), made.lines("effects")) == (["book"], [] if victim == "rooms" else ["book 7"])
    assert content in {"seen: 0", "seen: 1", "booked"}


@pytest.mark.parametrize("victim", ["rooms", "worker", "temporal"])
async def test_nothing_takes_effect_after_a_rejection(tmp_path: Path, victim: str) -> None:
    async with stage(tmp_path, "rooms", calls(call("rooms_book")), told) as (made, run):
        asked = await waiting(run, "confirmation")
        await run.approve(asked, by="bob")
        question = await waiting(run, "input", than=asked)
        await made.kill(victim)
        await retried(lambda: run.reject(question, by="bob", reason="no room at all"))
        assert "no room at all" in await ended(run, made)
    assert (made.lines("begun"), made.lines("effects")) == ([], [])


@pytest.mark.parametrize("victim", ["server", "worker", "temporal"])
@pytest.mark.parametrize("name", ["files", "git", "rooms"])
async def test_a_kill_after_the_effect_and_before_its_report_leaves_this_one_effect(
    tmp_path: Path, name: str, victim: str
) -> None:
    """Two servers of other people, and one that is called again with the answer to its question."""
    (tmp_path / "ledger.txt").write_text("end\n")
    if name == "git":
        repository(tmp_path)
        (tmp_path / ".git" / "hooks" / "pre-commit").unlink()
    lines: list[list[JsonValue]] = [[{"oldText": "end", "newText": f"{each}\nend"}] for each in ("dropped", "kept")]
    both = {
        "files": [call("files_edit_file", path=str(tmp_path / "ledger.txt"), edits=each) for each in lines],
        "git": [call("git_git_commit", repo_path=str(tmp_path), message=each) for each in ("dropped", "kept")],
        "rooms": [call("rooms_clean"), call("rooms_book")],
    }
    async with stage(tmp_path, name, calls(*both[name]), told, held=True) as (made, run):
        dropped, kept = (await run.until_paused()).active_requirements
        await run.reject(dropped, by="bob", reason="not that one")
        await run.approve(kept, by="bob")
        if name == "rooms":
            question = await waiting(run, "input", than=kept)
            await run.submit_input(question, by="bob", values={"room": 7})
        await made.begins("effects" if name == "rooms" else "held")
        await made.kill("rooms" if (name, victim) == ("rooms", "server") else victim)
        content = await ended(run, made)
    effects = {
        "files": (tmp_path / "ledger.txt").read_text().splitlines()[:-1],
        "git": ["kept"] * commits(tmp_path) if name == "git" else [],
        "rooms": made.lines("effects"),
    }
    assert effects[name] == ["book 7" if name == "rooms" else "kept"]
    # Whether it had its effect, a person says; the worker may reach a killed Temporal again in time to report it.
    assert content.startswith("seen: ") or victim == "temporal"
