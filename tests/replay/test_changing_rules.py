"""How a rule is changed (docs/why/changing-rules.md), shown by a rule that a version 2 of them would add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from temporalio.workflow import NondeterminismError

from assent import Agent, RunFailedError, RunHandle
from assent.core import state_machine, turns
from assent.core.events import Event, Failure
from assent.core.run_state import Run, Step
from assent.history.fold import fold
from assent.testing import Environment, call, calls, check_replay, says
from tests.support import tools

QUEUE: Final = "changing-rules"


def offer_version_2(patch: pytest.MonkeyPatch, applies: Callable[[Run], bool]) -> None:
    """Let workers begin runs of version 2, by whose rules a rejected call ends its run, if the rule *applies* to it."""
    by_version_1 = state_machine.__dict__["_dispatch"]

    def by_version_2(run: Run, event: Event) -> Step:
        step: Step = by_version_1(run, event)
        if not applies(run) or not any(each.status == "rejected" for each in step.run.requirements):
            return step
        return turns.fail(step.run, Failure("Rejected", "a call was rejected"), event.at)

    patch.setattr(state_machine, "_dispatch", by_version_2)
    patch.setattr("assent.activities.call_model.RULES_VERSION", 2)


async def rejected(run: RunHandle) -> None:
    """Reject the call that the run waits with, and wait until the run has ended."""
    [asked] = (await run.until_paused()).active_requirements
    await run.send("reject", {"id": asked.id, "by": "bob", "reason": "no"})
    assert (await run.until_paused()).is_finished


async def test_a_run_keeps_the_rules_that_it_began_with(assent_environment: Environment) -> None:
    steps = [calls(call("pay", to="bob", amount=5)), says("done")]
    agent = Agent(name="teller", model=assent_environment.responses(*steps), tools=tools.ALL)
    async with assent_environment.serve(agent, task_queue=QUEUE) as client:
        before = await client.start("teller", "Pay.", requested_by="alice")
        await before.until_paused()
    with pytest.MonkeyPatch.context() as patch:
        offer_version_2(patch, applies=lambda run: run.rules_version >= 2)
        async with assent_environment.serve(agent, task_queue=QUEUE) as client:
            after = await client.start("teller", "Pay.", requested_by="alice")
            await rejected(before)
            await rejected(after)
            assert (await before.result()).content == "done"
            with pytest.raises(RunFailedError, match="a call was rejected"):
                await after.result()
            histories = [await each.history() for each in (before, after)]
        assert [fold(each.events).rules_version for each in histories] == [1, 2]
        assert [fold(each.events).status for each in histories] == ["completed", "failed"]
        for each in histories:
            await check_replay(each)
    with pytest.MonkeyPatch.context() as patch:
        offer_version_2(patch, applies=lambda _: True)
        with pytest.raises(NondeterminismError):
            await check_replay(histories[0])
