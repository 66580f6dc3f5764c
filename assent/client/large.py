"""Large updates to a run, one after the other.

The workflow task that takes updates gives them back to the server, all at once; of over 4 MiB it terminates the run.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from pydantic import JsonValue

from assent.wire.digest import canonical

LARGE: Final = 300_000
"""Bytes from which on an update is large: ten of fewer, as many as the server lets in, fit into a workflow task."""

_locks: Final[WeakValueDictionary[tuple[int, str], asyncio.Lock]] = WeakValueDictionary()


@asynccontextmanager
async def in_turn(run_id: str, body: Mapping[str, JsonValue]) -> AsyncGenerator[None]:
    """Wait until no other large update of this process is on its way to the run, if *body* is large."""
    if len(canonical(dict(body))) < LARGE:
        yield
        return
    key = (id(asyncio.get_running_loop()), run_id)
    lock = _locks.setdefault(key, asyncio.Lock())
    async with lock:
        yield
