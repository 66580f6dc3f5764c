"""Abuse cases H: results from outside that are late, early, for another call, of the wrong type, or a failure."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Annotated

import pytest
from pydantic import AfterValidator, BaseModel, JsonValue

from assent import Agent, MessageError, Requirement, RunFailedError, RunHandle, RunState, approval, tool
from assent.client.client import AgentClient
from assent.testing import Conversation, Environment, Reply, call, calls, check_replay, hangs, says
from assent.testing._script import Call
from assent.wire.limits import EVIDENCE_LIMIT
from tests.support import tools


class Parcel(BaseModel):
    """What the warehouse reports."""

    tracking: str
    weight: int


def elsewhere(what: str) -> AssertionError:
    return AssertionError(f"{what} never runs here")


@approval
@tool(external_execution=True)
def parcel(order: str) -> Parcel:
    """Send a parcel."""
    raise elsewhere(order)


@tool(external_execution=True)
def stock(order: str) -> dict[str, int]:
    """Count what is in stock."""
    raise elsewhere(order)


@tool(external_execution=True)
def carriers(order: str) -> list[str]:
    """List the carriers."""
    raise elsewhere(order)


@tool(external_execution=True)
def arrival(order: str) -> date:
    """Say when it arrives."""
    raise elsewhere(order)


def slowly(value: str) -> str:
    time.sleep(1)
    return value


@tool(external_execution=True)
def receipt(order: str) -> Annotated[str, AfterValidator(slowly)]:
    """Get a receipt, which takes a while to check."""
    raise elsewhere(order)


TOOLS: list[Callable[..., object]] = [parcel, stock, carriers, arrival, receipt, tools.ship, tools.pay]


def told(seen: Conversation) -> Reply:
    return says(json.dumps(list(seen.tool_outputs.values())))


@dataclass(frozen=True)
class Outside:
    """A run whose calls wait for the outside."""

    client: AgentClient
    run: RunHandle
    waiting: Sequence[Requirement]

    async def answers(self) -> list[str]:
        """What the model was told of its calls, once the run has ended as live, fold and replay agree."""
        answers: list[str] = json.loads((await self.run.result()).content)
        await self.agrees()
        await check_replay(await self.run.history())
        return answers

    async def agrees(self) -> RunState:
        """The state, which the run itself and the fold of its history tell alike."""
        live = RunState.model_validate(await self.client.temporal.get_workflow_handle(self.run.id).query("state"))
        assert await self.run.state() == live
        return live


@asynccontextmanager
async def outside(running: Environment, *wanted: Call) -> AsyncGenerator[Outside]:
    agent = Agent(name="shop", model=running.responses(calls(*wanted), told), tools=TOOLS)
    async with running.serve(agent) as client:
        run = await client.start("shop", "Go.", requested_by="alice")
        yield Outside(client, run, (await run.until_paused()).active_requirements)


def sent(requirement: Requirement | str, output: JsonValue) -> dict[str, JsonValue]:
    identity = requirement if isinstance(requirement, str) else requirement.short_id
    return {"id": identity, "by": "warehouse", "output": output}


async def test_a_result_for_another_call_is_recorded_and_not_used(assent_environment: Environment) -> None:
    """A result for a call that runs here, or for no call at all, counts for nothing and is kept."""
    async with outside(assent_environment, call("ship", order="17"), call("pay", to="bob", amount=5)) as it:
        ship, pay = it.waiting
        assert (await it.run.submit_result(pay, by="warehouse", output="paid already", check=False)).status == "refused"
        await it.run.send("submit_result", sent("ffffffff", "shipped"))
        await it.run.send("submit_result", sent(pay, "paid already"))
        state = await it.run.until_paused()
        assert [each.status for each in state.ignored_messages] == ["refused", "unknown", "refused"]
        assert {each.id for each in state.active_requirements} == {ship.id, pay.id}
        await it.run.submit_result(ship, by="warehouse", output="shipped")
        await it.run.reject(pay, by="bob", reason="no")
        assert await it.answers() == ["shipped", "Rejected: no"]
        assert tools.ran(it.run.id) == []


async def test_a_result_counts_for_its_own_call_and_not_for_its_twin(assent_environment: Environment) -> None:
    """Of two equal calls each takes its own result; the other's is a second result, and is recorded."""
    async with outside(assent_environment, call("ship", order="17"), call("ship", order="17")) as it:
        first, second = it.waiting
        assert (await it.run.submit_result(second, by="warehouse", output="two")).status == "executed"
        assert (await it.run.submit_result(second, by="warehouse", output="three", check=False)).status in {
            "late",
            "duplicate",
        }
        assert [each.id for each in (await it.agrees()).active_requirements] == [first.id]
        assert (await it.run.submit_result(first, by="warehouse", output="one")).status == "executed"
        assert await it.answers() == ["one", "two"]


async def test_a_second_result_is_recorded_and_not_used(assent_environment: Environment) -> None:
    """The first result handled counts; a second, by signal or update, with the run still on, is recorded."""
    async with outside(assent_environment, call("ship", order="17"), call("ship", order="18")) as it:
        first, second = it.waiting
        for text in ("one", "two"):
            await it.run.send("submit_result", sent(first, text))
            await it.run.until_paused()
        assert (
            await it.run.submit_result(first, by="warehouse", error="lost after all", check=False)
        ).status == "duplicate"
        state = await it.agrees()
        assert [each.status for each in state.ignored_messages] == ["duplicate", "duplicate"]
        assert "two" in state.ignored_messages[0].text
        await it.run.submit_result(second, by="warehouse", output="other")
        assert await it.answers() == ["one", "other"]
        assert (await it.run.submit_result(second, by="warehouse", output="again", check=False)).status == "late"


async def test_a_result_before_its_requirement_is_recorded_and_not_used(assent_environment: Environment) -> None:
    """A result sent while the model still thinks is unknown; the call that comes after it waits."""
    model = assent_environment.responses(hangs(0.5), calls(call("ship", order="17")), told)
    async with assent_environment.serve(Agent(name="shop", model=model, tools=TOOLS)) as client:
        run = await client.start("shop", "Go.")
        await run.send("submit_result", sent("01234567", "too early"))
        state = await run.until_paused()
        [requirement] = state.active_requirements
        assert [each.status for each in state.ignored_messages] == ["unknown"]
        assert (await run.submit_result(requirement, by="warehouse", output="in time")).status == "executed"
        it = Outside(client, run, [requirement])
        assert await it.answers() == ["in time"]


async def test_a_result_after_a_rejection_is_recorded_and_not_used(assent_environment: Environment) -> None:
    """What is rejected stays rejected, whatever comes after; typed results are not even checked."""
    async with outside(assent_environment, call("parcel", order="17"), call("ship", order="18")) as it:
        rejected, other = it.waiting
        await it.run.reject(rejected, by="bob", reason="out of stock")
        late = await it.run.submit_result(rejected, by="warehouse", output={"tracking": "ab", "weight": 1}, check=False)
        assert (late.status, late.detail) == ("late", "already rejected by bob")
        await it.run.send("submit_result", sent(rejected, "shipped"))
        await it.run.submit_result(other, by="warehouse", output="shipped")
        assert await it.answers() == ["Rejected: out of stock", "shipped"]
        state = await it.agrees()
        assert [each.status for each in state.ignored_messages] == ["late", "late"]
        assert (state.requirements[0].status, state.requirements[0].execution) == ("rejected", None)


TYPED: list[tuple[str, list[JsonValue], JsonValue]] = [
    ("parcel", ["sent", {"tracking": "a"}, {"tracking": "a", "weight": "2"}, [], None], {"tracking": "a", "weight": 2}),
    ("stock", ["7", {"screws": "many"}, {"screws": 1.5}, [["screws", 7]], None], {"screws": 7}),
    ("carriers", ["post", {"0": "post"}, [1], ["post", None], None], ["post", "courier"]),
    ("arrival", ["tomorrow", 20260101, "2026-02-30", ["2026-01-01"], None], "2026-01-01"),
]


@pytest.mark.parametrize(("name", "wrong", "right"), TYPED, ids=[each[0] for each in TYPED])
async def test_a_result_of_the_wrong_type_does_not_consume_the_requirement(
    assent_environment: Environment, name: str, wrong: list[JsonValue], right: JsonValue
) -> None:
    """A wrong result is refused with what is wrong, by update and by signal; then the right one counts."""
    async with outside(assent_environment, call(name, order="17")) as it:
        [requirement] = it.waiting
        for output in wrong:
            refused = await it.run.submit_result(requirement, by="warehouse", output=output, check=False)
            assert refused.status == "refused", (output, refused)
            assert refused.detail
            await it.run.send("submit_result", sent(requirement, output))
        state = await it.run.until_paused()
        assert [each.id for each in state.active_requirements] == [requirement.id]
        assert [each.status for each in state.ignored_messages] == ["refused"] * 2 * len(wrong)
        assert (await it.run.submit_result(requirement, by="warehouse", output=right)).status == "executed"
        [answer] = await it.answers()
        assert (answer if isinstance(right, str) else json.loads(answer)) == right


async def test_of_two_results_at_once_for_a_typed_tool_one_counts(assent_environment: Environment) -> None:
    """Two right results that are checked side by side: one counts, the other is recorded."""
    async with outside(assent_environment, call("stock", order="17"), call("ship", order="17")) as it:
        requirement, keeps_the_run_open = it.waiting
        both = await asyncio.gather(
            *(it.run.submit_result(requirement, by=f"w{each}", output={"screws": each}, check=False) for each in (1, 2))
        )
        assert [each.status for each in both].count("executed") == 1
        assert {each.status for each in both} <= {"executed", "duplicate", "late"}
        [attempt] = (await it.agrees()).ignored_messages
        await it.run.submit_result(keeps_the_run_open, by="warehouse", output="shipped")
        answer, _ = await it.answers()
        record, _ = await it.run.audit()
        assert {attempt.by, record.resolved_by} == {"w1", "w2"}
        assert record.resolved_by == f"w{json.loads(answer)['screws']}"


async def test_a_wrong_and_a_right_result_at_once_by_signal(assent_environment: Environment) -> None:
    """The wrong one first, the right one in the same workflow task: the right one counts, the wrong is kept."""
    async with outside(assent_environment, call("stock", order="17")) as it:
        [requirement] = it.waiting
    await it.run.send("submit_result", sent(requirement, "none"))
    await it.run.send("submit_result", sent(requirement, {"screws": 7}))
    agent = Agent(name="shop", model=assent_environment.responses(calls(call("stock", order="17")), told), tools=TOOLS)
    async with assent_environment.serve(agent, task_queue=it.client.task_queue):
        assert [json.loads(answer) for answer in await it.answers()] == [{"screws": 7}]
        state = await it.agrees()
        assert {each.status for each in state.ignored_messages} <= {"refused", "late", "duplicate"}
        assert len(state.ignored_messages) == 1


async def test_what_needs_no_check_overtakes_a_result_that_is_checked(assent_environment: Environment) -> None:
    """The first that passes is the first that counts: an error sent behind a result, with no worker to check."""
    async with outside(assent_environment, call("ship", order="17")) as it:
        [requirement] = it.waiting
    await it.run.send("submit_result", sent(requirement, "shipped"))
    await it.run.send("submit_result", {"id": requirement.short_id, "by": "warehouse", "error": "lost"})
    agent = Agent(name="shop", model=assent_environment.responses(calls(call("ship", order="17")), told), tools=TOOLS)
    async with assent_environment.serve(agent, task_queue=it.client.task_queue):
        assert await it.answers() == ["Error: lost"]
        state = await it.agrees()
        [record] = await it.run.audit()
        assert (record.status, record.execution, record.result) == ("approved", "failed", "lost")
        # The run may have ended before the check was done: the result is in the history, and in no list.
        assert {each.status for each in state.ignored_messages} <= {"late", "duplicate"}


async def test_a_result_that_is_being_checked_when_the_run_is_cancelled_is_recorded(
    assent_environment: Environment,
) -> None:
    """A result and a cancellation in one workflow task: the run is cancelled, and the result does not vanish."""
    async with outside(assent_environment, call("stock", order="17")) as it:
        [requirement] = it.waiting
    await it.run.send("submit_result", sent(requirement, {"screws": 7}))
    await it.run.cancel()
    agent = Agent(name="shop", model=assent_environment.responses(calls(call("stock", order="17")), told), tools=TOOLS)
    async with assent_environment.serve(agent, task_queue=it.client.task_queue):
        with pytest.raises(RunFailedError, match="cancelled"):
            await it.run.result()
        state = await it.agrees()
        assert [each.status for each in state.requirements] == ["cancelled"]
        assert [each.status for each in state.ignored_messages] == ["late"]


async def test_a_result_that_is_being_checked_when_the_run_completes_is_recorded(
    assent_environment: Environment,
) -> None:
    """A rejection overtakes a result that takes long to check, and the run completes: the result is recorded."""
    async with outside(assent_environment, call("receipt", order="17")) as it:
        [requirement] = it.waiting
        await it.run.send("submit_result", sent(requirement, "number 4"))
        assert (await it.run.reject(requirement, by="bob", reason="no")).status == "rejected"
        assert await it.answers() == ["Rejected: no"]
        assert [each.status for each in (await it.agrees()).ignored_messages] == ["late"]


async def test_a_failure_from_outside_reaches_the_model_as_a_failed_tool(assent_environment: Environment) -> None:
    """`error` is told to the model as a tool's failure, typed tool or not, and the record says failed."""
    async with outside(assent_environment, call("parcel", order="17"), call("ship", order="18")) as it:
        typed, plain = it.waiting
        assert (await it.run.submit_result(typed, by="warehouse", error="it burnt")).status == "failed"
        await it.run.send("submit_result", {"id": plain.short_id, "by": "warehouse", "error": "lost\nat sea"})
        assert await it.answers() == ["Error: it burnt", "Error: lost\nat sea"]
        records = await it.run.audit()
        assert [(each.status, each.execution, each.result) for each in records] == [
            ("approved", "failed", "it burnt"),
            ("approved", "failed", "lost\nat sea"),
        ]


async def test_an_output_together_with_an_error_is_refused(assent_environment: Environment) -> None:
    """Nobody can say that it worked and that it failed; the call still waits."""
    async with outside(assent_environment, call("ship", order="17")) as it:
        [requirement] = it.waiting
        await it.run.send("submit_result", {**sent(requirement, "shipped"), "error": "lost"})
        state = await it.run.until_paused()
        assert [(each.status, each.detail) for each in state.ignored_messages] == [
            ("refused", "give an output or an error, not both")
        ]
        await it.run.submit_result(requirement, by="warehouse", error="lost")
        assert await it.answers() == ["Error: lost"]


async def test_evidence_is_kept_with_a_result_and_bounded(assent_environment: Environment) -> None:
    """What comes with a result is kept, with a success and a failure; what is too long consumes nothing."""
    evidence: JsonValue = {"url": "https://tickets.example/17", "photos": [1, 2]}
    async with outside(assent_environment, call("ship", order="17"), call("parcel", order="18")) as it:
        ship, typed = it.waiting
        long = "x" * EVIDENCE_LIMIT
        with pytest.raises(MessageError, match="evidence: it is too long"):
            await it.run.submit_result(ship, by="warehouse", output="shipped", evidence=long)
        await it.run.send("submit_result", {**sent(ship, "shipped"), "evidence": long})
        state = await it.run.until_paused()
        assert [each.status for each in state.ignored_messages] == ["unreadable"]
        assert len(state.ignored_messages[0].text) < 1_000
        await it.run.submit_result(ship, by="warehouse", output="shipped", evidence=evidence)
        await it.run.submit_result(typed, by="warehouse", error="it burnt", evidence="fire report 3")
        assert await it.answers() == ["shipped", "Error: it burnt"]
        state = await it.agrees()
        assert [each.evidence for each in state.requirements] == [evidence, "fire report 3"]
