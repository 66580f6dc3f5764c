"""An MCP server over its standard input and output: `python examples/notes_server.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("notes", log_level="ERROR")
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def list_notes() -> list[str]:
    """List the notes."""
    return sorted(path.name for path in FOLDER.glob("*.txt"))


@server.tool()
def write_note(name: str, text: str) -> str:
    """Write a note.

    Args:
        name: A file name, such as `plan.txt`.
        text: What to write.
    """
    (FOLDER / Path(name).name).write_text(text, encoding="utf-8")
    return f"wrote {name}"


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
def delete_note(name: str) -> str:
    """Delete a note for good."""
    (FOLDER / Path(name).name).unlink()
    return f"deleted {name}"


if __name__ == "__main__":
    server.run("stdio")
