"""A bundle of a real run: its whole history, over every execution that it went on in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.protobuf.json_format import MessageToDict

from assent import Agent
from assent.audit.bundle_checker import verify_bundle
from assent.audit.bundle_writer import new_bundle
from assent.audit.hash_chain import execution_line
from assent.audit.signing import load_signer
from assent.client.client import AgentClient
from assent.testing import Environment, call, calls, says
from assent.wire.digest import canonical
from tests.support import tools


async def lines(client: AgentClient, run_id: str) -> AsyncIterator[bytes]:
    """The lines of the chain, as they come from the server."""
    executions: list[str] = []
    wanted = (await client.temporal.get_workflow_handle(run_id).describe()).run_id
    while wanted:
        executions.insert(0, wanted)
        handle = client.temporal.get_workflow_handle(run_id, run_id=wanted)
        [first] = [event async for event in handle.fetch_history_events() if event.event_id == 1]
        wanted = first.workflow_execution_started_event_attributes.continued_execution_run_id
    for execution in executions:
        yield execution_line(execution)
        async for event in client.temporal.get_workflow_handle(run_id, run_id=execution).fetch_history_events():
            yield canonical(MessageToDict(event))


def scheduled(run_id: str, events: Iterable[bytes]) -> Iterable[bytes]:
    """A record of each activity that was scheduled."""
    for line in events:
        if attributes := json.loads(line).get("activityTaskScheduledEventAttributes"):
            yield canonical([run_id, attributes["activityType"]["name"]])


async def test_a_run_that_continued_as_new_is_one_signed_bundle(
    assent_environment: Environment, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    turns = [calls(call("look_up", key=each)) for each in "abc"]
    agent = Agent(name="ops", model=assent_environment.responses(*turns, says("done")), tools=tools.ALL)
    async with assent_environment.serve(agent, continue_after=5) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        assert (await run.result()).content == "done"
        with new_bundle(tmp_path / "run.zip", run_id=run.id) as bundle:
            kept: list[bytes] = []
            async for line in lines(client, run.id):
                bundle.add_event(line)
                kept += scheduled(run.id, [line])
            predicate = bundle.finish(
                records=kept,
                verification=b"[]",
                exported_at=datetime.now(UTC),
                signer=load_signer(tmp_path / "key.pem"),
            )
    assert (len(predicate.executions), predicate.complete) == (4, True)
    report = verify_bundle(tmp_path / "run.zip", public_key=tmp_path / "public.pem", rebuild=scheduled)
    assert report.ok, report.checks
    assert all(check.ok for check in report.checks)
    assert report.predicate == predicate
