"""Small slips at the command line: a misspelt variable, an ambiguous verdict."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from assent import Agent, AgentClient
from assent.testing import Environment, says
from tests.support.cli_operator import Operator
from tests.support.memo_only_runs import requirement, rows


@dataclass(frozen=True)
class Misspelling(Operator):
    """An operator whose environment has variables that Assent does not know."""

    def variables(self, columns: int | None) -> dict[str, str]:
        unknown = {"ASSENT_TASKQUEUE": "foo", "ASSENT_SERVICE_PORT": "80"}
        return {**super().variables(columns), **unknown}


async def test_a_misspelt_variable_is_named_in_one_line(assent_environment: Environment) -> None:
    at = Misspelling(assent_environment, AgentClient(assent_environment.server.client))
    ran = await at.assent("pending", "--agent", "none")
    said = "the variable ASSENT_TASKQUEUE is not one of Assent's settings and has no effect"
    assert (ran.code, ran.err) == (0, f"{said}; did you mean ASSENT_TASK_QUEUE?\n")


async def test_a_run_of_an_agent_that_no_worker_serves_is_no_success(assent_environment: Environment) -> None:
    model = assent_environment.responses(says("done"))
    async with assent_environment.serve(Agent(name="deployer", model=model)) as client:
        at = Operator(assent_environment, client)
        ran = await at.assent("start", "deploier", "Deploy it.")
        assert (ran.code, "deploier" in ran.err, "deployer" in ran.err) == (1, True, True)
        assert (await at.assent("start", "deployer", "Deploy it.")).code == 0


async def test_the_inbox_says_what_a_verdict_does_where_it_is_ambiguous(assent_environment: Environment) -> None:
    agent, client = f"unsure-{uuid.uuid4().hex[:6]}", AgentClient(assent_environment.server.client)
    await client.setup()
    waiting = [[requirement("one", kind="outcome")], [requirement("two", kind="budget")]]
    async with rows(client.temporal, agent, waiting):
        ran = await Operator(assent_environment, client).assent("pending", "--agent", agent)
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    for line in (
        "again assent approve RUN ID --by YOUR_NAME # of kind outcome: run it again",
        "give up assent reject RUN ID --by YOUR_NAME --reason WHY # of kind outcome: give up; the outcome is unknown",
        "extend assent approve RUN ID --by YOUR_NAME # of kind budget: add the original amount and continue",
        "end assent reject RUN ID --by YOUR_NAME --reason WHY # of kind budget: use no more: the run ends",
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith("approve ")]
