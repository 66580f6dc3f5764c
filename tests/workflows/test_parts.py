"""Images and files: the model gets them, a history has their bytes once, and people are shown a digest."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from zipfile import ZipFile

import pytest
from google.protobuf.json_format import MessageToJson
from pydantic import JsonValue
from temporalio.api.enums.v1 import EventType

from assent import Agent, FilePart, ImagePart, OpenAIChat, OpenAIResponses, TextPart
from assent.audit import bundles
from assent.testing import Environment, call, calls, says
from tests.support import tools
from tests.support.cli_operator import Operator
from tests.support.visibility import soon
from tests.workflows.test_continue_as_new import executions, live, replay

# Bytes that no compressor makes fewer of.
PNG = b"\x89PNG\r\n\x1a\n" + hashlib.shake_256(b"png").digest(60_000)
PDF = b"%PDF-" + hashlib.shake_256(b"pdf").digest(90_000)
CONTINUED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
INPUT = [TextPart(text="What is this?"), ImagePart(data=PNG, media_type="image/png")]
MESSAGE = [FilePart(data=PDF, media_type="application/pdf", name="offer.pdf"), TextPart(text="And this?")]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sent_to_model(environment: Environment, model: OpenAIChat | OpenAIResponses) -> list[str]:
    """The conversation of each request to a model, as JSON."""
    asked = [request for request in environment.models.requests if request.model == model.id]
    return [json.dumps(request.body["input" if request.api == "responses" else "messages"]) for request in asked]


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_bytes_reach_the_model_and_are_in_each_history_once(assent_environment: Environment, api: str) -> None:
    script = [calls(call("look_up", key="a")), says("A cat."), calls(call("look_up", key="b")), says("An offer.")]
    model = assent_environment.responses(*script) if api == "responses" else assent_environment.chat(*script)
    agent = Agent(name="viewer", model=model, tools=tools.ALL)
    async with assent_environment.serve(agent, continue_after=14) as client:
        run = await client.start("viewer", INPUT, requested_by="alice", conversation=True)
        assert (await run.until_paused()).content == "A cat."
    # The worker that answers the message has nothing in its cache.
    async with assent_environment.serve(agent, task_queue=client.task_queue, continue_after=14, prefix_cache=0):
        state = await run.send_and_wait(MESSAGE, by="alice")
        assert state.content == "An offer."
        assert state == await live(client, run)
        await run.close(by="alice")
        await run.result()
        histories = await executions(client, run)
        assert len(histories) > 1
        for history in histories:
            # The last event of an execution that continues as new is the input of the next one.
            stored = b"".join(each.SerializeToString() for each in history.events if each.event_type != CONTINUED)
            assert stored.count(base64_of(PNG).encode()) == 1
            assert stored.count(base64_of(PDF).encode()) <= 1
        await replay(client, run)
    requests = sent_to_model(assent_environment, model)
    assert [each.count(f"data:image/png;base64,{base64_of(PNG)}") for each in requests] == [1, 1, 1, 1]
    assert [each.count(f"data:application/pdf;base64,{base64_of(PDF)}") for each in requests] == [0, 0, 1, 1]


async def test_people_are_shown_size_and_digest_and_never_the_bytes(
    assent_environment: Environment, tmp_path: Path
) -> None:
    agent = Agent(name="viewer", model=assent_environment.responses(says("A cat.")), tools=tools.ALL)
    (tmp_path / "cat.png").write_bytes(PNG)
    (tmp_path / "offer.pdf").write_bytes(PDF)
    async with assent_environment.serve(agent) as client:
        operator = Operator(assent_environment, client)
        attached = ["--attach", str(tmp_path / "cat.png"), "--attach", "https://example.com/cat.webp"]
        began = await operator.assent("start", "viewer", "What is this?", *attached, "--conversation", "--json")
        run = client.get_run(began.json["run_id"])
        state = await run.until_paused()
        assert state == await live(client, run)
        image = f"[image: image/png, {len(PNG)} bytes, SHA-256 {sha256(PNG)}]"
        assert state.input == f"What is this?\n\n{image}\n\n[image: https://example.com/cat.webp]"
        # One that does not fit is kept, without its bytes.
        wrong: JsonValue = [{"type": "image", "data": base64_of(PNG), "media_type": "image/bmp"}]
        await run.send("send_message", {"content": wrong, "by": "alice"})
        [ignored] = (await soon(run.state, lambda each: bool(each.ignored_messages))).ignored_messages
        assert "content.0.image.media_type: it is not one of" in ignored.detail
        assert sha256(PNG) in ignored.text
    # No worker reads it.
    sent = await operator.assent("send-message", run.id, "--attach", str(tmp_path / "offer.pdf"), "--by", "alice")
    assert sent.out.startswith("sent")
    shown = {name: (await operator.assent(name, run.id)).out for name in ("show", "audit")}
    shown["details"] = MessageToJson((await run.description()).raw_description)
    shown["state"] = (await run.state()).model_dump_json()
    await bundles.export(run.id, run.audit, tmp_path / "run.zip")
    with ZipFile(tmp_path / "run.zip") as bundle:
        shown["records"] = bundle.read("records.jsonl").decode()
    assert sha256(PDF) in shown["records"]
    for text in shown.values():
        assert base64_of(PNG)[:40] not in text
        assert base64_of(PDF)[:40] not in text
    for name in ("show", "audit", "state", "records"):
        assert sha256(PNG) in "".join(shown[name].split()), name
    assert (await asyncio.to_thread(bundles.check, tmp_path / "run.zip")).ok
