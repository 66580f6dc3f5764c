"""The scripted model in a process of its own: `python -m tests.soak.model_process PORT`."""

from __future__ import annotations

import asyncio
import sys

from assent.testing import ModelServer
from tests.soak.agents import answers


async def _serve(port: int) -> None:
    async with ModelServer(port=port, record=False) as models:
        models.script("soak", answers)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
