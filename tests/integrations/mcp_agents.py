"""The agent of `make mcp-proof`: MCP servers, most of them of other people. Its worker is a process of its own."""

from __future__ import annotations

import os
from datetime import timedelta

from assent import Agent, MCPServer, OpenAIResponses

_ENV = os.environ
_SERVERS = [
    MCPServer(name="files", command=_ENV["FILES"], args=[_ENV["FOLDER"]], trusted=True),
    MCPServer(name="git", command=_ENV["GIT"], args=["--repository", _ENV["FOLDER"]], timeout=timedelta(seconds=20)),
    MCPServer(name="everything", url=_ENV["EVERYTHING_URL"], tools=["echo", "trigger-e*-request"]),
    MCPServer(name="rooms", url=_ENV["ROOMS_URL"], timeout=timedelta(seconds=20)),
]

clerk = Agent(
    name="clerk",
    model=OpenAIResponses(id=_ENV["MODEL"]),
    mcp_servers=[each for each in _SERVERS if each.name in _ENV["SERVERS"].split()],
)
