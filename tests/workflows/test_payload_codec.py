"""Runs whose payloads are encrypted: everything works as without, and nothing that is stored can be read."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from assent import Agent, ConfigurationError, RunHandle
from assent.audit.verifier import Verifier
from assent.client.client import AgentClient
from assent.client.progress import progress_of
from assent.runtime.connection import connect
from assent.runtime.embedded_server import free_port
from assent.runtime.payload_codec import VARIABLE, configured_codec, load_codec
from assent.runtime.settings import Settings
from assent.testing import Approved, Delivered, Environment, Step, call, calls, drive, fails, says
from tests.support import encrypting_codec, tools
from tests.support.cli_operator import Operator
from tests.workflows.test_wire import temporal

WORD = "swordfish"
STEPS: list[Step] = [
    fails(500, message=f"about {WORD}"),
    calls(call("look_up", key=WORD)),
    calls(call("pay", to=WORD, amount=5), call("ship", order=WORD)),
    calls(call("restart", service=WORD), call("break_down", how=WORD)),
    lambda seen: says(f"{WORD}: {seen.last_output}"),
]


@dataclass(frozen=True)
class Keyed(Operator):
    """An operator who has the codec and its key; where *closed*, no server answers."""

    closed: bool = False
    key: str = encrypting_codec.KEY
    name: str = encrypting_codec.NAME

    def variables(self, columns: int | None) -> dict[str, str]:
        address = {"TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}"} if self.closed else {}
        return {**super().variables(columns), VARIABLE: self.name, encrypting_codec.VARIABLE: self.key, **address}


@asynccontextmanager
async def encrypted(
    environment: Environment, agent: Agent, queue: str, *, continue_after: int = 0
) -> AsyncGenerator[AgentClient]:
    """A worker that keeps nothing between two steps, and a client; both with the codec."""
    kept_nowhere = partial(environment.serve, prefix_cache=0, cached_runs=0)
    async with kept_nowhere(agent, task_queue=queue, continue_after=continue_after):
        yield AgentClient(await connect(environment.server.address), task_queue=queue)


def plain_text(history: str) -> str:
    """A history with its payloads as they are stored, for a search."""
    found: list[str] = []

    def look(value: object) -> object:
        if isinstance(value, str):
            try:
                found.append(base64.b64decode(value, validate=True).decode("utf-8", "replace"))
            except ValueError:
                return value
        return value

    json.loads(history, object_hook=lambda fields: [look(each) for each in fields.values()] and fields)
    return history + "".join(found)


async def shown(environment: Environment, run: RunHandle, folder: Path) -> Path:
    path = folder / "history.json"
    path.write_text(await temporal(environment, "workflow", "show", "--workflow-id", run.id, "--output", "json"))
    return path


async def test_an_encrypted_run_is_decided_watched_and_audited_and_nothing_of_it_can_be_read(
    assent_environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, encrypting_codec.NAME)
    queue = f"encrypted-{uuid.uuid4().hex[:8]}"
    agent = Agent(name=queue, model=assent_environment.responses(*STEPS), tools=tools.ALL)
    async with encrypted(assent_environment, agent, queue) as client:
        run = await client.start(queue, f"Prompt {WORD}.", requested_by="alice")
        pay, ship = (await run.until_paused()).active_requirements
        at = Keyed(assent_environment, client)
        [listed, _] = (await at.assent("pending", "--agent", queue, "--json")).json
        assert WORD in listed["arguments"]
        assert WORD in (await at.assent("show", run.id)).out
        for words in ((), ("--json",), ("--limit", "5")):
            unread = await Operator(assent_environment, client).assent("pending", "--agent", queue, *words)
            assert (unread.code, WORD in unread.out) == (3, False)
            assert f"1 run could not be read, and may wait: {run.id}\n" in unread.err
            assert "encoded by 'binary/encrypted'; name their codec in ASSENT_PAYLOAD_CODEC" in unread.err
        # Whoever signals with the plain `temporal` CLI encrypts nothing, and still counts.
        plain = json.dumps({"id": pay.id, "by": "carol"})
        await temporal(
            assent_environment, "workflow", "signal", "--workflow-id", run.id, "--name", "approve", "--input", plain
        )
        done = await at.assent("submit-result", run.id, ship.short_id, "--by", "bob", "--output", json.dumps(WORD))
        assert (done.code, done.err) == (0, "")
        [restart] = (await run.until_paused()).active_requirements
    sent = await at.assent("approve", run.id, restart.short_id, "--by", "alice")
    assert (sent.code, "sent" in sent.out) == (0, True)
    assert f"no worker has read approve yet: {{'id': '{restart.id}'" in (await at.assent("show", run.id)).out
    async with encrypted(assent_environment, agent, queue):  # Another worker, which rebuilds all from the history.
        decided = await at.assent("approve", run.id, restart.short_id, "--by", "bob", "--reason", f"why {WORD}")
        assert (decided.code, decided.err) == (0, "")
        assert WORD in ((await run.result()).content or "")
        live = await at.assent("audit", run.id, "--verify", "--json")
        assert "completed" in (await at.assent("watch", run.id)).out
    assert (live.code, live.err) == (0, "")
    records = [json.loads(line) for line in live.out.splitlines()]
    assert [each["resolved_by"] for each in records if each["record"] == "approval"] == ["carol", "bob", "bob"]
    assert live.out.count(WORD) > 10

    history = await shown(assent_environment, run, tmp_path)
    kept = await temporal(assent_environment, "workflow", "describe", "--workflow-id", run.id, "--output", "json")
    for stored in (history.read_text(), kept):
        assert WORD not in plain_text(stored)
    assert "carol" in plain_text(history.read_text())  # What was sent plain is stored plain.
    offline = Keyed(assent_environment, client, closed=True)
    read = await offline.assent("audit", "--file", str(history), "--verify", "--json")
    assert (read.code, read.err) == (0, "")
    assert read.out == live.out

    bundle = str(tmp_path / "run.zip")
    assert (await offline.assent("audit", "export", "--file", str(history), "--bundle", bundle)).code == 0
    checked = await offline.assent("audit", "verify", bundle)
    assert (checked.code, checked.err) == (0, "")
    await without_the_key(offline, Operator(assent_environment, client), history, bundle, run.id)


async def without_the_key(offline: Keyed, plain: Operator, history: Path, bundle: str, run_id: str) -> None:
    """What whoever has no codec, or another key, is told."""
    wrong = Keyed(offline.environment, offline.client, closed=True, key="ff" * 16)
    ran = await wrong.assent("audit", "--file", str(history))
    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
    assert "the payload codec cannot decode event 1: InvalidTag" in ran.err
    for words in (
        ("audit", "--file", str(history), "--verify"), ("audit", run_id, "--json"), ("show", run_id), ("watch", run_id),
        ("stats",),
    ):  # fmt: skip
        ran = await plain.assent(*words)
        assert WORD not in ran.out
        assert ran.code == 3
        assert "encoded by 'binary/encrypted'; name their codec in ASSENT_PAYLOAD_CODEC=module:NAME" in ran.err
        assert "cut, or was changed" not in ran.err
    ran = await plain.assent("audit", "verify", bundle)
    assert (ran.code, "name their codec in ASSENT_PAYLOAD_CODEC" in " ".join(ran.out.split())) == (1, True)
    assert "NOT VERIFIED: records: the records cannot be rebuilt" in ran.err
    assert "name their codec in ASSENT_PAYLOAD_CODEC" in ran.err


async def test_why_a_model_call_fails_is_shown_to_whoever_has_the_codec_alone(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, encrypting_codec.NAME)
    queue = f"encrypted-{uuid.uuid4().hex[:8]}"
    model = assent_environment.responses(fails(401, times=None, message=f"no such key {WORD}"))
    async with encrypted(assent_environment, Agent(name=queue, model=model), queue) as client:
        run = await client.start(queue, "Go.", requested_by="alice")
        async with asyncio.timeout(10):
            while not any(each.failure for each in (await progress_of(run)).activities):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.05)
        assert f"no such key {WORD}" in (await Keyed(assent_environment, client).assent("show", run.id)).out
        assert WORD not in (await Operator(assent_environment, client).assent("show", run.id)).out
        await run.cancel()


async def test_an_encrypted_run_that_continued_as_new_is_audited_as_one(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, encrypting_codec.NAME)
    queue = f"encrypted-{uuid.uuid4().hex[:8]}"
    agent = Agent(name=queue, model=assent_environment.responses(*STEPS), tools=tools.ALL)
    async with encrypted(assent_environment, agent, queue, continue_after=5) as client:
        run = await client.start(queue, f"Prompt {WORD}.", requested_by="alice")
        await drive(run, lambda each: Delivered(WORD) if each.kind == "external" else Approved(), by="bob")
        verifier = Verifier(run.id)
        audit = await run.audit(verifier)
        found = verifier.verification(audit)
    assert len(audit.run.executions) > 2
    assert {each.name: each.problems for each in found.checks if each.problems} == {}
    assert (found.ok, [each.status for each in audit]) == (True, ["approved"] * 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests.support.encrypting_codec", "ASSENT_PAYLOAD_CODEC='tests.support.encrypting_codec' is not module:NAME"),
        (":Encrypting", "ASSENT_PAYLOAD_CODEC=':Encrypting' is not module:NAME"),
        ("no_such_module:X", "module 'no_such_module' does not import: ModuleNotFoundError"),
        ("tests.support.encrypting_codec:Missing", "module 'tests.support.encrypting_codec' has no 'Missing'"),
        (
            "tests.support.encrypting_codec:NOTHING",
            "'tests.support.encrypting_codec:NOTHING' is not a temporalio.converter.PayloadCodec",
        ),
        (
            "tests.support.encrypting_codec:KEY",
            "'tests.support.encrypting_codec:KEY' is not a temporalio.converter.PayloadCodec",
        ),
        (
            "tests.support.encrypting_codec:broken",
            "'tests.support.encrypting_codec:broken' fails: KeyError: 'TEST_CODEC_KEY'",
        ),
    ],
)
async def test_a_codec_that_cannot_be_had_is_said_in_one_line_before_anything_is_reached(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(ConfigurationError) as refused:
        await connect(f"127.0.0.1:{free_port()}")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_the_command_says_so_and_exits_with_2(assent_environment: Environment) -> None:
    at = Keyed(assent_environment, assent_environment.client("none"), name="tests.support.encrypting_codec:broken")
    ran = await at.assent("pending")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "ASSENT_PAYLOAD_CODEC: 'tests.support.encrypting_codec:broken' fails" in ran.err


def test_a_codec_is_an_instance_or_what_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(load_codec(encrypting_codec.NAME), encrypting_codec.Encrypting)
    monkeypatch.setattr(encrypting_codec, "READY", encrypting_codec.Encrypting(), raising=False)
    assert load_codec("tests.support.encrypting_codec:READY") is load_codec("tests.support.encrypting_codec:READY")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert configured_codec() is None
    monkeypatch.setenv(VARIABLE, encrypting_codec.NAME)
    assert Settings.read().payload_codec == encrypting_codec.NAME


async def test_settings_that_name_a_codec_serve_no_client_without_one(assent_environment: Environment) -> None:
    from assent.worker import serving  # noqa: PLC0415 - what a worker needs

    agent = Agent(name="plain", model=assent_environment.responses(), tools=tools.ALL)
    with pytest.raises(ConfigurationError, match="the settings name a payload codec, and the client has none"):
        async with serving(assent_environment.server.client, [agent], Settings(payload_codec=encrypting_codec.NAME)):
            pass
