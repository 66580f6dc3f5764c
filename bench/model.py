"""The scripted model server, in a process of its own: `python -m bench.model`. Prints its URL, ends on SIGTERM."""

from __future__ import annotations

import asyncio
import signal

from assent.testing import Conversation, ModelServer, Reply, call, calls, says
from bench.task import GUARDED, MODEL, Task


def answer(conversation: Conversation) -> Reply:
    """Call the tool as often as the task says, then end. A guarded tool's output is the time at which it ran."""
    task = Task.model_validate_json(conversation.user[0])
    if conversation.turn < task.turns:
        return calls(*[call(task.tool, size=task.size) for _ in range(task.calls)])
    return says(conversation.last_output or "" if task.tool == GUARDED else "done")


async def serve() -> None:
    """Answer until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with ModelServer(record=False) as server:
        server.script(MODEL, answer)
        print(server.url, flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve())
