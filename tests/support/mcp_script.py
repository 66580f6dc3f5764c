"""A small MCP server of 2025-11-25 over standard input and output, without any package: `python mcp_script.py FOLDER`.

`FOLDER/tools.json` has the tools that it lists, read at each list; `FOLDER/ledger` gets a line for each call that took
effect. What a tool does goes by its name. `FOLDER/late.json` has those that it lists from its second list on; it says
that its list may change, and sends a notice after the first one unless there is a file `FOLDER/silent`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
SERVER = Path(__file__)
LATER: list[str] = []
"""Messages that came while an answer was waited for."""


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def effect(params: dict[str, Any]) -> None:
    key = params.get("_meta", {}).get("assent.idempotencyKey")
    with (FOLDER / "ledger").open("a") as ledger:
        ledger.write(f"{params['name']} {json.dumps(params['arguments'])} {key}\n")


def answer_to(message: str, name: str) -> dict[str, Any]:
    """Ask a person in the middle of a call, as servers of before 2026-07-28 do; the call is held meanwhile."""
    schema = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    send({"id": "ask", "method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}})
    while True:
        line = sys.stdin.readline()
        answer: dict[str, Any] = json.loads(line)
        if answer.get("id") == "ask":
            return answer
        LATER.append(line)


def asks(params: dict[str, Any]) -> str | None:
    """Ask what the tool needs; return the error that it got instead of an answer."""
    if params["name"] == "hurry" and "result" not in answer_to("Which room?", "room"):
        params["arguments"]["room"] = "any"
    for asked in ("room", "day") if params["name"] == "book" else ():
        answer = answer_to(f"Which {asked}?", asked)
        if "result" not in answer:
            return str(answer["error"]["message"])
        params["arguments"] |= answer["result"]["content"]
    return None


def never_answer(name: str) -> None:
    while name == "endless":
        answer_to("Again?", "room")
    if name == "broken":
        sys.stdout.write('{"jsonrpc": "2.0", "id": 1, "result": {"content": [\n')
        sys.stdout.flush()
    if name in {"broken", "hang"}:
        time.sleep(3600)


def called(params: dict[str, Any]) -> dict[str, Any]:
    name = params["name"]
    never_answer(name)
    if name == "many":
        return {"content": [1] * 150_000}
    if name == "big":
        return {"content": [{"type": "text", "text": "x" * params["arguments"]["bytes"]}]}
    if error := asks(params):
        return {"content": [{"type": "text", "text": error}], "isError": True}
    effect(params)
    if name == "die" and len((FOLDER / "ledger").read_text().splitlines()) < params["arguments"].get("until", 100):
        os._exit(1)
    if name == "fail":
        return {"content": [{"type": "text", "text": "the disk is full"}], "isError": True}
    if name == "chatter":
        sys.stdout.write("a line that is no JSON-RPC\n")
    if name == "change":
        (FOLDER / "tools.json").write_text("[]")
        send({"method": "notifications/tools/list_changed"})
    if name == "picture":
        image = {"type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png"}
        link = {"type": "resource_link", "uri": "file:///a", "name": "a"}
        return {"content": [image, link, {"type": "resource", "resource": {"uri": "file:///b", "text": "words"}}]}
    if name == "count":
        return {"content": [], "structuredContent": {"count": params["arguments"].get("count", "many")}}
    return {"content": [{"type": "text", "text": f"{name} done, {os.environ.get('TOKEN')}"}]}


def main() -> None:
    late = False
    with (FOLDER / "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    while line := LATER.pop(0) if LATER else sys.stdin.readline():
        message = json.loads(line)
        if "id" not in message:
            continue
        match message["method"]:
            case "initialize":
                result: dict[str, Any] = {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {"listChanged": (FOLDER / "late.json").exists()}},
                    "serverInfo": {"name": "script", "version": "1"},
                }
            case "tools/list":
                result = {"tools": json.loads((FOLDER / ("late.json" if late else "tools.json")).read_text())}
            case "tools/call":
                result = called(message["params"])
            case _:
                send({"id": message["id"], "error": {"code": -32601, "message": "no such method"}})
                continue
        send({"id": message["id"], "result": result})
        if message["method"] == "tools/list" and not late:
            late = (FOLDER / "late.json").exists()
            if late and not (FOLDER / "silent").exists():
                send({"method": "notifications/tools/list_changed"})


if __name__ == "__main__":
    main()
