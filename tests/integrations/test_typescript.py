"""The TypeScript program of `examples/typescript`, which knows `docs/reference/wire.md` only."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any, Final

import pytest

from assent import Agent
from assent.testing import Environment, call, calls, check_replay, says
from tests.support.tools import look_up, pay, ran
from tests.support.visibility import soon

PROGRAM: Final = Path(__file__).parents[2] / "examples" / "typescript"
pytestmark = [
    pytest.mark.integrations,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed"),
]


async def run_process(*command: str, **variables: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PROGRAM, stdout=PIPE, stderr=PIPE, env={**os.environ, **variables}
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_typescript_program_starts_lists_decides_and_reads_a_run(assent_environment: Environment) -> None:
    code, out, err = await run_process("npm", "run", "build")
    assert code == 0, out + err

    async def program(*arguments: str, code: int = 0) -> list[Any]:
        command = ("node", "dist/main.js", *arguments)
        ended, out, err = await run_process(*command, TEMPORAL_ADDRESS=assent_environment.server.address)
        assert ended == code, out + err
        assert out.isascii(), "characters that do not show are escaped"
        return [json.loads(line) for line in out.splitlines()]

    wanted = calls(
        call("look_up", key="bob"), call("pay", to="bob\u202e", amount=500), call("pay", to="eve", amount=900)
    )
    model = assent_environment.responses(wanted, lambda seen: says(f"done: {seen.last_output}"))
    async with assent_environment.serve(Agent(name="payer", model=model, tools=[look_up, pay])) as client:
        [started] = await program("start", "payer", "Pay both.", "--by", "alice", "--task-queue", client.task_queue)
        run = client.get_run(started["run"])

        async def listed() -> list[Any]:
            return [each for each in await program("list") if each["run"] == run.id]

        bob, eve = await soon(listed, lambda found: len(found) == 2)
        assert json.loads(bob["arguments"]) == {"to": "bob\u202e", "amount": 500}
        assert (eve["kind"], eve["tool"], eve["agent"], eve["requested_by"]) == (
            "confirmation",
            "pay",
            "payer",
            "alice",
        )

        [own] = await program("approve", run.id, bob["id"], "--by", "alice", code=1)
        assert own["status"] == "refused"
        [approved] = await program("approve", run.id, bob["id"][:8], "--by", "carol", "--reason", "invoice 4711")
        assert (approved["status"], approved["requirement_id"]) == ("approved", bob["id"])
        [state] = await program("state", run.id)
        assert (state["agent"], state["requested_by"]) == ("payer", "alice")
        assert [each["status"] for each in state["requirements"]] == ["approved", "pending"]
        await program("reject", run.id, "abcdef12", "--by", "carol", "--reason", "typing error", code=1)
        [rejected] = await program("reject", run.id, eve["id"], "--by", "carol", "--reason", "too much")
        assert rejected["status"] == "rejected"

        [result] = await program("result", run.id)
        assert result["content"] == "done: Rejected: too much"
        assert ran(run.id) == ["look_up(bob)", "pay(bob\u202e, 500)"]
        assert await soon(listed, lambda found: not found) == []
        records = await run.audit()
        assert [(each.status, each.resolved_by, each.reason) for each in records] == [
            ("approved", "carol", "invoice 4711"),
            ("rejected", "carol", "too much"),
        ]
        assert (await run.verify()).ok
        await check_replay(await run.history())
        await program("result", "no-such-run", code=1)
