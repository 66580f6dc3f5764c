"""Abuse cases I, D16, and F22 and F23 of the audit's records. The docstrings name the rows."""

from __future__ import annotations

import asyncio
import base64
import json
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError

from assent import Agent, RunHandle, approval, tool
from assent.audit.checks import Verification
from assent.audit.offline import audit_files
from assent.audit.records import Audit
from assent.audit.verifier import Verifier
from assent.client.client import AgentClient
from assent.runtime import embedded_server
from assent.runtime.webhooks import Webhook
from assent.testing import Environment, Step, call, calls, environment, fails, says
from assent.wire.errors import HistoryError
from tests.support import tools
from tests.support.cli_operator import Operator
from tests.support.updates import by_update
from tests.unit.audit.forged_histories import Event, Forged, places
from tests.workflows.test_continue_as_new import executions
from tests.workflows.test_wire import temporal


@approval(approvals=2)
@tool
def wire(to: str) -> str:
    """Wire money; it takes two people."""
    return f"wired to {to}"


@dataclass(frozen=True)
class Told:
    """A run that has ended, and whoever audits it."""

    environment: Environment
    client: AgentClient
    run: RunHandle

    async def exported(self, file: Path, execution: str | None = None) -> list[Event]:
        """The events of an execution, as the `temporal` command writes them into a file."""
        which = ("--run-id", execution) if execution else ()
        text = await temporal(
            self.environment, "workflow", "show", "--workflow-id", self.run.id, *which, "--output", "json"
        )
        await asyncio.to_thread(file.write_text, text)
        events: list[Event] = json.loads(text)["events"]
        return events

    async def audited(self) -> tuple[Audit, Verification]:
        """The audit that the server gives."""
        verifier = Verifier(self.run.id)
        audit = await self.run.audit(verifier)
        return audit, verifier.verification(audit)


@asynccontextmanager
async def telling(
    running: Environment, *turns: Step, continue_after: int = 0, asker: str = "alice"
) -> AsyncGenerator[Told]:
    """A run of these turns, once it waits or has ended."""
    agent = Agent(name="ops", model=running.responses(*turns, says("done")), tools=[*tools.ALL, wire])
    async with running.serve(agent, continue_after=continue_after) as client:
        run = await client.start("ops", "Go.", requested_by=asker)
        await run.until_paused()
        yield Told(running, client, run)


async def from_file(*files: Path) -> tuple[Audit, Verification]:
    verifier = Verifier("")
    audit = await audit_files(files, observer=verifier)
    return audit, verifier.verification(audit)


PAYS = calls(call("pay", to="bob", amount=5))


def an_edited_event(it: Forged) -> None:
    it.change(it.scheduled("pay"), lambda value: value.update(arguments='{"to": "mallory", "amount": 5}'))


def a_removed_event(it: Forged) -> None:
    it.take_out(*it.answer_to(it.sent(verdict="approve")[0]))


def a_reordered_event(it: Forged) -> None:
    """The tool ran before anybody had approved it."""
    about = it.about(it.scheduled("pay"))
    it.take_out(*about)
    it.put_in(it.about(it.scheduled("call_model"))[0], *about)


@pytest.mark.parametrize("change", [an_edited_event, a_removed_event, a_reordered_event])
async def test_an_edited_removed_or_reordered_event_of_an_export_breaks_verification(
    assent_environment: Environment, tmp_path: Path, change: Callable[[Forged], None]
) -> None:
    """Of an export of the `temporal` command; its audit and the head of its chain are those of the server."""
    async with telling(assent_environment, PAYS) as it:
        [waiting] = (await it.run.state()).active_requirements
        await it.run.approve(waiting, by="bob")
        await it.run.result()
        events = await it.exported(tmp_path / "run.json")
        audit, verification = await it.audited()
    assert verification.ok
    assert verification.complete
    read, found = await from_file(tmp_path / "run.json")
    assert read == audit
    assert found == verification

    it_now = Forged(events)
    change(it_now)
    (tmp_path / "forged.json").write_text(json.dumps({"events": it_now.events}))
    _, forged = await from_file(tmp_path / "forged.json")
    assert not forged.ok
    assert forged.head != verification.head


async def test_refused_late_and_duplicate_attempts_are_in_the_export(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """What did not count is in the records, with who, when and why; and in the bundle."""
    async with telling(assent_environment, PAYS) as it:
        [waiting] = (await it.run.state()).active_requirements
        assert (await by_update(it.run, waiting.id, "alice", reason="I may")).status == "refused"
        await it.run.send("approve", {"id": waiting.id, "by": "bob", "reason": "fine", "remember": {"uses": 0}})
        assert (await it.run.approve(waiting, by="bob", reason="go")).status == "approved"
        await it.run.send("approve", {"id": waiting.id, "by": "carol", "reason": "me too"})
        await it.run.send("reject", {"id": waiting.id, "by": "dave", "reason": "never"})
        await it.run.until_paused()
        at = Operator(assent_environment, it.client)
        records = [json.loads(line) for line in (await at.assent("audit", it.run.id, "--json")).out.splitlines()]
        bundle = tmp_path / "run.zip"
        assert (await at.assent("audit", "export", it.run.id, "--bundle", str(bundle))).code == 0
    with zipfile.ZipFile(bundle) as kept:
        [name] = [name for name in kept.namelist() if "record" in name]
        bundled = [json.loads(line) for line in kept.read(name).splitlines()]
    for found in (records, bundled):
        [record] = [each for each in found if each.get("record") == "approval"]
        sent = {each.get("reason"): (each["status"], each["by"], each["channel"]) for each in record["decisions"]}
        loose = {each.get("reason"): each["status"] for each in found if each.get("record") == "message"}
        assert sent["I may"] == ("refused", "alice", "update")
        assert sent["go"] == ("approved", "bob", "signal")
        assert {**sent, **loose}["fine"] in {"unreadable", ("unreadable", "bob", "signal")}
        late = {reason: sent.get(reason, (loose.get(reason),))[0] for reason in ("me too", "never")}
        assert late in ({"me too": "duplicate", "never": "late"}, {"me too": "late", "never": "late"})
        assert all(each["detail"] and each["events"] for each in record["decisions"])


CANARY = "canary-7f3a91"
KEY = f"sk-{CANARY}-0123456789abcdef"


def raises(arguments: dict[str, Any]) -> bool:
    """A gate that cannot say."""
    raise LookupError(len(arguments))


@tool(requires_confirmation=raises)
def refund(to: str, amount: int) -> str:
    """Refund somebody."""
    return f"refunded {amount} to {to}"


@tool
def call_out(to: str) -> str:
    """Call somebody, in vain."""
    message = f"cannot reach {to}"
    raise ConnectionError(message)


FAILURES = {"error", "failure", "lastFailure", "last_failure", "note"}
"""What a codec leaves plain in a history, and logs and the Web UI show; and what the records tell of it."""


def failures(value: Any) -> list[str]:
    """The JSON text of every failure in a JSON value: in a history, or in a record."""
    return [json.dumps(holder[key]) for holder, key in places(value) if key in FAILURES]


async def retried(run: RunHandle) -> list[str]:
    """Why the activities that are under way failed before, as soon as one did."""
    async with asyncio.timeout(60):
        while True:
            found = (await run.description()).raw_description.pending_activities
            if failed := [str(each.last_failure) for each in found if each.HasField("last_failure")]:
                return failed
            await asyncio.sleep(0.05)


async def test_failure_texts_never_contain_arguments_or_secrets(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of malformed arguments, gates that raise, providers, webhooks, and messages that are refused.

    What a model or a person is told of a value that does not fit quotes it, to whoever sent it: as a result or an
    answer, which a payload codec encrypts, and not as a failure.
    """
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HOOK", f"whsec_{base64.b64encode((CANARY * 3).encode()).decode()}")
    secret = json.dumps({"to": CANARY, "amount": CANARY})
    asks = calls(
        call("pay", raw=secret),
        call("pay", raw=f'{{"to": "{CANARY}", "to": 1}}'),
        call("pay", raw=f'{{"{CANARY}": 1}}'),
        call("refund", to=CANARY, amount=5),
    )
    refused = fails(400, message=f"You sent the key {KEY}, Bearer {KEY}", code="invalid_prompt", times=None)
    model = assent_environment.responses(asks, refused)
    webhook = Webhook(url=f"http://127.0.0.1:1/{CANARY}", secret_env="HOOK")
    agent = Agent(name="ops", model=model, tools=[*tools.ALL, refund])
    async with assent_environment.serve(agent, webhooks=[webhook]) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        state = await run.until_paused()
        [waiting] = [each for each in state.active_requirements if each.tool == "refund"]
        handle = client.temporal.get_workflow_handle(run.id)
        for body in ({"id": waiting.id, "by": CANARY * 40}, {"id": waiting.id, "verdict": CANARY, "by": "bob"}):
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update("decide", body)
            await run.send("approve", body)
        await run.approve(waiting, by="bob", arguments={"to": CANARY, "amount": CANARY}, check=False)
        pending = await retried(run)
        await run.reject(waiting, by="bob", reason="no")
        await run.until_paused()
        it = Told(assent_environment, client, run)
        events = await it.exported(tmp_path / "run.json")
        audit, _ = await it.audited()
    records = [json.loads(record.model_dump_json()) for record in audit.records()]
    texts = failures([events, records])
    assert any("You sent the key" in text for text in texts)
    assert any("LookupError" in text for text in texts)
    assert CANARY not in repr(pending), "what the Web UI shows of an activity that is tried again"
    assert [text for text in texts if CANARY in text] == []
    assert KEY not in json.dumps(events)


async def test_what_a_tool_says_in_its_own_exception_is_the_tools(assent_environment: Environment) -> None:
    """It is told to the model, which asked with these arguments, and recorded as the result that it is."""
    agent = Agent(
        name="ops",
        model=assent_environment.responses(calls(call("call_out", to=CANARY)), says("done")),
        tools=[call_out],
    )
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        await run.result()
        [record] = (await run.audit()).calls
    [ran] = record.runs
    assert ran.outcome == "failed"
    assert ran.result is not None
    assert CANARY in ran.result.text


LOOKS = [calls(call("look_up", key=key)) for key in "abc"]


async def test_a_run_that_continued_as_new_is_audited_as_one(assent_environment: Environment, tmp_path: Path) -> None:
    """From the server, and from the files of its executions in any order."""
    async with telling(assent_environment, *LOOKS, continue_after=5) as it:
        await it.run.result()
        audit, found = await it.audited()
        assert (found.ok, found.complete) == (True, True)
        assert len(audit.run.executions) == 4
        assert (len(audit.turns), len(audit.calls), audit.run.status) == (4, 3, "completed")
        cited = {each.execution_id for turn in audit.turns for each in turn.events}
        assert cited == set(audit.run.executions)
        files: list[Path] = []
        for number, execution in enumerate(audit.run.executions):
            files.append(tmp_path / f"{number}.json")
            await it.exported(files[-1], execution)
    assert await from_file(*files[::-1]) == (audit, found)
    with pytest.raises(HistoryError, match=r"the execution before .* is missing"):
        await from_file(files[0], files[2])
    for kept in (files[1:], files[:-1]):
        lacking, said = await from_file(*kept)
        assert (said.ok, said.complete) == (True, False)
        assert [check.verdict for check in said.checks if check.name == "history"] == ["incomplete"]
        assert said.head != found.head
        assert len(lacking.run.executions) == 3


@pytest.fixture
async def forgetful(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Environment]:
    """A server that deletes at once what it is told to delete; others take most of a minute."""
    names = ("visibilityProcessorUpdateAckInterval", "transferProcessorUpdateAckInterval")
    more = [each for name in names for each in ("--dynamic-config-value", f'history.{name}="100ms"')]
    monkeypatch.setattr(embedded_server, "_FLAGS", (*vars(embedded_server)["_FLAGS"], *more))
    async with environment() as running:
        yield running


async def deleted(it: Told, execution: str) -> None:
    """Delete an execution on the server, and wait until it is gone."""
    await temporal(it.environment, "workflow", "delete", "--workflow-id", it.run.id, "--run-id", execution, "--yes")
    async with asyncio.timeout(60):
        while execution not in (await it.run.audit()).run.missing:  # noqa: ASYNC110 - the server deletes when it likes
            await asyncio.sleep(0.05)


async def test_an_execution_that_is_gone_is_said_and_not_skipped(forgetful: Environment) -> None:
    """The votes of before were carried over; who sent them is not known any more, and that is said too."""
    async with telling(forgetful, calls(call("wire", to="a")), continue_after=12) as it:
        [waiting] = (await it.run.state()).active_requirements
        first = (await it.run.description()).run_id
        assert (await it.run.approve(waiting, by="bob")).status == "recorded"
        async with asyncio.timeout(60):
            while len(await executions(it.client, it.run)) < 2:  # noqa: ASYNC110 - the worker moves it
                await asyncio.sleep(0.05)
        assert (await it.run.approve(waiting, by="carol")).status == "approved"
        await it.run.result()
        whole, found = await it.audited()
        assert (found.ok, found.complete) == (True, True)
        assert [len(record.decisions) for record in whole] == [2]
        await deleted(it, first)
        audit, found = await it.audited()
    assert audit.run.missing == [first]
    assert not found.complete
    [record] = audit
    assert [vote.by for vote in record.votes] == ["bob", "carol"]
    assert found.ok, [problem for check in found.checks for problem in check.problems]


@pytest.mark.parametrize(
    ("principal", "attribution", "verdict"),
    [
        ({"type": "jwt", "name": "bob"}, "verified", "ok"),
        ({"type": "jwt", "name": "BOB "}, "verified", "ok"),
        ({"type": "jwt", "name": "mallory"}, "differs", "differs"),
        (None, "unverified", "unverified"),
    ],
)
async def test_the_audit_flags_a_name_that_the_server_did_not_see(
    assent_environment: Environment,
    tmp_path: Path,
    principal: dict[str, str] | None,
    attribution: str,
    verdict: str,
) -> None:
    """A server without an authorizer sees nobody, so the principal is put into the history as one would do it."""
    async with telling(assent_environment, PAYS) as it:
        [waiting] = (await it.run.state()).active_requirements
        await it.run.send("approve", {"id": waiting.id, "by": "bob"})
        await it.run.result()
        events = await it.exported(tmp_path / "run.json")
    for event in events:
        if principal is not None and event["eventType"].endswith("_EXECUTION_SIGNALED"):
            event["principal"] = principal
    (tmp_path / "seen.json").write_text(json.dumps({"events": events}))
    audit, found = await from_file(tmp_path / "seen.json")
    [[sent]] = [record.decisions for record in audit]
    assert (sent.by, sent.attribution) == ("bob", attribution)
    [names] = [check for check in found.checks if check.name == "names"]
    assert names.verdict == verdict
    assert found.ok is (verdict != "differs")
    if verdict == "differs":
        assert "mallory" in names.problems[0].text
        assert "'bob'" in names.problems[0].text


EVIL = "\u202edrop\u200b\x1b[2J\x1b]0;owned\x07\u2066\ufeff\u00ad\x9b"


async def test_hostile_text_is_exact_in_the_records_and_escaped_where_people_read_them(
    assent_environment: Environment,
) -> None:
    """Nothing is lost or changed in `--json`; what people read shows every character, and cuts none."""
    raw = json.dumps({"to": f"{EVIL}{'x' * 5_000}", "amount": 5}, ensure_ascii=False)
    async with telling(assent_environment, calls(call("pay", raw=raw)), asker=f"alice{EVIL}") as it:
        [waiting] = (await it.run.state()).active_requirements
        await it.run.approve(waiting, by=f"bob{EVIL}", reason=f"fine {EVIL}")
        await it.run.result()
        at = Operator(assent_environment, it.client)
        document = (await at.assent("audit", it.run.id, "--json")).out
        shown = (await at.assent("audit", it.run.id)).out
    assert document.isascii()
    [record] = [each for each in map(json.loads, document.splitlines()) if each.get("record") == "approval"]
    assert record["arguments"] == raw
    assert record["requested_by"] == f"alice{EVIL}"
    assert [(vote["by"], vote["reason"]) for vote in record["votes"]] == [(f"bob{EVIL}", f"fine {EVIL}")]
    assert not [each for each in shown if each != "\n" and not each.isprintable()]
    assert r"\u{202e}" in shown
