"""Tools of an MCP server: what it says that it only reads runs at once, all else waits for a person.

python examples/mcp_files.py
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from assent import Agent, MCPServer, OpenAIResponses
from assent.runtime.connection import exit_cleanly
from assent.testing import Step, call, calls, says
from examples.support import say, say_verified, stage

SERVER = Path(__file__).with_name("notes_server.py")
SCRIPT: list[Step] = [
    calls(call("notes_list_notes")),
    calls(call("notes_write_note", name="plan.txt", text="Ship on Friday."), call("notes_delete_note", name="old.txt")),
    lambda seen: says("; ".join(seen.tool_outputs.values())),
]


def clerk(folder: Path) -> Agent:
    """An agent with the tools of a server that the worker starts for it. `trusted`: we wrote the server ourselves."""
    notes = MCPServer(name="notes", command=sys.executable, args=[str(SERVER), str(folder)], trusted=True)
    instructions = "List the notes, then write and delete what is asked for. The system asks a person by itself."
    return Agent(name="clerk", model=OpenAIResponses("gpt-5-mini"), instructions=instructions, mcp_servers=[notes])


async def main() -> None:
    """Start a run, approve one call, reject another, and look into the folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "old.txt").write_text("Ship on Monday.")
        async with stage(clerk(folder), *SCRIPT) as client:
            say("\n1. alice asks for two changes. Listing the notes is allowed: the server is trusted.")
            prompt = "Write plan.txt: ship on Friday. Delete old.txt."
            run = await client.start("clerk", prompt, requested_by="alice")
            waiting = (await run.until_paused()).active_requirements
            say("2. These calls of the server wait:")
            for each in waiting:
                say(f"   {each.tool}({each.arguments})\n      {each.note}")
            tools = {each.tool: each for each in waiting}
            assert list(tools) == ["notes.write_note", "notes.delete_note"]
            assert notes_in(folder) == {"old.txt": "Ship on Monday."}

            await run.approve(tools["notes.write_note"], by="bob")
            await run.reject(tools["notes.delete_note"], by="bob", reason="keep it for the audit")
            result = await run.result()
            say(f"3. bob approves one and rejects the other: {result.content}")
            assert "keep it for the audit" in result.content
            assert notes_in(folder) == {"old.txt": "Ship on Monday.", "plan.txt": "Ship on Friday."}
            say(f"4. The folder has {', '.join(notes_in(folder))}")
            await say_verified(client, run.id)


def notes_in(folder: Path) -> dict[str, str]:
    """What the notes of a folder say."""
    return {path.name: path.read_text() for path in sorted(folder.glob("*.txt"))}


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
