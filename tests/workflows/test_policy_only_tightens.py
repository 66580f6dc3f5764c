"""Abuse cases E: a policy only ever tightens, and what was remembered ends."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from pydantic import JsonValue
from temporalio.api.sdk.v1 import WorkflowMetadata

from assent import (
    Agent,
    Condition,
    MessageError,
    PermissionPolicy,
    Remember,
    Rule,
    RunHandle,
    ToolContext,
    approval,
    tool,
)
from assent.client.client import AgentClient
from assent.testing import Conversation, Environment, Rejected, Reply, Step, call, calls, drive, hangs, says
from tests.support import tools
from tests.workflows.test_first_decision_counts import same_everywhere

LOOK = call("look_up", key="k")
PAY = call("pay", to="a", amount=1)
DENY_PAY = PermissionPolicy.of(deny=["pay"], allow=["*"])
ALLOW = PermissionPolicy.of(allow=["*"])


def told(seen: Conversation) -> Reply:
    return says(json.dumps(list(seen.tool_outputs.values())))


async def answers(run: RunHandle) -> list[str]:
    """What the model was told of each call of a run that has ended."""
    found: list[str] = json.loads((await run.result()).content)
    return found


async def test_an_unknown_tool_is_denied(assent_environment: Environment) -> None:
    """An unknown tool is denied, whatever the policy."""
    for policy in (None, ALLOW, PermissionPolicy.of(ask=["*"]), PermissionPolicy(default="allow")):
        model = assent_environment.responses(calls(call("no_such_tool", key="k")), told)
        agent = Agent(name="ops", model=model, tools=tools.ALL, policy=policy)
        async with assent_environment.serve(agent) as client:
            run = await client.start("ops", "Go.")
            assert await answers(run) == ["Denied: there is no tool named 'no_such_tool'"]
            assert not await run.approvals()


def _raises(arguments: dict[str, Any]) -> bool:
    message = f"the \u202eledger is down for {arguments['key']}"
    raise ConnectionError(message)


@tool(requires_confirmation=_raises)
def gated_by_a_function(context: ToolContext, key: str) -> str:
    """Be gated by a function that raises."""
    tools.note(context, f"gated_by_a_function({key})")
    return key


def _nonsense(arguments: dict[str, Any]) -> bool:
    return cast("bool", arguments["key"])


@tool(requires_confirmation=_nonsense)
def gated_by_nonsense(context: ToolContext, key: str) -> str:
    """Be gated by a function that answers no boolean."""
    tools.note(context, f"gated_by_nonsense({key})")
    return key


async def test_a_gate_function_or_rule_that_raises_means_ask(assent_environment: Environment) -> None:
    """A gate function or rule that raises means ask, with its error shown."""
    made = [call("gated_by_a_function", key="k"), call("gated_by_nonsense", key="k"), LOOK]
    rule = Rule(decision="allow", tool="look_up", arguments={"key": Condition(above=3)})
    policy = PermissionPolicy(rules=(rule,), default="allow")
    model = assent_environment.responses(calls(*made), told)
    given: list[Callable[..., object]] = [*tools.ALL, gated_by_a_function, gated_by_nonsense]
    async with assent_environment.serve(Agent(name="ops", model=model, tools=given, policy=policy)) as client:
        run = await client.start("ops", "Go.")
        first, second, third = (await run.until_paused()).active_requirements
        assert first.note == "requires_confirmation raised ConnectionError: the \\u{202e}ledger is down for k"
        assert second.note == "requires_confirmation answered 'k', which is no boolean"
        assert "rule 1 of the policy cannot be evaluated: argument 'key'" in (third.note or "")
        handle = client.temporal.get_workflow_handle(run.id)
        metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        for shown in ("ledger is down for k", "no boolean", "cannot be evaluated: argument 'key'"):
            assert shown in metadata.current_details
        assert tools.ran(run.id) == []
        await drive(run, lambda _: Rejected("no"))
        assert tools.ran(run.id) == []


async def test_a_policy_without_an_opinion_falls_to_its_default(assent_environment: Environment) -> None:
    """A policy whose rules have no opinion falls to its `default`, which is `ask` unless set."""
    elsewhere = (Rule(decision="allow", tool="other_*"),)
    for policy, waits, ran in (
        (PermissionPolicy(), ["look_up"], []),
        (PermissionPolicy(rules=elsewhere), ["look_up"], []),
        (PermissionPolicy(rules=elsewhere, default="allow"), [], ["look_up(k)"]),
        (PermissionPolicy(rules=elsewhere, default="deny"), [], []),
    ):
        assert await waiting_for(assent_environment, policy, LOOK) == (waits, ran)


async def waiting_for(running: Environment, policy: PermissionPolicy | None, *made: Any) -> tuple[list[str], list[str]]:
    """Which tools wait under an agent's *policy*, and what ran."""
    agent = Agent(name="ops", model=running.responses(calls(*made), told), tools=tools.ALL, policy=policy)
    async with running.serve(agent) as client:
        run = await client.start("ops", "Go.")
        waits = [each.tool for each in (await run.until_paused()).active_requirements]
        await drive(run, lambda _: Rejected("no"))
        return waits, tools.ran(run.id)


async def test_without_a_policy_the_flags_of_the_tools_decide(assent_environment: Environment) -> None:
    """With no policy at all, the tool's own flags decide; and no policy loosens those."""
    assert await waiting_for(assent_environment, None, LOOK, PAY) == (["pay"], ["look_up(k)"])
    assert await waiting_for(assent_environment, ALLOW, LOOK, PAY) == (["pay"], ["look_up(k)"])


CAME = {"value": "ran", "Rejected:": "asked", "Denied:": "denied"}


async def under(running: Environment, own: PermissionPolicy | None, asked: PermissionPolicy, raw: object) -> str:
    """What becomes of the calls `look_up` and `pay` in a run whose request brings a policy; as JSON, if *raw*."""
    model = running.responses(calls(LOOK, PAY), told)
    async with running.serve(Agent(name="ops", model=model, tools=tools.ALL, policy=own)) as client:
        body = {"agent": "ops", "input": "Go.", "policy": asked.model_dump(mode="json")}
        run = await (started(client, body) if raw else client.start("ops", "Go.", policy=asked))
        await drive(run, lambda _: Rejected("no"))
        return ", ".join(CAME[each.split()[0]] for each in await answers(run))


async def started(client: AgentClient, body: object) -> RunHandle:
    """A run that a foreign client starts, with whatever JSON it likes."""
    handle = await client.temporal.start_workflow(
        "AgentRun", body, id=f"foreign-{uuid.uuid4().hex}", task_queue=client.task_queue
    )
    return client.get_run(handle.id)


@pytest.mark.parametrize("raw", [False, True], ids=["client", "raw JSON"])
async def test_the_policy_of_a_run_can_tighten_and_never_loosen(assent_environment: Environment, raw: object) -> None:
    """The run's input can tighten the policy, never loosen it."""
    strict = PermissionPolicy.of(deny=["pay"], ask=["look_up"])
    for own, asked, came in (
        (None, ALLOW, "ran, asked"),
        (ALLOW, PermissionPolicy.of(ask=["look_up"], allow=["*"]), "asked, asked"),
        (ALLOW, strict, "asked, denied"),
        (strict, ALLOW, "asked, denied"),
        (strict, PermissionPolicy(default="allow"), "asked, denied"),
        (PermissionPolicy(default="deny"), ALLOW, "denied, denied"),
    ):
        assert await under(assent_environment, own, asked, raw) == came


async def test_the_limits_of_a_run_can_tighten_and_never_loosen(assent_environment: Environment) -> None:
    """The run's input can tighten the limits on turns and tool calls, never loosen them."""
    model = assent_environment.responses(*[calls(LOOK)] * 6, told)
    agent = Agent(name="ops", model=model, tools=tools.ALL, max_turns=4, max_tool_calls=3)
    async with assent_environment.serve(agent) as client:
        for turns, many, ran in ((None, None, 3), (99, 99, 3), (2, None, 2), (None, 1, 1), (99, 0, 0)):
            run = await client.start("ops", "Go.", max_turns=turns, max_tool_calls=many)
            state = await run.until_paused()
            assert state.error == f"MaxTurnsExceeded: the run used all of its {min(turns or 4, 4)} turns"
            assert len(tools.ran(run.id)) == ran
        run = await started(client, {"agent": "ops", "input": "Go.", "max_turns": 1000, "max_tool_calls": 1000})
        assert "all of its 4 turns" in str((await run.until_paused()).error)
        assert len(tools.ran(run.id)) == 3


MALFORMED: list[tuple[str, JsonValue]] = [
    ("policy", "deny everything"),
    ("policy", ["deny"]),
    ("policy", {"rules": [{"decision": "dney", "tool": "look_up"}]}),
    ("policy", {"rules": [{"decision": "deny", "tools": "look_up"}]}),
    ("policy", {"rules": "deny *"}),
    ("policy", {"default": "never"}),
    ("policy", {"defualt": "deny"}),
    ("policy", {"rules": [{"decision": "deny", "arguments": {"key": {}}}]}),
    ("max_turns", 0),
    ("max_tool_calls", -1),
]


async def test_a_malformed_policy_of_a_run_fails_its_start_with_one_line(assent_environment: Environment) -> None:
    """A policy that cannot be read is not taken for none: the start fails with one line."""
    model = assent_environment.responses(calls(LOOK), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        for field, value in MALFORMED:
            run = await started(client, {"agent": "ops", "input": "Go.", field: value})
            state = await run.until_paused()
            assert (state.status, state.turns) == ("failed", 0)
            assert (state.error or "").startswith(f"InvalidRunRequest: AgentRun: {field}")
            assert "\n" not in (state.error or "")
            assert tools.ran(run.id) == []
        with pytest.raises(MessageError, match="max_turns"):
            await client.start("ops", "Go.", max_turns=0)


@pytest.mark.parametrize("today", [ALLOW, DENY_PAY], ids=["looser", "stricter"])
async def test_a_policy_change_does_not_touch_a_waiting_requirement_and_a_denial_refuses_it(
    assent_environment: Environment, today: PermissionPolicy
) -> None:
    """A policy change does not touch what waits, and the activity refuses if the current policy is stricter."""
    model = assent_environment.responses(calls(PAY), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        before = await run.until_paused()
    now = Agent(name="ops", model=model, tools=tools.ALL, policy=today)
    async with assent_environment.serve(now, task_queue=client.task_queue):
        assert await same_everywhere(client, run) == before
        assert (await run.approve(before.requirements[0], by="bob")).status == "approved"
        denied = today is DENY_PAY
        why = "Not run: the policy does not permit the tool 'pay'"
        assert await answers(run) == ([why] if denied else ["paid 1 to a"])
        assert tools.ran(run.id) == ([] if denied else ["pay(a, 1)"])
        [record] = await run.audit()
        assert (record.status, record.execution) == ("approved", "refused" if denied else "executed")


@tool(task_queue="served-later")
def remote(context: ToolContext, key: str) -> str:
    """Run where no worker is yet."""
    tools.note(context, f"remote({key})")
    return key


async def test_a_call_that_needs_an_approval_today_goes_to_a_person_and_runs_once(
    assent_environment: Environment,
) -> None:
    """The activity refuses if the current policy is stricter: the call goes to a person, then it runs once."""
    model = assent_environment.responses(calls(call("remote", key="k")), told)
    today = PermissionPolicy.of(ask=["remote"])
    async with (
        assent_environment.serve(Agent(name="ops", model=model, tools=[remote])) as client,
        assent_environment.serve(
            Agent(name="ops", model=model, tools=[remote], policy=today), task_queue="served-later"
        ),
    ):
        run = await client.start("ops", "Go.", requested_by="alice")
        [opened] = (await run.until_paused()).active_requirements
        assert (opened.policy_version, opened.status, tools.ran(run.id)) == (today.version, "pending", [])
        assert "the tool now needs an approval" in (opened.note or "")
        assert (await run.approve(opened, by="alice", check=False)).status == "refused"
        assert (await run.approve(opened, by="bob")).status == "approved"
        assert await answers(run) == ["k"]
        assert tools.ran(run.id) == ["remote(k)"]
        await same_everywhere(client, run)


def _sign(context: ToolContext, paper: str) -> str:
    """Sign a paper."""
    tools.note(context, f"sign({paper})")
    return f"signed {paper}"


SIGN = call("sign", paper="p")
ONE = approval(tool(name="sign")(_sign))
TWO = approval(approvals=2)(tool(name="sign")(_sign))


async def test_a_stricter_quorum_today_sends_the_call_back_to_people(assent_environment: Environment) -> None:
    """A call approved under less than today's terms waits again, under a requirement that follows the first."""
    model = assent_environment.responses(calls(SIGN), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[ONE])) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[TWO]), task_queue=client.task_queue):
        assert (await run.approve(first, by="bob")).status == "approved"
        state = await run.until_paused()
        [second] = state.active_requirements
        assert (second.follows, second.needed, second.arguments) == (first.id, 2, first.arguments)
        assert (state.requirements[0].status, state.requirements[0].execution) == ("approved", "refused")
        assert (await run.approve(first, by="carol", check=False)).status == "duplicate"
        assert (await run.approve(second, by="bob")).status == "recorded"
        assert tools.ran(run.id) == []
        assert (await run.approve(second, by="carol")).status == "approved"
        assert await answers(run) == ["signed p"]
        assert tools.ran(run.id) == ["sign(p)"]
        await same_everywhere(client, run)


@tool(read_only=True)
def harmless(context: ToolContext) -> str:
    """Say of itself that it changes nothing, as a remote server's `readOnlyHint` does."""
    tools.note(context, "harmless")
    return "ok"


async def test_a_tool_that_calls_itself_safe_is_still_gated(assent_environment: Environment) -> None:
    """A tool that calls itself safe is still gated; only a rule on effects lets it through."""
    trusting = PermissionPolicy(rules=(Rule(decision="allow", effect="read_only"),))
    for policy, ran in ((PermissionPolicy(), []), (trusting, ["harmless"]), (PermissionPolicy(default="deny"), [])):
        model = assent_environment.responses(calls(call("harmless"), LOOK), told)
        agent = Agent(name="ops", model=model, tools=[harmless, tools.look_up], policy=policy)
        async with assent_environment.serve(agent) as client:
            run = await client.start("ops", "Go.")
            await drive(run, lambda _: Rejected("no"))
            assert tools.ran(run.id) == ran


def granting(running: Environment, *turns: Step) -> Agent:
    return Agent(name="ops", model=running.responses(*turns, told), tools=tools.ALL)


def to(whom: str, amount: int) -> Any:
    return call("pay", to=whom, amount=amount)


async def test_a_grant_ends_by_count_and_covers_only_its_conditions(assent_environment: Environment) -> None:
    """A remembered grant ends by count; it covers only what it says, nothing that waits, and each use cites it."""
    turns = [calls(to("a", 1), to("a", 2)), calls(to("a", 3), to("b", 4)), calls(to("a", 5)), calls(to("a", 6))]
    async with assent_environment.serve(granting(assent_environment, *turns)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        first, twin = (await run.until_paused()).active_requirements
        remember = Remember(uses=2, arguments={"to": Condition(equals="a")})
        assert (await run.approve(first, by="bob", remember=remember)).status == "approved"
        state = await run.until_paused()
        assert [each.id for each in state.active_requirements] == [twin.id]
        assert (await run.approve(twin, by="bob")).status == "approved"
        state = await run.until_paused()
        [grant], [other] = state.grants, state.active_requirements
        assert (other.tool_args["to"], grant.used, grant.by) == ("b", 1, "bob")
        used = next(each for each in state.requirements if each.tool_args["amount"] == 3)
        assert (used.grant, used.status, used.resolved_by, used.votes[0].channel) == (
            grant.id,
            "approved",
            "bob",
            "grant",
        )
        await run.reject(other, by="bob", reason="not to b")
        state = await run.until_paused()
        [last] = state.active_requirements
        assert (last.tool_args["amount"], last.grant, state.grants[0].used) == (6, None, 2)
        assert [each.grant for each in await run.audit()] == [None, None, grant.id, None, grant.id, None]
        await drive(run, lambda _: Rejected("enough"), by="bob")
        assert tools.ran(run.id) == ["pay(a, 1)", "pay(a, 2)", "pay(a, 3)", "pay(a, 5)"]
        await same_everywhere(client, run)


async def test_a_grant_ends_by_time(assent_environment: Environment) -> None:
    """A remembered grant ends by time."""
    turns: list[Step] = [calls(to("a", 1)), calls(to("a", 2)), hangs(2.2), calls(to("a", 3))]
    async with assent_environment.serve(granting(assent_environment, *turns)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        await run.approve(first, by="bob", remember=Remember(expires_after=timedelta(seconds=2)))
        [last] = (await run.until_paused()).active_requirements
        assert last.tool_args["amount"] == 3
        assert tools.ran(run.id) == ["pay(a, 1)", "pay(a, 2)"]
        await same_everywhere(client, run)
        await drive(run, lambda _: Rejected("enough"), by="bob")


@pytest.mark.parametrize("how", ["a signal", "an update", "another policy", "nothing"])
async def test_a_grant_ends_by_revocation_and_with_the_policy_and_its_run(
    assent_environment: Environment, how: str
) -> None:
    """A remembered grant ends by revocation and with a changed policy, and does not outlive its run."""
    turns = [calls(PAY), calls(PAY, call("restart", service="s")), calls(PAY)]
    agent = granting(assent_environment, *turns)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        await run.approve(first, by="bob", remember=Remember(uses=9, expires_after=timedelta(seconds=3_600)))
        state = await run.until_paused()
        [hold], [grant] = state.active_requirements, state.grants
        assert tools.ran(run.id) == ["pay(a, 1)"] * 2
        if how == "a signal":
            await run.send("revoke", {"id": grant.short_id, "by": "carol"})
            await run.until_paused()
        if how == "an update":
            assert (await run.revoke(grant, by="carol", reason="enough")).status == "recorded"
            assert (await run.revoke(grant, by="dave", check=False)).status == "duplicate"
    policy = PermissionPolicy(default="allow") if how == "another policy" else None
    async with assent_environment.serve(dataclasses.replace(agent, policy=policy), task_queue=client.task_queue):
        assert (await run.approve(hold, by="bob")).status == "approved"
        state = await run.until_paused()
        assert (state.grants[0].revoked_by == "carol") == (how in {"a signal", "an update"})
        assert tools.ran(run.id).count("pay(a, 1)") == (3 if how == "nothing" else 2)
        assert [each.tool for each in state.active_requirements] == ([] if how == "nothing" else ["pay"])
        await same_everywhere(client, run)
        another = await client.start("ops", "Go.", requested_by="alice")
        state = await another.until_paused()
        assert ([each.tool for each in state.active_requirements], state.grants) == (["pay"], [])
        for each in (run, another):
            await drive(each, lambda _: Rejected("enough"), by="bob")
