"""The context of a run: tools, gates, groups, policies, notices and people see it, and the model does not."""

from __future__ import annotations

import json
import shlex
from collections.abc import MutableMapping, Sequence
from typing import Any, cast

import pytest
from pydantic import JsonValue

from assent import (
    Agent,
    Condition,
    GateContext,
    MessageError,
    PermissionPolicy,
    Rule,
    RunContext,
    RunFailedError,
    RunHandle,
    ToolContext,
    Webhook,
    approval,
    tool,
)
from assent.client.progress import describe_progress, progress_of
from assent.testing import Conversation, Environment, Reply, call, calls, says
from tests.support.cli_operator import Operator
from tests.support.visibility import soon
from tests.support.webhook_receiver import NAME, SECRET, receiving
from tests.workflows.test_continue_as_new import executions, live, replay
from tests.workflows.test_sub_agents import child_of

CONTEXT: dict[str, JsonValue] = {"tenant": "acme", "ticket": 4711, "note": "\u202e`x` <b>\n### Approve: `pay`"}


def _confirms(arguments: dict[str, Any], context: GateContext) -> bool:
    asks = context.context["tenant"] == "acme" and arguments["amount"] > 1
    # What a function does to the context, it does to a copy of its own.
    cast("MutableMapping[str, JsonValue]", context.context).clear()
    return asks


def _members(name: str, context: GateContext) -> Sequence[str] | None:
    return [f"clerk-{context.context['ticket']}"] if name == "clerks" else None


@approval(approvers=["clerks"])
@tool(requires_confirmation=_confirms)
def pay(context: ToolContext, amount: int) -> str:
    """Pay."""
    return f"paid {amount} for {context.context['ticket']}"


@tool
def wipe() -> str:
    """Wipe."""
    raise NotImplementedError


def _repeats(seen: Conversation) -> Reply:
    return says(json.dumps([*seen.tool_outputs.values()]))


POLICY = PermissionPolicy(
    rules=(Rule(decision="deny", tool="wipe", context={"tenant": Condition(equals="acme")}, reason="not for them"),),
    default="allow",
)


async def waits_as(run: RunHandle, *arguments: int) -> str:
    """The id of the one call that waits, which the group of this context may decide."""
    [waiting] = (await run.until_paused()).active_requirements
    assert waiting.approvers == ["clerk-4711"]
    assert [json.loads(waiting.arguments)["amount"]] == [*arguments]
    return waiting.id


async def test_all_but_the_model_see_the_context_of_a_run(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, SECRET)
    turns = [
        calls(call("wipe"), call("pay", amount=1)),
        calls(call("ask_worker", input="Pay.")),
        calls(call("transfer_to_clerk")),
    ]
    model = assent_environment.responses(calls(call("pay", amount=5)), _repeats)
    worker = Agent(name="worker", model=model, tools=[pay], groups=_members)
    model = assent_environment.responses(says(""), says(""), says(""), calls(call("pay", amount=7)), _repeats)
    clerk = Agent(name="clerk", model=model, tools=[pay], groups=_members)
    boss = Agent(
        name="boss",
        model=assent_environment.responses(*turns),
        tools=[pay, wipe, worker.as_tool()],
        handoffs=[clerk],
        policy=POLICY,
    )
    async with (
        receiving() as receiver,
        assent_environment.serve(
            boss, webhooks=[Webhook(url=receiver.url, secret_env=NAME, context=True)], continue_after=5
        ) as client,
    ):
        operator = Operator(assent_environment, client)
        given = shlex.quote(json.dumps(CONTEXT))
        started = await operator.assent(*shlex.split(f"start boss Go. --requested-by alice --json --context {given}"))
        run = client.get_run(started.json["run_id"])
        child = await child_of(client, run)
        await child.approve(await waits_as(child, 5), by="clerk-4711")
        waiting = await waits_as(run, 7)
        # People see it, and nothing in it passes for Assent's own words.
        assert (await run.state()).context == (await live(client, run)).context == CONTEXT
        shown = await operator.assent("show", run.id, columns=200)
        assert (
            'context    │ {"tenant":"acme", "ticket":4711, "note":"\\u{202e}`x` <b>\\n### Approve: `pay`"}' in shown.out
        )
        # An edit is gated with it too.
        await run.approve(waiting, by="clerk-4711", arguments={"amount": 8})
        refused, paid, asked, _, edited = json.loads((await run.result()).content)
        assert "not for them" in refused
        assert [paid, asked] == ["paid 1 for 4711", json.dumps(["paid 5 for 4711"])]
        assert edited.endswith("paid 8 for 4711")
        # The record has it, with its digest; the rules asked for exactly what ran, in all executions.
        audit = await operator.assent("audit", run.id, "--verify", "--json")
        assert audit.code == 0
        [record] = [each for each in map(json.loads, audit.out.splitlines()) if each.get("record") == "run"]
        assert json.loads(record["context"]["text"]) == CONTEXT
        assert (await child.audit()).run.context == (await run.audit()).run.context
        assert await replay(client, run) > 1
        notices = await receiver.until(6)
        assert {json.dumps(each["data"]["context"]) for each in notices} == {
            json.dumps({"tenant": "acme", "ticket": 4711, "note": "\\u{202e}`x` <b>\n### Approve: `pay`"})
        }
    models = {each.model.id for each in (boss, worker, clerk)}
    told = [each.body for each in assent_environment.models.requests if each.model in models]
    assert len(told) == 7
    assert "acme" not in json.dumps(told)


async def test_a_context_that_is_none_is_refused_at_the_start(assent_environment: Environment) -> None:
    agent = Agent(name="a", model=assent_environment.responses(says("done")), tools=[pay])
    async with assent_environment.serve(agent) as client:
        with pytest.raises(MessageError, match=r"AgentRun: context: it is 16\d+ bytes long; the limit is 16384"):
            await client.start("a", "Go.", context={"a": "x" * 16_384})
        with pytest.raises(MessageError, match="AgentRun: context: "):
            await client.send_message("c", "Go.", by="alice", agent="a", context={"a": float("inf")})
        # Another client may start it so.
        request = {"agent": "a", "input": "Go.", "context": ["acme"]}
        await client.temporal.start_workflow("AgentRun", request, id="foreign-context", task_queue=client.task_queue)
        with pytest.raises(RunFailedError, match="AgentRun: context: Input should be a valid dictionary"):
            await client.get_run("foreign-context").result()


given: list[str] = []


async def _instructions(context: RunContext) -> str:
    given.append(context.run_id)
    if given.count(context.run_id) == 1:
        raise LookupError("no such\ntenant yet")
    after = "" if given.count(context.run_id) < 4 else " Be brief."
    return f"You work for {context.context['tenant']}, asked by {context.requested_by}.{after}"


async def test_instructions_of_a_function_are_recorded_once_and_named_by_each_turn(
    assent_environment: Environment,
) -> None:
    turns = [calls(call("pay", amount=1)) for _ in range(4)]
    model = assent_environment.chat(*turns, lambda seen: says(str(seen.instructions)))
    agent = Agent(name="a", model=model, tools=[pay], groups=_members, instructions=_instructions)
    async with assent_environment.serve(agent, continue_after=20) as client:
        run = await client.start("a", "Go.", requested_by="alice", context=CONTEXT)

        async def fails() -> bool:
            return any("InstructionsFailed" in each for each in describe_progress(await progress_of(run)))

        assert await soon(fails)
        [line] = describe_progress(await progress_of(run))
        assert "the function of the instructions of agent 'a' failed: LookupError: no such\\ntenant yet" in line
        assert (await run.result()).content == "You work for acme, asked by alice. Be brief."
        assert (await run.verify()).ok
        audit = await run.audit()
        first, second = audit.run.instructions
        assert (first.text, second.text) == (
            "You work for acme, asked by alice.",
            "You work for acme, asked by alice. Be brief.",
        )
        assert [each.instructions_sha256 for each in audit.turns] == [first.sha256] * 2 + [second.sha256] * 3
        # The history of each execution has each text once.
        histories = [str(each.events) for each in await executions(client, run)]
        assert 1 < len(histories) < 5
        assert [each.count('text\\":\\"You work') for each in histories] == [1] * len(histories)
        await replay(client, run)
