"""What operators do to the activity of a gated tool with the `temporal` command: complete, fail, pause, reset."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from assent.testing import Environment, call, calls
from tests.support import tools
from tests.support.visibility import soon
from tests.workflows.test_operator_run_commands import case, lost, told


async def test_an_activity_failed_by_hand_is_a_lost_call_and_a_person_is_asked(
    assent_environment: Environment,
) -> None:
    async with case(assent_environment, calls(call("crawl")), told) as it:
        [asked] = await lost(it)
        assert (asked.kind, asked.follows) == ("outcome", it.waiting[0].id)
        assert "by hand" in (asked.note or "")
        assert (await it.run.submit_result(asked, by="bob", output="arrived after all")).status == "executed"
        assert json.loads((await it.run.result()).content) == ["arrived after all"]
        await it.agrees()
        await it.ran("crawls")


@pytest.mark.parametrize(
    ("result", "said", "execution"),
    [
        ('{"output": "arrived"}', "arrived", "executed"),
        ('{"error": "fell"}', "Error: fell", "failed"),
        ('"arrived"', "Error: an operator set its result", "failed"),
        ('{"output": "arrived", "error": "fell"}', "Error: an operator set its result", "failed"),
    ],
)
async def test_an_activity_completed_by_hand_is_what_the_hand_says(
    assent_environment: Environment, result: str, said: str, execution: str
) -> None:
    async with case(assent_environment, calls(call("crawl")), told) as it:
        await it.run.approve(it.waiting[0], by="bob")
        await it.ran("crawls")
        await it.activity("complete", "1.0", "--result", result)
        [answer] = json.loads((await it.run.result()).content)
        assert answer.startswith(said)
        state = await it.agrees()
        assert [(each.status, each.execution) for each in state.requirements] == [("approved", execution)]
        await it.ran("crawls")


@pytest.mark.parametrize("verbs", [("reset",), ("pause", "unpause"), ("pause", "reset")], ids=" ".join)
async def test_an_approved_call_started_again_by_hand_runs_at_most_once(
    assent_environment: Environment, verbs: Sequence[str]
) -> None:
    async with case(assent_environment, calls(call("crawl")), told) as it:
        await it.run.approve(it.waiting[0], by="bob")
        await it.ran("crawls")
        await it.activity(verbs[0], "1.0")
        # Its attempts have ended, so that there is nothing to start again: a person is asked what came of the first.
        state = await soon(it.run.state, lambda state: any(each.needs_outcome for each in state.requirements))
        for verb in verbs[1:]:
            with pytest.raises(AssertionError, match="Can't find pending activity"):
                await it.activity(verb, "1.0")
        assert state.active_requirements[0].follows == it.waiting[0].id
        assert tools.ran(it.run.id) == ["crawls"]
        await it.workflow("terminate")


async def test_an_approved_call_with_more_attempts_by_hand_runs_at_most_once(assent_environment: Environment) -> None:
    async with case(assent_environment, calls(call("crawl")), told) as it:
        await it.run.approve(it.waiting[0], by="bob")
        await it.ran("crawls")
        await it.activity("update-options", "1.0", "--retry-maximum-attempts", "5")
        await it.activity("fail", "1.0", "--reason", "by hand")
        await asyncio.sleep(2)
        assert tools.ran(it.run.id) == ["crawls"]
        await it.workflow("terminate")
