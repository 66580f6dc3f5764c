"""Runs whose large payloads are kept outside of the history: all works as without, and the history stays small."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from assent import (
    Agent,
    ConfigurationError,
    HistoryError,
    ImagePart,
    MessageError,
    RunHandle,
    TextPart,
    ToolContext,
    tool,
)
from assent.activities import payload_limits
from assent.audit.verifier import Verifier
from assent.client.client import AgentClient
from assent.runtime import storage
from assent.runtime.connection import connect
from assent.runtime.embedded_server import free_port
from assent.runtime.payload_codec import VARIABLE as CODEC
from assent.runtime.settings import Settings
from assent.runtime.storage import THRESHOLD_VARIABLE, VARIABLE
from assent.testing import Conversation, Environment, Reply, Step, call, calls, says
from assent.wire.digest import text_digest
from assent.wire.protocol import ToolOutcome
from tests.support import encrypting_codec, tools
from tests.support.cli_operator import Operator
from tests.support.stored_text import stored_text
from tests.workflows.test_wire import temporal

KIB = 1024
WORD = "swordfish"
PAGE = f"{WORD} " * 20_000
WHOLE = f"{WORD} " * 300_000


@tool
def read_page(context: ToolContext) -> str:
    """Read a page."""
    tools.note(context, "read_page")
    return PAGE


@tool
def read_book(context: ToolContext) -> str:
    """Read a book."""
    tools.note(context, "read_book")
    return WHOLE


@tool(requires_confirmation=True)
def publish(context: ToolContext, text: str) -> str:
    """Publish a text."""
    tools.note(context, f"publish({len(text)})")
    return f"published {len(text)}"


TOOLS: list[Callable[..., object]] = [read_page, read_book, publish]


def told(seen: Conversation) -> Reply:
    return says(json.dumps([len(output) for output in seen.tool_outputs.values()]))


S3 = {
    VARIABLE: "s3://runs/prod",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
STEPS: list[Step] = [calls(call("read_page"), call("read_book")), calls(call("publish", text=PAGE)), told]


@dataclass(frozen=True)
class Keeper(Operator):
    """An operator who has the storage, if it is *root*; where *closed*, no server answers."""

    root: Path | None = None
    closed: bool = False

    def variables(self, columns: int | None) -> dict[str, str]:
        address = {"TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}"} if self.closed else {}
        where = {VARIABLE: f"directory:{self.root}"} if self.root else {}
        return {**super().variables(columns), **where, **address}


@asynccontextmanager
async def keeping(
    environment: Environment, steps: list[Step], *, continue_after: int = 0
) -> AsyncGenerator[tuple[AgentClient, str]]:
    """A worker that keeps nothing between two steps, and a client; both as the environment's variables have it."""
    queue = f"stored-{uuid.uuid4().hex[:8]}"
    agent = Agent(name=queue, model=environment.responses(*steps), tools=TOOLS)
    kept_nowhere = partial(environment.serve, prefix_cache=0, cached_runs=0)
    async with kept_nowhere(agent, task_queue=queue, continue_after=continue_after):
        yield AgentClient(await connect(environment.server.address), task_queue=queue), queue


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    root = tmp_path / "storage"
    monkeypatch.setenv(VARIABLE, f"directory:{root}")
    monkeypatch.setenv(THRESHOLD_VARIABLE, str(50 * KIB))
    monkeypatch.setattr(storage, "PAUSE", 0.05)
    monkeypatch.setattr(payload_limits, "STORING", 1.0)
    return root


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def take_away(root: Path) -> None:
    root.rename(root.with_name("away"))


def put_in_the_way(root: Path) -> None:
    root.write_text("in the way")


def put_back(root: Path) -> None:
    if root.is_file():
        root.unlink()
    if root.with_name("away").exists():
        if root.exists():  # What was stored meanwhile.
            root.rename(root.with_name("meanwhile"))
        root.with_name("away").rename(root)


async def shown(environment: Environment, run: RunHandle, folder: Path) -> Path:
    path = folder / "history.json"
    path.write_text(await temporal(environment, "workflow", "show", "--workflow-id", run.id, "--output", "json"))
    return path


async def test_large_payloads_are_kept_outside_and_everything_is_read_as_without(
    assent_environment: Environment, root: Path, tmp_path: Path
) -> None:
    async with keeping(assent_environment, STEPS) as (client, queue):
        run = await client.start(queue, "Go. " * 50_000, requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
        assert asked.arguments == json.dumps({"text": PAGE})
        await run.approve(asked, by="bob")
        lengths = json.loads((await run.result()).content)
        assert lengths[0] == len(PAGE)
        assert lengths[2] == len(f"published {len(PAGE)}")
        verifier = Verifier(run.id)
        audit = await run.audit(verifier)
        assert {each.name: each.problems for each in verifier.verification(audit).checks if each.problems} == {}
        book = next(record.runs[0].result for record in audit.calls if record.tool == "read_book")
        assert book is not None
        assert (book.size, book.sha256) == (len(WHOLE), text_digest(WHOLE))
        assert await whole_of(client, run) == WHOLE
        size = (await run.description()).raw_description.workflow_execution_info.history_size_bytes
    assert size < 30 * KIB

    operator = Keeper(assent_environment, client, root=root)
    history = await shown(assent_environment, run, tmp_path)
    live = await operator.assent("audit", run.id, "--verify", "--json")
    assert (live.code, live.err) == (0, "")
    offline = Keeper(assent_environment, client, root=root, closed=True)
    read = await offline.assent("audit", "--file", str(history), "--verify", "--json")
    assert (read.code, read.err, read.out) == (0, "", live.out)
    bundle = str(tmp_path / "run.zip")
    assert (await offline.assent("audit", "export", "--file", str(history), "--bundle", bundle)).code == 0
    assert (await offline.assent("audit", "verify", bundle)).code == 0
    await without_the_storage(Keeper(assent_environment, client, closed=True), history)
    await after_a_change(offline, history, root)


async def whole_of(client: AgentClient, run: RunHandle) -> str:
    """The whole of the one result that was cut."""
    async for event in client.temporal.get_workflow_handle(run.id).fetch_history_events():
        result = event.activity_task_completed_event_attributes.result
        [found] = await client.temporal.data_converter.decode(result.payloads or ()) or [None]
        outcome = ToolOutcome.model_validate(found) if isinstance(found, dict) else ToolOutcome()
        if outcome.whole is not None:
            return await stored_text(client.temporal.data_converter, outcome.whole)
    raise AssertionError(run.id)


async def without_the_storage(operator: Keeper, history: Path) -> None:
    """What whoever has not named it is told."""
    ran = await operator.assent("audit", "--file", str(history))
    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
    assert "a payload of event 1 cannot be read: it is in the external storage 'assent.directory'" in ran.err
    assert "name that storage in ASSENT_STORAGE" in ran.err


async def after_a_change(operator: Keeper, history: Path, root: Path) -> None:
    """What is told where the storage has something else, or nothing, in the place of what was stored."""
    for path in files(root):
        path.write_bytes(b"something else")
    ran = await operator.assent("audit", "--file", str(history))
    assert (ran.code, ran.err.count("\n"), "was changed: it has another SHA-256" in ran.err) == (3, 1, True)
    for path in files(root):
        path.unlink()
    ran = await operator.assent("audit", "--file", str(history))
    assert (ran.code, ran.err.count("\n"), "is not in the storage directory" in ran.err) == (3, 1, True)


async def test_the_inbox_lists_what_is_too_much_for_a_memo(assent_environment: Environment, root: Path) -> None:
    many = [call("publish", text=f"{number}") for number in range(300)]
    async with keeping(assent_environment, [calls(*many), told], continue_after=20) as (client, queue):
        run = await client.start(queue, "Go.")
        waiting = (await run.until_paused()).active_requirements
        assert any(b"publish" in path.read_bytes() for path in files(root))
        assert len(await client.pending(agent=queue)) == len(waiting) == 300
        for each in waiting[:3]:
            await run.approve(each, by="bob")
        first = (await run.audit()).run.executions[0]
        for _ in range(200):
            if (await run.description()).run_id != first:
                break
            await asyncio.sleep(0.1)
        assert len((await run.until_paused()).active_requirements) == 297
        assert len(await client.pending(agent=queue)) == 297


async def test_what_is_kept_outside_is_encrypted_too(
    assent_environment: Environment, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CODEC, encrypting_codec.NAME)
    async with keeping(assent_environment, STEPS) as (client, queue):
        run = await client.start(queue, PAGE, requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
        await run.approve(asked, by="bob")
        await run.result()
        assert await whole_of(client, run) == WHOLE
        verifier = Verifier(run.id)
        assert verifier.verification(await run.audit(verifier)).ok
    kept = [path.read_bytes() for path in files(root)]
    assert len(kept) > 3
    assert not any(WORD.encode() in data for data in kept)


async def test_a_run_goes_on_once_what_was_missing_is_back(assent_environment: Environment, root: Path) -> None:
    steps: list[Step] = [calls(call("publish", text=PAGE)), told]
    async with keeping(assent_environment, steps) as (client, queue):
        run = await client.start(queue, "Go.")
        [asked] = (await run.until_paused()).active_requirements
        take_away(root)
        await run.send("approve", {"id": asked.id, "by": "bob"})
        with pytest.raises(HistoryError, match=r"a payload of event \d+ cannot be read: payload .* is not in"):
            await run.state()
        await failed_task(client, run)
        assert tools.ran(run.id) == []
        put_back(root)
        assert json.loads((await asyncio.wait_for(run.result(), 60)).content) == [len(f"published {len(PAGE)}")]
    assert tools.ran(run.id) == [f"publish({len(PAGE)})"]


async def failed_task(client: AgentClient, run: RunHandle) -> None:
    """Wait until a workflow task of the run has failed for want of its storage."""
    for _ in range(200):
        async for event in client.temporal.get_workflow_handle(run.id).fetch_history_events():
            failure = event.workflow_task_failed_event_attributes.failure
            if "is not in the storage directory" in failure.message:
                return
        await asyncio.sleep(0.05)
    raise AssertionError(run.id)


async def test_a_tool_that_has_acted_does_not_run_again_because_the_storage_is_down(
    assent_environment: Environment, root: Path
) -> None:
    put_in_the_way(root)
    async with keeping(assent_environment, [calls(call("read_book")), told]) as (client, queue):
        run = await client.start(queue, "Go.")
        [length] = json.loads((await asyncio.wait_for(run.result(), 60)).content)
        [record] = (await run.audit()).calls
    assert tools.ran(run.id) == ["read_book"]
    assert length < 50 * KIB  # What the history itself takes.
    assert record.runs[0].result is not None
    assert record.runs[0].result.sha256 == text_digest(WHOLE)


async def test_an_answer_waits_for_a_storage_that_is_down_and_is_paid_for_once(
    assent_environment: Environment, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload_limits, "STORING", 20.0)
    put_in_the_way(root)
    asked: list[int] = []
    loop = asyncio.get_running_loop()
    began = asyncio.Event()

    def answers(seen: Conversation) -> Reply:
        asked.append(seen.turn)
        loop.call_soon_threadsafe(began.set)
        return calls(call("publish", text=PAGE)) if seen.turn == 0 else told(seen)

    async with keeping(assent_environment, [answers]) as (client, queue):
        run = await client.start(queue, "Go.")
        await began.wait()
        await asyncio.sleep(1)
        put_back(root)
        [waits] = (await run.until_paused()).active_requirements
    assert (waits.arguments, asked) == (json.dumps({"text": PAGE}), [0])


@pytest.mark.filterwarnings("default")
async def test_s3_keeps_payloads_by_the_driver_of_the_sdk(
    assent_environment: Environment, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threaded = pytest.importorskip("moto.server", reason="a server that speaks S3 is not installed").ThreadedMotoServer
    pytest.importorskip("aioboto3", reason="the extra s3 is not installed")
    server = threaded(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in S3.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    try:
        async with httpx.AsyncClient() as web:
            assert (await web.put(f"{address}/runs")).status_code == 200
            async with keeping(assent_environment, STEPS) as (client, queue):
                run = await client.start(queue, "Go.")
                [asked] = (await run.until_paused()).active_requirements
                await run.approve(asked, by="bob")
                assert json.loads((await run.result()).content)[0] == len(PAGE)
                assert await whole_of(client, run) == WHOLE
                verifier = Verifier(run.id)
                assert verifier.verification(await run.audit(verifier)).ok
            assert "<Key>prod/v0/ns/default/wt/AgentRun/wi/" in (await web.get(f"{address}/runs?list-type=2")).text
    finally:
        server.stop()


async def test_settings_that_name_a_storage_serve_no_client_without_one(assent_environment: Environment) -> None:
    from assent.worker import serving  # noqa: PLC0415 - what a worker needs

    agent = Agent(name="plain", model=assent_environment.responses(), tools=tools.ALL)
    with pytest.raises(ConfigurationError, match="the settings name an external storage, and the client has none"):
        async with serving(assent_environment.server.client, [agent], Settings(storage="directory:/nowhere")):
            pass


@pytest.mark.usefixtures("root")
async def test_images_that_no_history_takes_are_kept_in_the_storage(assent_environment: Environment) -> None:
    image = ImagePart(data=b"\x89PNG\r\n\x1a\n".ljust(5_000_000), media_type="image/png")
    steps: list[Step] = [calls(call("read_page")), lambda seen: says(f"{len(json.dumps(seen.items))}")]
    async with keeping(assent_environment, steps, continue_after=5) as (client, agent):
        with pytest.raises(MessageError, match="without an external storage"):
            await assent_environment.client(client.task_queue).start(agent, [image])
        run = await client.start(agent, [TextPart(text="What is it?"), image])
        assert int((await run.result()).content) > 6_000_000
        description = await run.description()
        assert description.raw_description.workflow_execution_info.history_size_bytes < 100 * KIB
        assert (await run.verify()).ok
        audit = await run.audit()
        assert len(audit.run.executions) > 1
