"""`assent start --conversation`, `send-message` and `close`, as real processes; and talking at a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import termios
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from assent import Agent
from assent.testing import Conversation, Environment, Reply, says
from tests.support.cli_operator import HERE, Operator
from tests.support.preloaded import assent_command
from tests.workflows.test_starter import Terminal


def repeats(seen: Conversation) -> Reply:
    return says(" | ".join(seen.user))


@asynccontextmanager
async def talking(running: Environment) -> AsyncGenerator[tuple[Operator, str]]:
    """Somebody with the command, and a worker that serves an agent of this name."""
    name = f"helper-{uuid.uuid4().hex[:6]}"
    async with running.serve(Agent(name=name, model=running.responses(repeats))) as client:
        yield Operator(running, client), name


async def test_a_conversation_is_begun_had_and_closed_with_the_command(assent_environment: Environment) -> None:
    async with talking(assent_environment) as (at, agent):
        empty = await at.assent("start", agent)
        assert (empty.code, "the PROMPT is empty" in empty.err) == (2, True)
        begun = await at.assent("start", agent, "--conversation", "--requested-by", "alice", "--id", agent, "--json")
        assert begun.json == {"run_id": agent, "started": True}
        run = at.client.get_run(agent)
        assert (await run.until_paused()).is_idle

        said = await at.assent("send-message", agent, "Hello.", "--by", "alice", "--json")
        assert (said.code, said.json) == (0, {
            "run_id": agent, "status": "recorded", "detail": "the model reads it with its next turn", "by": "alice",
            "requirement_id": None, "tool": None, "grant": None,
        })  # fmt: skip
        await run.until_paused()
        shown = await at.assent("show", agent)
        for part in (
            "idle: waits for the next message",
            f"assent send-message {agent} TEXT --by 'YOUR NAME'",
            f"assent close {agent} --by 'YOUR NAME'",
            "│ Hello.",
        ):
            assert part in shown.out
        assert (await at.assent("pending", "--agent", agent)).out == "nothing waits\n"

        for wrong in (("send-message", agent, " ", "--by", "alice"), ("close", agent, "--by", "YOUR NAME")):
            ran = await at.assent(*wrong)
            assert (ran.code, ran.out) == (2, "")
        assert (await at.assent("send-message", "no-such-run", "Hi.", "--by", "alice")).code == 3

        closed = await at.assent("close", agent, "--by", "alice", "--reason", "enough")
        assert (closed.code, "the conversation ends" in closed.out) == (0, True)
        assert (await run.result()).content == "Hello."
        for late in (("send-message", agent, "Wait!"), ("close", agent)):
            ran = await at.assent(*late, "--by", "bob")
            assert (ran.code, ran.out) == (1, "")
            assert "late: the run has ended" in ran.err
        watched = await at.assent("watch", agent, "--json")
        kinds = [json.loads(line)["kind"] for line in watched.out.splitlines()]
        assert kinds == ["started", "idle", "message", "model_called", "model_answered", "idle", "message", "completed"]
        verified = await at.assent("audit", agent, "--verify")
        assert verified.code == 0, verified.out


async def test_what_no_worker_has_read_is_sent_all_the_same(assent_environment: Environment) -> None:
    async with talking(assent_environment) as (at, agent):
        run = await at.client.start(agent, conversation=True)
        await run.until_paused()
    sent = await at.assent("send-message", run.id, "Hello.", "--by", "alice", "--require-answer")
    assert (sent.code, "no worker has read it yet" in sent.out) == (5, True)


async def test_a_person_talks_at_a_terminal_and_leaves_the_conversation_open(assent_environment: Environment) -> None:
    async with talking(assent_environment) as (at, agent):
        arguments = ("start", agent, "--conversation", "--follow", "--requested-by", "alice", "--id", agent)
        async with terminal(at, *arguments) as screen:
            await said(screen, "Hello.")
            assert "│ Hello." in await said(screen, "And then?")
            assert "│ Hello. | And then?" in await screen.until("> ")
            # Somebody else speaks meanwhile: the question is taken back, and put again after the answer.
            await at.client.send_message(agent, "Me too.", by="bob")
            await screen.until("│ Hello. | And then? | Me too.")
            await said(screen, "")
            shown = await screen.until("--by alice")
            assert "the conversation stays open" in shown
            await screen.until(f"assent close {agent} --by alice")
        assert screen.process.returncode == 0
        state = await at.client.get_run(agent).state()
        assert (state.is_idle, state.turns) == (True, 3)
        # Who comes back is asked once, after what was said before; Ctrl-D leaves too.
        async with terminal(at, *arguments) as screen:
            await screen.until("Me too.")
            await said(screen, "\x04", end="")
            await screen.until("the conversation stays open")
        assert screen.process.returncode == 0
        async with terminal(at, *arguments) as screen:
            await screen.until("alice> ")
            screen.process.send_signal(signal.SIGINT)
            await screen.until("\n")
        assert screen.process.returncode == 130


async def said(screen: Terminal, text: str, *, end: str = "\n") -> str:
    """Type what alice says, once she is asked; what was shown before."""
    shown = await screen.until("alice> ")
    await asyncio.sleep(0.2)  # What is typed before a question stands there is thrown away.
    os.write(screen.master, f"{text}{end}".encode())
    return shown


@asynccontextmanager
async def terminal(at: Operator, *arguments: str) -> AsyncGenerator[Terminal]:
    """The command at a pseudo-terminal, until it ends by itself."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *assent_command(), *arguments, cwd=HERE, stdin=slave, stdout=slave, stderr=slave,
        env={**at.variables(None), "TERM": "dumb"},
    )  # fmt: skip
    os.close(slave)
    screen = Terminal(process, master)
    asyncio.get_running_loop().add_reader(master, screen.read)
    try:
        yield screen
        await asyncio.wait_for(process.wait(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
