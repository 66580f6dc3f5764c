"""An MCP server of the `mcp` package over streamable HTTP: `python -m tests.support.mcp_http PORT FOLDER`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mcp.server import MCPServer, _streamable_http_modern
from mcp.server.mcpserver import Context

server = MCPServer("web", log_level="CRITICAL")
STREAM_AFTER = 0.2
LEDGER = Path(sys.argv[2] if len(sys.argv) > 2 else ".") / "ledger"


def effect(line: str) -> None:
    with LEDGER.open("a") as ledger:
        ledger.write(f"{line}\n")


@server.tool()
def write(context: Context) -> str:
    """Write."""
    effect("write")
    meta = context.request_context.meta or {}
    return f"written with {meta.get('assent.idempotencyKey')}"


@server.tool()
async def hang() -> str:
    """Never answer."""
    effect("hang")
    await asyncio.sleep(3600)
    return ""


@server.tool()
async def big(size: int) -> str:
    """Say as many characters, so late that the answer is a stream of events."""
    await asyncio.sleep(2 * STREAM_AFTER)
    effect("big")
    return "x" * size


@server.tool()
def die() -> str:
    """End the process."""
    effect("die")
    os._exit(1)


if __name__ == "__main__":
    setattr(_streamable_http_modern, "_SSE_PING_INTERVAL", STREAM_AFTER)  # noqa: B010 - there is no option for it
    server.run("streamable-http", port=int(sys.argv[1]))
