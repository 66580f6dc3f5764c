"""A TCP proxy whose line to the other side can be cut: refused, silent, or broken off in mid-answer."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

Line = Literal["open", "refused", "silent", "half"]
_CHUNK = 65_536


@dataclass
class Proxy:
    """What stands between a program and a server of this machine. *line* is how it is; *cut* counts what it has cut.

    `refused`: nobody listens, so the system itself refuses. `silent`: what is sent is taken, and goes nowhere, and
    nothing comes back. `half`: the first *half* bytes of an answer come, then the connection is closed.
    """

    upstream: int
    port: int = 0
    half: int = 0
    cut: int = 0
    line: Line = "open"
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    async def becomes(self, line: Line) -> None:
        """Change the line, also for the connections that there are. What was cut is never mended: those end."""
        self.line = line
        if line in {"open", "refused"}:
            await self.close()
        if line != "refused" and self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and close every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        back: StreamWriter | None = None
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, back, answers=False))
                group.create_task(self._pass(there, writer, answers=True))
        except* OSError:
            pass  # One side has closed, or the line was cut: so is the other then.
        finally:
            writer.close()
            if back is not None:
                back.close()

    async def _pass(self, source: StreamReader, target: StreamWriter, *, answers: bool) -> None:
        left = self.half
        while data := await source.read(_CHUNK):
            if self.line == "silent":
                self.cut += 1
                continue
            if self.line == "half" and answers:
                data, left = data[:left], left - len(data)
            target.write(data)
            await target.drain()
            if left <= 0 and self.line == "half":
                self.cut += 1
                raise ConnectionAbortedError
        # Whoever closed one way has nothing more to say to the other, in HTTP as in gRPC.
        raise ConnectionAbortedError


@asynccontextmanager
async def proxy(upstream: int) -> AsyncGenerator[Proxy]:
    """A proxy to a port of this machine, open at first."""
    made = Proxy(upstream)
    await made.becomes("open")
    try:
        yield made
    finally:
        await made.close()
