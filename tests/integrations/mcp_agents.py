"""The agent of `make mcp-proof`: three MCP servers, two of them of other people. Its worker is a process of its own."""

from __future__ import annotations

import os
from datetime import timedelta

from assent import Agent, MCPServer, OpenAIResponses

_NODE = os.environ["MCP_NODE"]

clerk = Agent(
    name="clerk",
    model=OpenAIResponses(id=os.environ["MODEL"]),
    mcp_servers=[
        MCPServer(name="files", command=f"{_NODE}/mcp-server-filesystem", args=[os.environ["FOLDER"]], trusted=True),
        MCPServer(name="everything", url=os.environ["EVERYTHING_URL"], tools=["echo"]),
        MCPServer(name="rooms", url=os.environ["ROOMS_URL"], timeout=timedelta(seconds=20)),
    ],
)
