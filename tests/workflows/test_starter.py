"""`starter.py` as people use it: a real process, at a real pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from assent.testing import Environment
from tests.support.cli_operator import HERE, Operator, operating
from tests.support.preloaded import python_command


@dataclass
class Terminal:
    """A process at a pseudo-terminal."""

    process: Process
    master: int
    seen: str = ""
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def read(self) -> None:
        try:
            self.seen += os.read(self.master, 65_536).decode("utf-8", "replace")
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self.master)
        self._more.set()

    async def until(self, text: str) -> str:
        """What was shown up to *text*, which is taken off."""
        async with asyncio.timeout(60):
            while text not in self.seen:
                self._more.clear()
                await self._more.wait()
        shown, _, self.seen = self.seen.partition(text)
        return shown

    def type(self, line: str) -> None:
        os.write(self.master, f"{line}\n".encode())


@asynccontextmanager
async def terminal(at: Operator, *arguments: str) -> AsyncGenerator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *python_command(HERE / "starter.py"), *arguments, cwd=HERE, stdin=slave, stdout=slave, stderr=slave,
        env={**at.variables(None), "TERM": "xterm"},
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


async def test_the_starter_asks_until_it_is_answered_and_approves(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        async with terminal(at, "deployer", "Deploy it.", "--requested-by", "alice", "--by", "bob") as screen:
            assert "you decide as bob" in await screen.until("arguments")
            await screen.until("Approve it? [y/n]")
            screen.type("")
            await screen.until("Approve it? [y/n]")
            screen.type("y")
            await screen.until(r"It [b]is[/b] done.\x1b[2J")
        assert screen.process.returncode == 0


async def test_the_starter_asks_why_not_and_takes_results_from_outside(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        async with (
            terminal(at, "deployer", "Deploy it.", "--by", "bob", "--id", f"no-{at.client.task_queue}") as no,
            terminal(at, "shipper", "Ship it.", "--by", "bob", "--id", f"out-{at.client.task_queue}") as out,
        ):
            await no.until("Approve it? [y/n]")
            no.type("n")
            await no.until("Why not?")
            no.type("not on a Friday")
            await out.until("[y/e/n]")
            out.type("y")
            await out.until("Its result:")
            out.type("it is out")
            await no.until("rejected by bob")
        [rejected] = await at.client.audit(f"no-{at.client.task_queue}")
        assert (rejected.status, rejected.reason, rejected.resolved_by) == ("rejected", "not on a Friday", "bob")
        [shipped] = await at.client.audit(f"out-{at.client.task_queue}")
        assert (shipped.result, shipped.resolved_by) == ("it is out", "bob")


async def test_a_question_is_withdrawn_and_ctrl_c_leaves_the_run_alone(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        first, second = f"w1-{at.client.task_queue}", f"w2-{at.client.task_queue}"
        async with (
            terminal(at, "deployer", "Deploy it.", "--by", "bob", "--id", first) as answered,
            terminal(at, "deployer", "Deploy it.", "--by", "bob", "--id", second) as stopped,
        ):
            await answered.until("Approve it? [y/n]")
            state = await at.client.get_run(first).state()
            await at.client.get_run(first).approve(state.active_requirements[0], by="carol")
            await answered.until("approved by carol")
            await stopped.until("Approve it? [y/n]")
            stopped.process.send_signal(signal.SIGTERM)
            await stopped.until(f"the run continues: assent watch {second}")
        assert (answered.process.returncode, stopped.process.returncode) == (0, 130)
        assert (await at.client.get_run(second).state()).status == "waiting"
