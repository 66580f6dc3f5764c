"""The connections of a worker to MCP servers: real processes and real HTTP, without Temporal."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import socket
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from assent import Agent, ConfigurationError, MCPServer, OpenAIResponses, ToolContext, tool
from assent.activities import mcp_connection, mcp_incoming
from assent.activities.mcp_errors import ConnectionLostError, QuestionError, ServerDownError, ToolError
from assent.activities.mcp_servers import McpServers
from assent.agents.mcp_question import answers_of
from assent.agents.mcp_server import ANSWER, CONTEXT, Answer
from tests.support.mcp_script import SERVER

ANY: dict[str, Any] = {"type": "object"}
CALL = ToolContext(run_id="r", call_id="c", tool="t", agent="a", attempt=1, idempotency_key="the-key")


def listed(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": ANY, **more}


def lists(folder: Path, *tools: dict[str, Any]) -> MCPServer:
    (folder / "tools.json").write_text(json.dumps(tools))
    return MCPServer(name="files", command=sys.executable, args=[str(SERVER), str(folder)])


def of(*servers: MCPServer) -> Agent:
    return Agent(name="clerk", model=OpenAIResponses("gpt"), tools=[files_own], mcp_servers=servers)


@tool
def files_own() -> str:
    """Do what no server does."""
    return "own"


@asynccontextmanager
async def serving(agent: Agent) -> AsyncGenerator[McpServers]:
    servers = McpServers([agent])
    try:
        yield servers
    finally:
        await servers.close()


async def called(
    servers: McpServers, agent: Agent, name: str, *, answer: Answer | None = None, **arguments: object
) -> str:
    found = await servers.tool(agent, name)
    assert found is not None
    function = cast("Callable[..., Awaitable[str]]", found.function)
    return await function(**found.validate(json.dumps(arguments)), **{CONTEXT: CALL, ANSWER: answer})


async def test_one_process_serves_all_calls_until_it_dies_and_then_another_does(tmp_path: Path) -> None:
    agent = of(lists(tmp_path, listed("die"), listed("write"), listed("fail"), listed("hang")))
    async with serving(agent) as servers:
        assert list(await servers.listed(agent)) == [
            "files_own",
            *(f"files.{name}" for name in ("die", "write", "fail", "hang")),
        ]
        assert await called(servers, agent, "files.write", to="a") == "write done, None"
        with pytest.raises(ToolError, match=r"^the disk is full$"):
            await called(servers, agent, "files.fail")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(called(servers, agent, "files.hang"), 0.2)
        with pytest.raises(ConnectionLostError, match="'files': it was lost during the call"):
            await called(servers, agent, "files.die")
        assert await called(servers, agent, "files.write") == "write done, None"
    ledger = [line.split() for line in (tmp_path / "ledger").read_text().splitlines()]
    assert [line[0] for line in ledger] == ["write", "fail", "die", "write"]
    assert {line[-1] for line in ledger} == {"the-key"}


async def test_a_server_that_holds_a_call_while_it_asks_is_called_again_with_each_answer(tmp_path: Path) -> None:
    """It takes no effect before. What does without the answer is over, and what asks beside other calls is told so."""
    agent = of(lists(tmp_path, listed("book"), listed("hurry")))
    async with serving(agent) as servers:
        with pytest.raises(
            QuestionError, match=r"Which room\? \(It held the call .*'no person can be asked while"
        ) as room:
            await called(servers, agent, "files.book")
        with pytest.raises(QuestionError, match=r"^Which day\?") as day:
            await called(servers, agent, "files.book", answer=(room.value.question.stored, {"room": "7"}))
        asked = day.value.question.stored.model_copy(
            update={"earlier": answers_of(room.value.question.stored, {"room": "7"})}
        )
        assert not (tmp_path / "ledger").exists()
        assert await called(servers, agent, "files.book", answer=(asked, {"day": "Monday"})) == "book done, None"
        over = await called(servers, agent, "files.hurry")
        assert over.splitlines()[1] == "[the server asked meanwhile, and got no answer: Which room?]"
        both = await asyncio.gather(*(called(servers, agent, "files.book") for _ in range(2)), return_exceptions=True)
        assert all(
            "while several calls were under way; from now on it gets one at a time" in str(each) for each in both
        )
        both = await asyncio.gather(*(called(servers, agent, "files.book") for _ in range(2)), return_exceptions=True)
        assert [type(each) for each in both] == [QuestionError, QuestionError]
    ledger = [line.rpartition(" ")[0] for line in (tmp_path / "ledger").read_text().splitlines()]
    assert ledger == ['book {"room": "7", "day": "Monday"}', 'hurry {"room": "any"}']


async def test_what_is_no_text_is_described_and_what_does_not_fit_is_a_failure(tmp_path: Path) -> None:
    counted = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    agent = of(
        lists(tmp_path, listed("picture"), listed("chatter"), listed("big"), listed("count", outputSchema=counted))
    )
    async with serving(agent) as servers:
        told = (await called(servers, agent, "files.picture")).splitlines()
        assert told[0].startswith("[image, image/png: 8 bytes, SHA-256 ")
        assert told[1:] == ["[link to resource file:///a]", "[resource file:///b]", "words"]
        assert await called(servers, agent, "files.chatter") == "chatter done, None"
        assert len(await called(servers, agent, "files.big", bytes=5_000_000)) == 5_000_000
        begun = time.process_time()
        with pytest.raises(
            ConnectionLostError, match=r"during the call: .*; it wrote a line of more than 33,554,432 bytes$"
        ):
            await called(servers, agent, "files.big", bytes=50_000_000)
        assert time.process_time() - begun < 5
        with pytest.raises(ToolError, match=r"it answered with what is no valid result: count: 'many' is not of type"):
            await called(servers, agent, "files.count")


async def test_an_answer_that_is_none_and_questions_without_end_lose_their_call_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a message of very many values, the package would need gigabytes."""
    agent = of(lists(tmp_path, listed("broken"), listed("endless"), listed("many"), listed("write")))
    async with serving(agent) as servers, asyncio.timeout(30):
        for name, why in (
            ("broken", r"closed; it wrote an answer that is no JSON-RPC$"),
            ("endless", r"closed; it asked 101 times$"),
            ("many", "its answer is no JSON-RPC, or has more than .* or 100,000 values"),
        ):
            with pytest.raises(ConnectionLostError, match=why):
                await called(servers, agent, f"files.{name}")
        assert await called(servers, agent, "files.write") == "write done, None"
    [line] = [each for each in caplog.records if each.name == "mcp.client.stdio"]
    assert line.getMessage().startswith("MCP server: Failed to parse JSONRPC message from server: ")
    assert line.exc_info is None


def test_a_logger_of_the_application_keeps_its_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    """The package names one of its loggers `client`."""
    try:
        int("theirs")
    except ValueError:
        logging.getLogger("client").exception("It failed")
    [record] = caplog.records
    assert (record.getMessage(), record.exc_info is not None) == ("It failed", True)


async def test_no_schema_of_a_server_takes_the_time_of_a_worker(tmp_path: Path) -> None:
    evil = {"type": "object", "properties": {"count": {"$ref": "#/odd"}}, "odd": {"pattern": "^(a+)+$"}}
    agent = of(lists(tmp_path, listed("count", inputSchema=evil, outputSchema=evil)))
    async with serving(agent) as servers:
        begun = time.process_time()
        assert json.loads(await called(servers, agent, "files.count", count="a" * 40 + "b")) == {
            "count": "a" * 40 + "b"
        }
        assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("status", "headers", "why"),
    [
        # A small part of it could fill the memory of a worker.
        (200, {"content-encoding": "gzip"}, "it answered in the encoding 'gzip', unasked"),
        # Of something between the two: the server may have done what it was called for.
        (200, {"content-type": "text/html"}, "it answered with text/html"),
        (202, {}, "it accepted the call, and gave no answer"),
    ],
)
async def test_an_answer_that_is_not_read_leaves_the_outcome_open(
    status: int, headers: dict[str, str], why: str
) -> None:
    asked = list[str]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers["accept-encoding"])
        return httpx2.Response(status, headers=headers, content=gzip.compress(b"{}"))

    async with mcp_incoming.http_client({}, 1.0, httpx2.MockTransport(answer)) as client:
        response = await client.post("http://web.example/mcp", json={"id": 1, "method": "tools/call"})
    assert (asked, response.status_code) == (["identity"], 502)
    assert response.json()["error"]["message"].startswith("lost ")
    assert response.json()["error"]["message"].endswith(why)


async def test_a_name_of_the_agents_own_tools_wins_and_a_list_that_is_none_costs_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = of(lists(tmp_path, listed("own")))
    async with serving(agent) as servers:
        assert list(await servers.listed(agent)) == ["files_own"]
        lists(tmp_path, {"name": "write", "inputSchema": {"type": "array"}})
        with pytest.raises(
            ServerDownError, match=r"it gave no list of its tools: tools.0.inputSchema.type: .*'object'"
        ):
            await servers.tool(agent, "files.write", fresh=True)
    [line] = [each.getMessage() for each in caplog.records]
    assert line == "MCP server 'files': tool files.own is left out: the agent has one of its own"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("no-such-command",), "there is no command 'no-such-command'"),
        (("false",), "Connection closed"),
        (("sleep", "60"), "it did not answer within 0.5 s"),
        (("yes",), "it "),
    ],
)
async def test_a_command_that_is_no_server_costs_one_line(
    command: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "mcp.client.stdio")
    monkeypatch.setattr(mcp_connection, "CONNECT_LIMIT", 0.5)
    agent = of(MCPServer(name="files", command=command[0], args=command[1:]))
    async with serving(agent) as servers:
        with pytest.raises(ServerDownError, match=f"^MCP server 'files': {said}"):
            await servers.listed(agent)


async def test_two_servers_with_the_same_tool_stay_apart(tmp_path: Path) -> None:
    """So do those of a filter: an agent has the tools that *tools* names, and not those that *exclude* does."""
    folders = {name: tmp_path / name for name in ("one", "other")}
    for each in folders.values():
        each.mkdir()
    one, other = (replace(lists(each, listed("write"), listed("wipe")), name=name) for name, each in folders.items())
    agent = of(replace(one, tools=["w*e"], exclude=["wipe"]), replace(other, tools=["write"]))
    async with serving(agent) as servers:
        assert list(await servers.listed(agent)) == ["files_own", "one.write", "other.write"]
        assert await called(servers, agent, "other.write", to="b")
        assert await servers.tool(agent, "one.wipe") is None
    assert [each.name for each in folders.values() if (each / "ledger").exists()] == ["other"]


async def test_a_list_is_kept_until_the_server_says_that_it_changed(tmp_path: Path) -> None:
    agent = of(lists(tmp_path, listed("change")))
    async with serving(agent) as servers:
        assert list(await servers.listed(agent)) == ["files_own", "files.change"]
        lists(tmp_path, listed("change"), listed("write"))
        assert list(await servers.listed(agent)) == ["files_own", "files.change"]
        assert await servers.tool(agent, "files.write") is None
        assert await servers.tool(agent, "files.write", fresh=True) is not None
        await called(servers, agent, "files.change")
        assert list(await servers.listed(agent)) == ["files_own"]


@pytest.mark.parametrize("silent", [False, True])
async def test_tools_that_a_server_adds_after_it_started_are_there_in_the_first_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """Where its notice is lost, as over HTTP, they are there a moment later; a connection after it waits for them."""
    monkeypatch.setattr(mcp_connection, "SETTLED", 0.5)
    monkeypatch.setattr(mcp_connection, "FIRST", 0.1 if silent else 0.5)
    agent = of(lists(tmp_path, listed("write")))
    (tmp_path / "late.json").write_text(json.dumps([listed("write"), listed("late")]))
    if silent:
        (tmp_path / "silent").touch()
    async with serving(agent) as servers:
        first = ["files_own", "files.write"]
        assert list(await servers.listed(agent)) == (first if silent else [*first, "files.late"])
        assert await servers.tool(agent, "files.late") is not None
        [connection] = servers.opened
        await connection.close()
        assert list(await servers.listed(agent)) == [*first, "files.late"]


async def test_an_idle_connection_is_closed_and_opened_again_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_connection, "IDLE", 0.1)
    agent = of(lists(tmp_path, listed("write")))
    async with serving(agent) as servers:
        assert await called(servers, agent, "files.write")
        [first] = servers.opened
        await asyncio.sleep(0.5)
        assert first.is_closed
        assert await called(servers, agent, "files.write")
        assert first not in servers.opened


async def test_over_http_each_request_fails_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that could not be sent is told apart from one whose answer was lost."""
    for module in (mcp_connection, mcp_incoming):
        monkeypatch.setattr(module, "BODY_LIMIT", 5_000_000)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    agent = of(MCPServer(name="web", url=f"http://127.0.0.1:{port}/mcp"))
    async with serving(agent) as servers:
        with pytest.raises(ServerDownError, match=r"^MCP server 'web': it cannot be reached: ConnectError"):
            await servers.listed(agent)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.mcp_http", str(port), tmp_path
        )
        try:
            await _until_listed(servers, agent)
            assert await called(servers, agent, "web.write") == "written with the-key"
            assert len(await called(servers, agent, "web.big", size=2_000_000)) == 2_000_000
            with pytest.raises(
                ConnectionLostError, match="its answer is no JSON-RPC, or has more than 5,000,000 bytes"
            ):
                await called(servers, agent, "web.big", size=6_000_000)
            hanging = asyncio.create_task(called(servers, agent, "web.hang"))
            await asyncio.sleep(0.5)
            with pytest.raises(ConnectionLostError, match="'web': it was lost during the call"):
                await called(servers, agent, "web.die")
            with pytest.raises(ConnectionLostError):
                await hanging
            with pytest.raises(ServerDownError, match="it cannot be reached"):
                await called(servers, agent, "web.write")
        finally:
            with contextlib.suppress(ProcessLookupError):  # It has ended, where nothing failed before.
                process.kill()
            await process.wait()
    assert (tmp_path / "ledger").read_text().splitlines() == ["write", "big", "big", "hang", "die"]


async def _until_listed(servers: McpServers, agent: Agent) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            await servers.listed(agent)
        except ServerDownError:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        else:
            return


def test_a_server_that_cannot_be_used_here_is_refused_at_the_start_of_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FILES_TOKEN", raising=False)
    asks = MCPServer(name="files", url="https://files.example/mcp", headers={"Authorization": "FILES_TOKEN"})
    with pytest.raises(
        ConfigurationError, match="agent 'clerk': MCP server 'files': the environment has no variable FILES"
    ):
        McpServers([of(asks)])
    one, other = MCPServer(name="files", command="a"), MCPServer(name="files", command="b")
    with pytest.raises(ConfigurationError, match="agents 'clerk' and 'clerk' have different MCP servers named 'files'"):
        McpServers([of(one), of(other)])
    monkeypatch.setattr("importlib.util.find_spec", dict[str, None]().get)
    with pytest.raises(ConfigurationError, match=r"it needs the extra `mcp`: pip install"):
        McpServers([of(one)])
