"""The client program of the guide "from code", as printed: it ends, and notices a decision that has no effect."""

from __future__ import annotations

import ast
import asyncio
import re
from types import FunctionType
from typing import Any

import pytest

from assent import Agent, DecisionError, approval, tool
from assent.testing import Environment, call, calls, says
from assent.wire.names import TASK_QUEUE
from tests.support.cli_operator import HERE, Operator, deploy


@approval(approvers=["carol"])
@tool(requires_confirmation=True)
def deploy_by_carol(target: str) -> str:
    """Deploy to a target."""
    return f"deployed to {target}"


async def run_sample(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    blocks = re.findall(
        r"^```python\n(.*?)^```", (HERE / "docs/guides/from-code.md").read_text(), re.DOTALL | re.MULTILINE
    )
    [sample] = [block for block in blocks if "AgentClient.connect()" in block]
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    names: dict[str, Any] = {}
    monkeypatch.setenv("TEMPORAL_ADDRESS", environment.server.address)
    async with asyncio.timeout(40):
        await FunctionType(compile(sample, "from-code.md", "exec", flags=flags, dont_inherit=True), names)()
    return names


async def test_the_client_of_the_guide_ends_where_a_second_turn_waits(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [calls(call("deploy", target="web")), calls(call("deploy", target="api")), says("Both are out.")]
    agent = Agent(name="deployer", model=assent_environment.responses(*turns), tools=[deploy])
    async with assent_environment.serve(agent, task_queue=TASK_QUEUE):
        await run_sample(assent_environment, monkeypatch)
    assert "completed Both are out." in capsys.readouterr().out


async def test_the_client_of_the_guide_notices_a_decision_that_has_no_effect(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = assent_environment.responses(calls(call("deploy_by_carol", target="web")), says("Out."))
    async with assent_environment.serve(
        Agent(name="deployer", model=model, tools=[deploy_by_carol]), task_queue=TASK_QUEUE
    ):
        with pytest.raises(DecisionError, match="bob"):
            await run_sample(assent_environment, monkeypatch)


async def test_watch_names_the_calls_of_a_turn_and_why_one_does_not_run(assent_environment: Environment) -> None:
    turn, none = calls(call("deploy", aim="web"), call("no_such_tool"), call("")), calls(call("deploy", target="web"))
    async with assent_environment.serve(
        Agent(name="clumsy", model=assent_environment.responses(turn, none, says("I give up.")), tools=[deploy])
    ) as client:
        run = await client.start("clumsy", "Deploy it.", max_tool_calls=0)
        await run.result()
        watched = await Operator(assent_environment, client).assent("watch", run.id)
        audited = await Operator(assent_environment, client).assent("audit", run.id)
    first, second = [each for each in watched.out.splitlines() if "calls: " in each]
    assert "calls: deploy (Error: " in first
    assert ", no_such_tool (Denied: there is no tool named 'no_such_tool'), (no name) (Denied: " in first
    assert "calls: deploy (Denied: the run may make 0 tool calls, and has made them" in second
    assert "it did not run" not in audited.out
    assert "→ ask: Denied: the run may make 0 tool calls, and has made them" in audited.out
