"""Answers that are none, in whole runs: nothing of them runs, and the model is asked again."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from assent import Agent
from assent.testing import Environment, alters, call, calls, says
from tests.support import tools
from tests.support.run_probes import content


def broken_off(body: dict[str, JsonValue]) -> None:
    choices = body["choices"]
    assert isinstance(choices, list)
    assert isinstance(choices[0], dict)
    choices[0]["finish_reason"] = "malformed_function_call"


@pytest.mark.parametrize("times", [1, 2])
async def test_no_call_of_an_answer_that_was_broken_off_runs(assent_environment: Environment, times: int) -> None:
    looks = calls(call("look_up", key="a"))
    model = assent_environment.chat(alters(broken_off, times=times), looks, says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        assert await content(run) == "done"
        assert tools.ran(run.id) == ["look_up(a)"]
    assert len([each for each in assent_environment.models.requests if each.model == model.id]) == times + 2
    assert (await run.verify()).ok
