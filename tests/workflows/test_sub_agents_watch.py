"""The watch of agents that work for agents, on the real server, and what the audit says of a handoff."""

from __future__ import annotations

import asyncio
import json
import uuid

from assent import Agent, Remember
from assent.audit.verifier import Verifier
from assent.client.watch_tree import TreeWatcher
from assent.testing import Approved, Environment, call, calls, drive, says
from tests.support import tools
from tests.support.cli_operator import Operator
from tests.workflows.test_sub_agents_audit import POLICY, team, whole


async def test_what_happens_below_is_told_between_the_beginning_and_the_end_of_that_run(
    assent_environment: Environment,
) -> None:
    async with team(assent_environment) as it:
        told: list[tuple[str, str]] = []

        async def watch() -> None:
            async for path, _, event in TreeWatcher(it.run, it.client.get_run).events():
                if event.kind != "model_text":
                    told.append((path[-1], event.kind))

        watching = asyncio.create_task(watch())
        await drive(it.run, lambda _: Approved("fine"), by="bob")
        async with asyncio.timeout(60):
            await watching
        assert ("writer", "waiting") in told
        for above, agent in (("boss", "editor"), ("editor", "writer")):
            begun, ended = told.index((above, "agent_started")), told.index((above, "agent_finished"))
            own = [place for place, (name, _) in enumerate(told) if name == agent]
            assert begun < own[0] <= own[-1] < ended
            assert (told[own[0]][1], told[own[-1]][1]) == ("started", "completed")
        assert told[-1] == ("boss", "completed")
        again: list[tuple[str, str]] = [
            (path[-1], event.kind) async for path, _, event in TreeWatcher(it.run, it.client.get_run).events()
        ]
        assert [each for each in again if each[0] == "writer"] == [each for each in told if each[0] == "writer"]


async def test_the_command_watches_the_runs_below(assent_environment: Environment) -> None:
    async with team(assent_environment) as it:
        online = Operator(it.environment, it.client)
        watching = await online.start("watch", it.run.id, "--json")
        await drive(it.run, lambda _: Approved("fine"), by="bob")
        async with asyncio.timeout(60):
            out, err = await watching.communicate()
        lines = [json.loads(line) for line in out.decode().splitlines()]
        assert (watching.returncode, err.decode()) == (0, "")
        waiting = [each for each in lines if each["kind"] == "waiting"]
        assert [each["path"] for each in waiting] == [["boss", "editor", "writer"]]
        assert waiting[0]["run_id"] != it.run.id
        begun = [each for each in lines if each["kind"] == "agent_started"]
        assert [each["child"]["agent"] for each in begun] == ["editor", "writer"]
        assert begun[1]["child"]["run_id"] == waiting[0]["run_id"]


async def test_a_run_watches_its_own_events_alone(assent_environment: Environment) -> None:
    async with team(assent_environment, says("Nothing to do.")) as it:
        await it.run.result()
        events = [each async for each in it.run.watch()]
        calls_, answers = (
            [each for each in events if each.kind == f"agent_{what}"] for what in ("started", "finished")
        )
        assert [(each.tool, each.child and each.child.agent) for each in calls_] == [("ask_editor", "editor")]
        assert [(each.tool, each.text) for each in answers] == [("ask_editor", "Edited.")]
        assert "tool_finished" not in {each.kind for each in events}


async def test_a_handoff_is_told_and_recorded(assent_environment: Environment) -> None:
    name = f"host-{uuid.uuid4().hex[:6]}"
    steps = [calls(call("transfer_to_sales")), says("Sold.")]
    sales = Agent(name="sales", model=assent_environment.responses(*steps))
    host = Agent(name=name, model=assent_environment.responses(*steps), handoffs=[sales], policy=POLICY)
    async with assent_environment.serve(host) as client:
        run = await client.start(name, "Sell.", requested_by="alice")
        await run.result()
        told = [each async for each in run.watch() if each.kind == "handed_over"]
        assert [(each.agent, each.text) for each in told] == [
            ("sales", f"{name} handed the conversation over to sales")
        ]
        verifier = Verifier(run.id)
        audit = await run.audit(verifier)
        assert verifier.verification(audit).ok
        assert [(each.from_agent, each.to_agent) for each in audit.handoffs] == [(name, "sales")]
        page = await Operator(assent_environment, client).assent("audit", run.id)
        assert f"from {name} to sales" in page.out


async def test_a_decision_with_which_a_handoff_takes_effect_revokes_no_grant(assent_environment: Environment) -> None:
    """The last answer of the turn in which the conversation is handed over is a person's no."""
    pays = calls(call("pay", to="bob", amount=1))
    steps = [pays, calls(call("transfer_to_sales"), call("restart", service="web")), says("Sold.")]
    sales = Agent(name="sales", model=assent_environment.responses(*steps), tools=tools.ALL)
    host = Agent(name="host", model=assent_environment.responses(*steps), tools=tools.ALL, handoffs=[sales])
    async with assent_environment.serve(host) as client:
        run = await client.start("host", "Sell.", requested_by="alice")
        [paying] = (await run.until_paused()).active_requirements
        await run.approve(paying, by="bob", remember=Remember(uses=5))
        [restarting] = (await run.until_paused()).active_requirements
        await run.reject(restarting, by="bob", reason="not now")
        await run.result()
        kinds = [each.kind async for each in run.watch()]
        assert kinds.index("handed_over") == kinds.index("decided", kinds.index("remembered")) + 1
        assert "revoked" not in kinds
        [found] = await whole(client, run)
        assert found.audit is not None
        [grant] = found.audit.grants
        [handoff] = found.audit.handoffs
        assert (grant.revoked_by, grant.decisions, handoff.grants) == (None, [], [grant.id])
        assert [sent.status for sent in found.audit[1].decisions] == ["rejected"]
        assert [each.event_id for each in handoff.events] == sorted(each.event_id for each in handoff.events)
        assert len(handoff.events) == 2
