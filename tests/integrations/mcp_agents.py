"""The agent of `make mcp-proof`: MCP servers, most of them of other people. Its worker is a process of its own."""

from __future__ import annotations

import os
import shlex
from datetime import timedelta

from assent import Agent, MCPServer, OpenAIResponses

_ENV = os.environ
_FILES, _GIT = (shlex.split(f"{_ENV['HELD']} {_ENV[name]}") for name in ("FILES", "GIT"))
_REPOSITORY = ["--repository", _ENV["FOLDER"]]
_SERVERS = [
    MCPServer(name="files", command=_FILES[0], args=[*_FILES[1:], _ENV["FOLDER"]], trusted=True),
    MCPServer(name="git", command=_GIT[0], args=[*_GIT[1:], *_REPOSITORY], timeout=timedelta(seconds=20)),
    MCPServer(name="everything", url=_ENV["EVERYTHING_URL"], tools=["echo", "trigger-e*-request"]),
    MCPServer(name="rooms", url=_ENV["ROOMS_URL"], timeout=timedelta(seconds=20)),
]

clerk = Agent(
    name="clerk",
    model=OpenAIResponses(id=_ENV["MODEL"]),
    mcp_servers=[each for each in _SERVERS if each.name in _ENV["SERVERS"].split()],
)
