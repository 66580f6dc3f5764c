"""What users write for gates, groups and types may be slow, hang or raise anything: asked for, and paid for once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Annotated, NoReturn, cast

import pytest
from pydantic import AfterValidator, BaseModel, field_validator

import assent.activities.activities
import assent.activities.user_code
import assent.workflows.activity_options
from assent import Agent, Budget, Requirement, RunFailedError, approval, tool
from assent.testing import Approved, Environment, call, calls, drive, says

PAYING = calls(call("pay", to="bob", amount=1))


def asked(environment: Environment, agent: Agent) -> int:
    """How often the model of *agent* was asked."""
    return sum(each.model == agent.model.id for each in environment.models.requests)


def pay_with(confirmation: Callable[..., object], name: str = "pay") -> Callable[..., str]:
    @tool(name=name, requires_confirmation=cast("Callable[..., bool]", confirmation))
    def pay(to: str, amount: int) -> str:
        """Pay somebody."""
        return f"paid {amount} to {to}"

    return pay


@approval(approvers=["finance"])
@tool(requires_confirmation=True, name="pay")
def pay_by_finance(to: str, amount: int) -> str:
    """Pay somebody."""
    return f"paid {amount} to {to}"


def after(seconds: float) -> Callable[[dict[str, object]], bool]:
    def confirms(arguments: dict[str, object]) -> bool:
        time.sleep(seconds)
        return True

    return confirms


def members(seconds: float) -> Callable[[str], list[str] | None]:
    def groups(name: str) -> list[str] | None:
        time.sleep(seconds)
        return ["ann"] if name == "finance" else None

    return groups


def _wait(over: threading.Event, _arguments: dict[str, object]) -> bool:
    return over.wait(60)


@contextmanager
def hanging() -> Generator[Callable[..., bool]]:
    """A gate that answers when the block ends."""
    over = threading.Event()
    try:
        yield partial(_wait, over)
    finally:
        over.set()


def slow_agent(environment: Environment, what: str, seconds: float) -> Agent:
    """An agent whose gate, group or budget's group takes *seconds*."""
    model = environment.responses(PAYING, says("done"))
    match what:
        case "gate":
            return Agent(name="ops", model=model, tools=[pay_with(after(seconds))])
        case "group":
            return Agent(name="ops", model=model, tools=[pay_by_finance], groups=members(seconds))
        case _:
            budget = Budget(max_model_calls=9, approvers=("finance",))
            tools = [pay_with(after(0))]
            return Agent(name="ops", model=model, tools=tools, groups=members(seconds), budget=budget)


async def first(environment: Environment, agent: Agent) -> Requirement:
    """What a run of *agent* asks for first; it is approved then, and the run ends."""
    async with environment.serve(agent) as client:
        run = await client.start(agent.name, "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        assert asked(environment, agent) == 1
        if requirement.approvers != []:
            await drive(run, lambda _: Approved(), by="ann")
    return requirement


@pytest.mark.parametrize("what", ["gate", "group", "budget"])
async def test_what_is_slower_than_the_heartbeat_timeout_is_waited_for(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(assent.workflows.activity_options, "HEARTBEAT", timedelta(seconds=1))
    requirement = await first(assent_environment, slow_agent(assent_environment, what, 3.5))
    assert requirement.note is None


@pytest.mark.parametrize(
    ("what", "note"),
    [
        ("gate", "requires_confirmation raised TooSlowError: it took longer than 0.5 s"),
        ("group", "the group 'finance' cannot be looked up: TooSlowError: it took longer than 0.5 s"),
        ("budget", None),
    ],
)
async def test_what_is_too_slow_means_ask(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch, what: str, note: str | None
) -> None:
    monkeypatch.setattr(assent.activities.user_code, "LIMIT", 0.5)
    requirement = await first(assent_environment, slow_agent(assent_environment, what, 2))
    assert note is None or note in (requirement.note or "")


async def test_the_gates_of_one_turn_have_a_limit_together(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assent.activities.user_code, "TURN_LIMIT", 2.0)
    model = assent_environment.responses(calls(*(call("pay", to="bob", amount=n) for n in range(20))), says("done"))
    agent = Agent(name="ops", model=model, tools=[pay_with(after(0.5))])
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        notes = [each.note for each in (await run.until_paused()).active_requirements]
        assert len(notes) == 20
        assert notes[0] is None
        assert "the turn's time for gates is over" in (notes[-1] or "")
        assert asked(assent_environment, agent) == 1
        await run.cancel()


async def test_gates_have_as_many_threads_as_a_worker_has_activities_and_are_worked_out_side_by_side(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert assent.activities.user_code.THREADS == 100, "as many as activities run at once in a worker of the SDK"
    monkeypatch.setattr(assent.activities.user_code, "THREADS", 20)
    monkeypatch.setattr(assent.activities.user_code, "LIMIT", 90.0)
    meeting = threading.Barrier(20)

    def confirms(arguments: dict[str, object]) -> bool:
        meeting.wait(80)  # until all are here
        return True

    agent = Agent(name="ops", model=assent_environment.responses(PAYING, says("done")), tools=[pay_with(confirms)])
    async with assent_environment.serve(agent) as client:
        runs = await asyncio.gather(*(client.start("ops", f"Go {number}.") for number in range(20)))
        states = await asyncio.gather(*(run.until_paused() for run in runs))
        assert [state.active_requirements[0].note for state in states] == [None] * 20
        assert asked(assent_environment, agent) == 20
        await asyncio.gather(*(run.cancel() for run in runs))


async def test_gates_that_hang_take_no_thread_from_tools_and_checks(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assent.activities.user_code, "LIMIT", 0.5)
    monkeypatch.setattr(assent.activities.activities, "THREADS", 4)
    model = assent_environment.responses(calls(call("pay", to="bob", amount=1)), says("done"))
    with hanging() as gate:
        agent = Agent(name="ops", model=model, tools=[pay_with(gate)])
        async with assent_environment.serve(agent) as client:
            runs = await asyncio.gather(*(client.start("ops", f"Go {number}.") for number in range(6)))
            states = await asyncio.gather(*(run.until_paused() for run in runs))
            assert asked(assent_environment, agent) == 6
            # An edit asks the gate again.
            [requirement] = states[0].active_requirements
            edited = await runs[0].approve(requirement, by="ann", arguments={"to": "bob", "amount": 2}, check=False)
            assert edited.status not in {"refused", "unknown"}, edited
            await drive(runs[0], lambda _: Approved(), by="ann")
            await asyncio.gather(*(run.cancel() for run in runs[1:]))


class Unprintable:
    def __repr__(self) -> str:
        """Fail."""
        raise ValueError


def _unprintable(arguments: dict[str, object]) -> Unprintable:
    return Unprintable()


def _raises(error: BaseException) -> Callable[..., bool]:
    def confirms(arguments: dict[str, object]) -> NoReturn:
        raise error

    return confirms


async def test_a_gate_that_raises_what_is_no_exception_means_ask(assent_environment: Environment) -> None:
    gates: dict[str, Callable[..., object]] = {
        "exits": _raises(SystemExit(3)),
        "stops_iteration": _raises(StopIteration(3)),
        "interrupts": _raises(KeyboardInterrupt()),
        "unprintable": _unprintable,
    }
    model = assent_environment.responses(calls(*(call(name, to="bob", amount=1) for name in gates)), says("done"))
    agent = Agent(name="ops", model=model, tools=[pay_with(gate, name) for name, gate in gates.items()])
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        waiting = (await run.until_paused()).active_requirements
        assert {each.tool for each in waiting if "requires_confirmation" in (each.note or "")} == set(gates)
        assert asked(assent_environment, agent) == 1
        assert (await drive(run, lambda _: Approved(), by="ann")).content == "done"


def _slowly(amount: int) -> int:
    time.sleep(2)
    return amount


@tool
def count(amount: Annotated[int, AfterValidator(_slowly)]) -> str:
    """Count."""
    return f"counted {amount}"


async def test_a_type_whose_validator_is_too_slow_is_put_to_a_person_and_not_run(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assent.activities.user_code, "LIMIT", 0.5)
    model = assent_environment.responses(calls(call("count", amount=1)), lambda seen: says(str(seen.tool_outputs)))
    agent = Agent(name="ops", model=model, tools=[count])
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        assert "took longer than 0.5 s" in (requirement.note or "")
        state = await drive(run, lambda _: Approved(), by="ann")
        assert "took longer than 0.5 s" in (state.content or "")
        assert "Not run: " in (state.content or "")
        assert asked(assent_environment, agent) == 2


class Odd(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def check(cls, text: str) -> str:
        if text == "bad":
            raise KeyError(text)
        if text == "slow":
            time.sleep(2)
        return text


async def test_an_output_type_that_raises_is_asked_for_again(assent_environment: Environment) -> None:
    model = assent_environment.responses(says('{"text": "bad"}'), says('{"text": "good"}'))
    agent = Agent(name="ops", model=model, output_type=Odd)
    async with assent_environment.serve(agent) as client:
        result = await (await client.start("ops", "Go.")).result()
        assert result.content == '{"text": "good"}'
        assert asked(assent_environment, agent) == 2


async def test_an_output_type_that_is_too_slow_ends_the_run(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assent.activities.user_code, "LIMIT", 0.5)
    model = assent_environment.responses(says('{"text": "slow"}'))
    agent = Agent(name="ops", model=model, output_type=Odd)
    async with assent_environment.serve(agent) as client:
        with pytest.raises(RunFailedError, match=r"output_type .* longer than 0\.5 s"):
            await (await client.start("ops", "Go.")).result()
        assert asked(assent_environment, agent) == 1
