"""A server of the `mcp` package with its default state: `python -m tests.integrations.mcp_rooms PORT FOLDER`.

`FOLDER/effects` gets a line for each effect, a while before it is reported. A number in
`FOLDER/clock` is how many seconds its clock is ahead.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mcp.server.request_state
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
SLOW = 1.0
FORM = {"type": "object", "properties": {"room": {"type": "integer"}}, "required": ["room"]}
server = MCPServer("rooms", log_level="CRITICAL")


def now() -> float:
    clock = FOLDER / "clock"
    return time.time() + (float(clock.read_text()) if clock.exists() else 0)


def note(name: str, line: str) -> None:
    with (FOLDER / name).open("a") as file:
        file.write(f"{line}\n")


@server.tool()
def clean() -> str:
    """Clean all rooms, slowly."""
    note("begun", "clean")
    time.sleep(SLOW)
    note("effects", "clean")
    time.sleep(SLOW)
    return "cleaned"


@server.tool()
def book(context: Context) -> InputRequiredResult | str:
    """Book a room, which a person chooses."""
    answers = context.input_responses
    if answers is None:
        form = ElicitRequestFormParams(message="Which room?", requested_schema=FORM)
        return InputRequiredResult(input_requests={"room": ElicitRequest(params=form)}, request_state="chosen")
    answer = answers["room"]
    assert isinstance(answer, ElicitResult)
    note("begun", "book")
    time.sleep(SLOW)
    note("effects", f"book {(answer.content or {})['room']}")
    time.sleep(SLOW)
    return "booked"


if __name__ == "__main__":
    mcp.server.request_state.time = SimpleNamespace(time=now)  # type: ignore[attr-defined,assignment]
    server.run("streamable-http", port=PORT)
