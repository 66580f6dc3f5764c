"""`kill -9` of the worker of a conversation, while it is idle and in mid-turn: it goes on, and nothing said is lost."""

from __future__ import annotations

import asyncio
import signal
import uuid
from pathlib import Path

from assent.testing import Environment, ModelServer, call, calls, check_replay, hangs, says
from tests.e2e.processes import worker


async def test_a_conversation_outlives_its_workers(assent_environment: Environment, tmp_path: Path) -> None:
    ledger, queue = tmp_path / "ledger", f"talk-{uuid.uuid4().hex[:6]}"
    address, client = assent_environment.server.address, assent_environment.client(queue)
    async with ModelServer() as models, asyncio.timeout(120):
        models.script(
            "e2e",
            lambda seen: says(" | ".join(seen.user)),
            calls(call("count")),
            hangs(60),
            lambda seen: says(f"{seen.last_output}: {' | '.join(seen.user)}"),
            lambda seen: says(f"last: {' | '.join(seen.user)}"),
        )
        run = client.get_run(queue)
        async with worker(address, models.url, ledger, queue=queue) as first:
            await client.send_message(queue, "One.", by="alice", agent="payer")
            assert (await run.until_paused()).content == "One."
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        # While it is idle and nobody serves it.
        await client.send_message(queue, "Two.", by="alice", agent="payer")
        async with worker(address, models.url, ledger, queue=queue) as second:
            # In mid-turn: after its tool, while the model is silent; and something is said meanwhile.
            while (await run.state()).turns < 3:  # noqa: ASYNC110 - the worker moves it
                await asyncio.sleep(0.05)
            await run.send_message("Three.", by="bob")
            assert await second.end(signal.SIGKILL) == -signal.SIGKILL
        async with worker(address, models.url, ledger, queue=queue) as third:
            state = await run.until_paused()
            assert (state.is_idle, state.content) == (True, "last: One. | Two. | Three.")
            assert ledger.read_text().splitlines() == ["counts", "counted"]
            await run.close(by="alice")
            assert (await run.result()).content == state.content
            assert await third.end(signal.SIGTERM) == 0
    assert (await run.verify()).ok
    await check_replay(await run.history())
