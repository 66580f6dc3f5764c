"""What was approved is held against what today's tools, groups and policies ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assent import Agent, Remember, Tool, ToolContext, approval, tool
from assent.testing import Environment, call, calls, says
from tests.support import tools


def sign(context: ToolContext, paper: str) -> str:
    """Sign a paper."""
    tools.note(context, f"sign({paper})")
    return f"signed {paper}"


def signing(mark: Callable[[Any], Any]) -> Tool:
    """The tool, with its terms."""
    made: Tool = mark(tool(name="sign")(sign))
    return made


PAPERS = [calls(call("sign", paper=paper)) for paper in "pq"]


@pytest.mark.parametrize(
    ("by", "before", "after"),
    [
        ("eve", approval(), approval(approvers=["ann"])),
        ("alice", approval(self_approval=True), approval()),
        ("eve", approval(approvers=["eve"]), approval(approvers=["finance"])),
        ("eve", approval(), approval(approvals=2)),
    ],
    ids=["approvers", "self-approval", "group", "quorum"],
)
async def test_an_approval_that_would_not_do_today_goes_back_to_a_person(
    assent_environment: Environment, by: str, before: Callable[[Any], Any], after: Callable[[Any], Any]
) -> None:
    model = assent_environment.responses(PAPERS[0], says("done"))
    old = Agent(name="ops", model=model, tools=[signing(before)])
    new = Agent(name="ops", model=model, tools=[signing(after)], groups={"finance": ["ann", "bob"]})
    async with assent_environment.serve(old) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
    async with assent_environment.serve(new, task_queue=client.task_queue):
        assert (await run.approve(first, by=by)).status == "approved"
        state = await run.until_paused()
        assert tools.ran(run.id) == []
        [again] = state.active_requirements
        assert again.follows == first.id
        assert "the tool now needs" in (again.note or "")
        assert [each.execution for each in state.requirements] == ["refused", None]
        for name in ("ann", "bob")[: again.needed]:
            await run.approve(again, by=name)
        await run.result()
        assert tools.ran(run.id) == ["sign(p)"]


async def test_a_group_that_a_function_resolved_is_not_looked_up_again(assent_environment: Environment) -> None:
    asked: list[str] = []

    def groups(name: str) -> list[str]:
        asked.append(name)
        return ["ann"]

    model = assent_environment.responses(PAPERS[0], says("done"))
    agent = Agent(name="ops", model=model, tools=[signing(approval(approvers=["finance"]))], groups=groups)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        assert requirement.approvers == ["ann"]
        await run.approve(requirement, by="ann")
        await run.result()
    assert (asked, tools.ran(run.id)) == (["finance"], ["sign(p)"])


async def test_a_grant_of_somebody_who_may_not_decide_today_lets_nothing_through(
    assent_environment: Environment,
) -> None:
    model = assent_environment.responses(*PAPERS, says("done"))
    old = Agent(name="ops", model=model, tools=[signing(approval())])
    new = Agent(name="ops", model=model, tools=[signing(approval(approvers=["ann"]))])
    async with assent_environment.serve(old) as client:
        run = await client.start("ops", "Go.")
        [first] = (await run.until_paused()).active_requirements
    async with assent_environment.serve(new, task_queue=client.task_queue):
        await run.approve(first, by="eve", remember=Remember(uses=5))
        [again] = (await run.until_paused()).active_requirements
        await run.approve(again, by="ann")
        state = await run.until_paused()
        assert [each.arguments for each in state.active_requirements] == ['{"paper": "q"}']
        assert (state.grants[0].by, state.grants[0].used) == ("eve", 0)
        await run.cancel()


async def test_a_call_whose_gate_failed_is_let_through_by_no_grant(assent_environment: Environment) -> None:
    def gate(arguments: dict[str, Any]) -> bool:
        if arguments["paper"] == "q":
            message = "cannot tell"
            raise ValueError(message)
        return True

    @tool(requires_confirmation=gate)
    def stamp(context: ToolContext, paper: str) -> str:
        """Stamp a paper."""
        tools.note(context, f"stamp({paper})")
        return "stamped"

    steps = [calls(call("stamp", paper=paper)) for paper in "pq"]
    model = assent_environment.responses(*steps, says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[stamp])) as client:
        run = await client.start("ops", "Go.")
        [first] = (await run.until_paused()).active_requirements
        await run.approve(first, by="eve", remember=Remember(uses=5))
        [second] = (await run.until_paused()).active_requirements
        assert second.note == "requires_confirmation raised ValueError: cannot tell"
        assert tools.ran(run.id) == ["stamp(p)"]
        await run.cancel()
