"""Pause, restart, resume: a paused run is JSON in a file; its worker dies, and another process decides it.

    python examples/pause_restart_resume.py

The program starts itself once more for each decision, as `pause_restart_resume.py FILE approve|reject`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from assent import AgentClient, RunState
from assent.runtime.connection import exit_cleanly
from assent.testing import Step, call, calls, says
from examples.mailroom import agent
from examples.support import address_of, run_python, say, say_verified, stage, worker_process

SCRIPT: list[Step] = [
    lambda seen: calls(call("find_customer", name="Grace" if "Grace" in seen.user[0] else "Ada")),
    lambda seen: calls(call("send_email", to=seen.last_output, subject="Your order", body="It is on its way.")),
    lambda seen: says(f"About the email: {seen.last_output}."),
]


async def main() -> None:
    """Pause two runs, kill their worker, start another one, and resume each run from a process of its own."""
    with TemporaryDirectory() as folder:
        here = Path(folder)
        outbox = here / "outbox"
        os.environ["OUTBOX"] = str(outbox)
        async with stage(agent, *SCRIPT, worker=False) as client:
            address = address_of(client)
            async with worker_process("examples.mailroom", address=address, log=here / "first.log") as worker:
                say(f"\n1. The worker is process {worker.pid}. Two runs pause, because the policy says ask:")
                ada, grace = await asyncio.gather(
                    pause(client, "Tell Ada that her order is on its way.", here / "ada.json"),
                    pause(client, "Tell Grace that her order is on its way.", here / "grace.json"),
                )
                say(f"2. kill -9 {worker.pid}")
                worker.kill()
                await worker.wait()
            assert not outbox.exists(), "nothing was sent"

            async with worker_process("examples.mailroom", address=address, log=here / "second.log") as worker:
                say(
                    f"3. Another worker: process {worker.pid}. Each run is resumed by a process that has only its file:"
                )
                told = await asyncio.gather(
                    run_python(__file__, str(here / "ada.json"), "approve", address=address),
                    run_python(__file__, str(here / "grace.json"), "reject", address=address),
                )
                say("\n".join(f"   {line}" for line in told))

            sent = outbox.read_text().splitlines()
            assert len(sent) == 1, "the approved email was sent exactly once, the rejected one not at all"
            assert "ada@example.com" in sent[0]
            say(f"4. The outbox holds exactly one email: {sent[0]}")
            [approved], [rejected] = await client.audit(ada), await client.audit(grace)
            assert (approved.status, approved.execution) == ("approved", "executed")
            assert (rejected.status, rejected.execution, rejected.reason) == ("rejected", None, "not approved")
            say("   On record: one approved and executed, one rejected and never run.")
            await say_verified(client, ada, grace)


async def pause(client: AgentClient, prompt: str, file: Path) -> str:
    """Start a run, and write it to a file once it waits."""
    run = await client.start("mailroom", prompt, requested_by="alice")
    state = await run.until_paused()
    [requirement] = state.active_requirements
    assert (requirement.tool_name, requirement.needs_confirmation) == ("send_email", True)
    size = write(file, state.model_dump_json())
    say(f"   {file.name}, {size} bytes: waits for {requirement.tool_name} to {requirement.tool_args['to']}")
    return run.id


def write(file: Path, text: str) -> int:
    """Write a file; answers how many bytes it has."""
    file.write_text(text)
    return file.stat().st_size


async def resume(state: RunState, *, approved: bool) -> None:
    """All that the process knows is the *state*, read from the file."""
    client = await AgentClient.connect()
    run = await client.resume(state, approved=approved, by="bob")
    result = await run.result()
    assert result.content
    say(f"process {os.getpid()} {'approves' if approved else 'rejects'}: {result.content}")


if __name__ == "__main__":
    exit_cleanly()
    match sys.argv[1:]:
        case [file, "approve" | "reject" as verdict]:
            paused = RunState.model_validate_json(Path(file).read_text())
            asyncio.run(resume(paused, approved=verdict == "approve"))
        case _:
            asyncio.run(main())
