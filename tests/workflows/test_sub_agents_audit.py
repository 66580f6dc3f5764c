"""The audit of agents that work for agents, and its checks, on the real server."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from assent import Agent, AgentClient, PermissionPolicy, RunHandle
from assent.audit.audit_tree import AuditedRun, audits
from assent.audit.bundles import check, export
from assent.runtime.payload_codec import VARIABLE
from assent.testing import Approved, Environment, Rejected, Step, call, calls, drive, fails, says
from tests.support import encrypting_codec, tools
from tests.support.cli_operator import Operator
from tests.workflows.test_cli_audit import Auditor, Offline
from tests.workflows.test_continue_as_new import live
from tests.workflows.test_payload_codec import Keyed, encrypted
from tests.workflows.test_sub_agents import child_of, reset

RESTARTS = calls(call("restart", service="web"))
POLICY = PermissionPolicy.of(deny=["drop_*"], ask=["pay"], allow=["*"])


def asks(agent: str, *more: str) -> Step:
    return calls(*(call(f"ask_{each}", input=f"Work, {each}.") for each in (agent, *more)))


@dataclass(frozen=True)
class Team:
    """Three agents, each of which works for the one before: a boss, an editor, a writer."""

    environment: Environment
    client: AgentClient
    run: RunHandle


@asynccontextmanager
async def team(
    environment: Environment, *writes: Step, gated: bool = False, continue_after: int = 0
) -> AsyncGenerator[Team]:
    """A run of the boss; the writer does what is scripted, and restarts something by default."""
    model = environment.responses
    writer = Agent(name="writer", model=model(*(writes or (RESTARTS, says("Restarted.")))), tools=tools.ALL)
    below = writer.as_tool(requires_confirmation=gated)
    editor = Agent(name="editor", model=model(asks("writer"), says("Edited.")), tools=[below])
    boss = Agent(name="boss", model=model(asks("editor"), says("Done.")), tools=[editor.as_tool()])
    async with environment.serve(boss, continue_after=continue_after) as client:
        yield Team(environment, client, await client.start("boss", "Go.", requested_by="alice", policy=POLICY))


async def whole(client: AgentClient, run: RunHandle) -> list[AuditedRun]:
    """The audits of a run and of those below it, all of which are in order, and tell what these say of themselves."""

    async def read(run_id: str, observer: Any) -> Any:
        return await client.get_run(run_id).audit(observer)

    found = [each async for each in audits(read, run.id, verify=True)]
    for each in found:
        assert each.audit is not None
        assert each.verification is not None
        problems = [problem.text for one in each.verification.checks for problem in one.problems]
        assert each.verification.ok, (each.path, problems)
        assert each.audit.state == await live(client, client.get_run(each.run_id))
    return found


async def test_a_run_and_all_runs_below_it_are_audited_one_after_the_other(assent_environment: Environment) -> None:
    async with team(assent_environment) as it:
        await drive(it.run, lambda _: Approved("fine"), by="bob")
        boss, editor, writer = await whole(it.client, it.run)
        assert [each.path[-1] for each in (boss, editor, writer)] == ["boss", "editor", "writer"]
        assert writer.path == ("boss", "editor", "writer")
        assert writer.audit is not None
        assert [each.agent for each in writer.audit.run.parents] == ["boss", "editor"]
        assert [(each.tool, each.agent, each.resolved_by) for each in writer.audit] == [("restart", "writer", "bob")]
        for above, below in ((boss, editor), (editor, writer)):
            assert above.audit is not None
            assert below.audit is not None
            [child] = above.audit.children
            assert (child.run_id, child.outcome) == (below.run_id, "answered")
            assert (child.answer, child.usage) == (below.audit.run.answer, below.audit.run.usage)


async def test_what_came_of_an_approved_call_of_an_agent_is_how_that_agent_ended(
    assent_environment: Environment,
) -> None:
    async with team(assent_environment, gated=True) as it:
        editor = await child_of(it.client, it.run)
        [asked] = (await editor.until_paused()).active_requirements
        await editor.approve(asked, by="bob")
        writer = await child_of(it.client, editor)
        [waiting] = (await writer.until_paused()).active_requirements
        [record] = await editor.audit()
        assert (record.status, record.execution, record.result) == ("approved", "running", None)
        assert [(each.outcome, each.child and each.child.outcome) for each in record.runs] == [("running", "running")]
        await writer.approve(waiting, by="bob")
        await it.run.result()
        [record] = await editor.audit()
        assert (record.execution, record.result) == ("executed", "Restarted.")
        [ran] = record.runs
        assert ran.child is not None
        assert ran.result is not None
        assert (ran.outcome, ran.result.text, ran.finished_at) == ("executed", "Restarted.", ran.child.finished_at)
        await whole(it.client, it.run)


async def test_an_agent_that_nobody_may_ask_is_never_begun(assent_environment: Environment) -> None:
    async with team(assent_environment, gated=True) as it:
        await drive(it.run, lambda _: Rejected("no"), by="bob")
        _, editor = await whole(it.client, it.run)
        assert editor.audit is not None
        assert editor.audit.children == []
        assert [(each.status, each.runs) for each in editor.audit] == [("rejected", [])]


async def test_an_agent_that_fails_is_recorded_with_why(assent_environment: Environment) -> None:
    async with team(assent_environment, fails(400, message="no such parameter", times=None)) as it:
        await it.run.result()
        _, editor, writer = await whole(it.client, it.run)
        assert editor.audit is not None
        assert writer.audit is not None
        [child] = editor.audit.children
        assert (child.outcome, child.answer) == ("failed", None)
        assert child.error == writer.audit.run.error
        assert [run.outcome for each in editor.audit.calls for run in each.runs] == ["failed"]


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_an_agent_whose_run_is_ended_by_somebody_is_recorded(assent_environment: Environment, how: str) -> None:
    async with team(assent_environment) as it:
        editor = await child_of(it.client, it.run)
        writer = await child_of(it.client, editor)
        await writer.until_paused()
        handle = it.client.temporal.get_workflow_handle(writer.id)
        await (handle.cancel() if how == "cancel" else handle.terminate())
        await it.run.result()
        [child] = (await editor.audit()).children
        words = {"cancel": "Cancelled: its run was cancelled", "terminate": "Terminated: its run was terminated"}
        assert (child.outcome, child.error) == ("failed", words[how])
        for run in (it.run, editor, writer):
            assert (await run.verify()).ok


async def test_agents_whose_work_nobody_waits_for_any_more_are_recorded_as_left(
    assent_environment: Environment,
) -> None:
    async with team(assent_environment) as it:
        editor = await child_of(it.client, it.run)
        writer = await child_of(it.client, editor)
        await writer.until_paused()
        await it.run.cancel()
        async with asyncio.timeout(60):
            while not (await writer.state()).is_finished:  # noqa: ASYNC110 - the server moves it
                await asyncio.sleep(0.05)
        found = await whole(it.client, it.run)
        assert [each.audit.run.status for each in found if each.audit is not None] == ["cancelled"] * 3
        left = [child.outcome for each in found if each.audit is not None for child in each.audit.children]
        assert left[0] == "left"


async def test_a_run_below_that_went_on_in_new_executions_is_audited_as_one(assent_environment: Environment) -> None:
    looks = [calls(call("look_up", key=key)) for key in "abc"]
    async with team(assent_environment, *looks, says("Looked."), continue_after=5) as it:
        await it.run.result()
        *_, writer = await whole(it.client, it.run)
        assert writer.audit is not None
        assert len(writer.audit.run.executions) > 1


async def test_agents_asked_side_by_side_are_told_apart(assent_environment: Environment) -> None:
    model = assent_environment.responses
    one, two = (Agent(name=name, model=model(says(f"I am {name}."))) for name in ("one", "two"))
    twice = calls(call("ask_one", input="a"), call("ask_two", input="b"), call("ask_one", input="c"))
    boss = Agent(name="boss", model=model(twice, says("Done.")), tools=[one.as_tool(), two.as_tool()], policy=POLICY)
    async with assent_environment.serve(boss) as client:
        run = await client.start("boss", "Go.")
        await run.result()
        top, *below = await whole(client, run)
        assert top.audit is not None
        told = [
            (run.child.agent, run.result.text)
            for each in top.audit.calls
            for run in each.runs
            if run.child and run.result
        ]
        assert told == [("one", "I am one."), ("two", "I am two."), ("one", "I am one.")]
        inputs = {each.audit.run.input.text for each in below if each.audit is not None}
        assert inputs == {"a", "b", "c"}


async def test_the_bundle_of_a_run_that_asked_an_agent_is_checked_offline(
    assent_environment: Environment, tmp_path: Path
) -> None:
    async with team(assent_environment, says("Nothing to do.")) as it:
        await it.run.result()
        for number, run in enumerate((it.run, await child_of(it.client, it.run))):
            path = tmp_path / f"{number}.zip"
            await export(run.id, run.audit, path)
            found = await asyncio.to_thread(check, path)
            assert found.ok, found.report


@pytest.mark.parametrize("kind", ["START_CHILD_WORKFLOW_EXECUTION_INITIATED", "WORKFLOW_EXECUTION_COMPLETED"])
async def test_a_run_that_was_put_back_is_in_order_with_those_below_it(
    assent_environment: Environment, kind: str
) -> None:
    """To before it asked, so that it asks again; and to after it had its answer."""
    async with team(assent_environment, says("Nothing to do.")) as it:
        await it.run.result()
        before = await child_of(it.client, it.run)
        await reset(it.client, it.run, EventType.Value(f"EVENT_TYPE_{kind}"))
        async with asyncio.timeout(60):
            while not (await it.run.state()).is_finished:  # noqa: ASYNC110 - the worker moves it
                await asyncio.sleep(0.05)
        _, editor, _ = await whole(it.client, it.run)
        assert (editor.run_id == before.id) == (kind == "WORKFLOW_EXECUTION_COMPLETED")


@pytest.mark.parametrize("writes", [says("The writer says swordfish."), fails(400, message="swordfish", times=None)])
async def test_a_tree_of_encrypted_runs_is_audited_and_verified(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch, writes: Step
) -> None:
    monkeypatch.setenv(VARIABLE, encrypting_codec.NAME)
    model, queue = assent_environment.responses, f"encrypted-{uuid.uuid4().hex[:8]}"
    writer = Agent(name="writer", model=model(writes))
    boss = Agent(name="boss", model=model(asks("writer"), says("Done.")), tools=[writer.as_tool()], policy=POLICY)
    async with encrypted(assent_environment, boss, queue) as client:
        run = await client.start("boss", "Go.", requested_by="alice")
        await run.result()
        found = await Keyed(assent_environment, client).assent("audit", run.id, "--tree", "--verify", "--json")
        assert (found.code, found.err) == (0, "")
        above, below = found.json["runs"]
        assert (above["path"], below["path"]) == (["boss"], ["boss", "writer"])
        assert found.out.count("swordfish") >= 2
        assert [each["verdict"] for each in below["verification"]["checks"] if each["name"] == "above"] == ["ok"]


# -- the command ------------------------------------------------------------------------------------------------------


def below(out: str) -> list[str]:
    """The commands that audit the runs below, as they were printed."""
    return [line.split("assent audit ")[1] for line in out.splitlines() if line.startswith("child run ")]


async def test_the_command_audits_the_tree_live_and_from_files(assent_environment: Environment, tmp_path: Path) -> None:
    async with team(assent_environment) as it:
        await drive(it.run, lambda _: Approved("fine"), by="bob")
        editor = await child_of(it.client, it.run)
        writer = await child_of(it.client, editor)
        online, offline = Operator(it.environment, it.client), Offline(it.environment, it.client)
        page = await online.assent("audit", it.run.id, "--tree", "--verify", columns=140)
        assert (page.code, page.err) == (0, "")
        assert below(page.out) == [editor.id, writer.id]
        assert [line.split(None, 1)[1] for line in page.out.splitlines() if line.startswith("path ")] == [
            "boss", "boss > editor", "boss > editor > writer",
        ]  # fmt: skip
        assert page.out.count("every check passed") == 3
        document = (await online.assent("audit", it.run.id, "--tree", "--json")).json
        assert [each["run_id"] for each in document["runs"]] == [it.run.id, editor.id, writer.id]
        assert [each["records"][0]["record"] for each in document["runs"]] == ["run"] * 3
        [line] = list(csv.DictReader(io.StringIO((await online.assent("audit", it.run.id, "--tree", "--csv")).out)))
        assert (line["run_id"], line["agent"], line["tool"]) == (writer.id, "writer", "restart")
        files: list[str] = []
        for each in (writer, it.run, editor):
            files += await Auditor(it.environment, it.client, each, online, offline).shown(tmp_path)
        again = await offline.assent("audit", *files, "--tree", "--json")
        assert (again.code, again.json) == (0, document)
        lacking = await offline.assent("audit", *files[2:], "--tree", "--verify")
        assert lacking.code == 0
        assert f"run '{writer.id}' (boss > editor > writer) is missing" in lacking.err
        assert "MISSING" in lacking.out
        single = await offline.assent("audit", *files, "--verify")
        assert single.code == 3
        assert "is of run" in single.err


async def test_a_tree_in_which_one_history_was_changed_is_not_verified(
    assent_environment: Environment, tmp_path: Path
) -> None:
    async with team(assent_environment, says("Nothing to do.")) as it:
        await it.run.result()
        editor = await child_of(it.client, it.run)
        online, offline = Operator(it.environment, it.client), Offline(it.environment, it.client)
        files: list[str] = []
        for each in (it.run, editor, await child_of(it.client, editor)):
            files += await Auditor(it.environment, it.client, each, online, offline).shown(tmp_path)
        assert (await offline.assent("audit", *files, "--tree", "--verify")).code == 0
        begin_by_another_event(Path(files[3]))
        ran = await offline.assent("audit", *files, "--tree", "--verify", columns=140)
        assert ran.code == 1
        assert "NOT VERIFIED: above" in ran.err
        assert "event 3 of the parent run started it" in ran.out
        assert (await offline.assent("audit", "--file", files[3], "--verify")).code == 0


def begin_by_another_event(file: Path) -> None:
    """Have a history say that another event of the run above began it."""
    history = json.loads(file.read_text())
    history["events"][0]["workflowExecutionStartedEventAttributes"]["parentInitiatedEventId"] = "3"
    file.write_text(json.dumps(history))
