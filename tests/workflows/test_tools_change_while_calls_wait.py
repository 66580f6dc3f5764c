"""The tools of a worker change while calls of them wait: what is approved runs only if it still is what it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assent import Agent, DecisionOutcome, Requirement, RunHandle, Tool, ToolContext, tool
from assent.testing import Conversation, Environment, Reply, call, calls, check_replay, says
from tests.support import tools


def before(context: ToolContext, seat: int) -> str:
    """Book a seat."""
    return booked(context, seat)


def with_a_required_one(context: ToolContext, seat: int, meal: str) -> str:
    """Book a seat and a meal."""
    return booked(context, (seat, meal))


def with_an_optional_one(context: ToolContext, seat: int, meal: str = "none") -> str:
    """Book a seat, and perhaps a meal."""
    return booked(context, (seat, meal))


def with_another_name(context: ToolContext, place: int) -> str:
    """Book a place."""
    return booked(context, place)


def without_it(context: ToolContext) -> str:
    """Book any seat."""
    return booked(context, "any")


def with_text(context: ToolContext, seat: str) -> str:
    """Book a seat by its name."""
    return booked(context, seat)


def with_several(context: ToolContext, seat: list[int]) -> str:
    """Book seats."""
    return booked(context, seat)


def with_a_wider_type(context: ToolContext, seat: int | str) -> str:
    """Book a seat by its number or its name."""
    return booked(context, seat)


def booked(context: ToolContext, what: object) -> str:
    """Write down that it ran."""
    tools.note(context, f"booked {what!r}")
    return f"booked {what!r}"


def confirmed(function: Callable[..., str]) -> Tool:
    """The tool `book` with this code."""
    return tool(name="book", requires_confirmation=True)(function)


def elsewhere(function: Callable[..., str]) -> Tool:
    """The tool `book`, carried out outside of Assent."""
    return tool(name="book", external_execution=True)(function)


def asked_for(function: Callable[..., str], field: str) -> Tool:
    """The tool `book`, for which a person fills a field in."""
    return tool(name="book", requires_user_input=True, user_input_fields=[field])(function)


def agent(environment: Environment, first: Tool) -> Callable[..., Agent]:
    """The agent, whose worker may have other tools each time; its answer is what the model was told of the call."""
    asking = call("book") if first.input_schema else call("book", seat=7)
    model = environment.responses(calls(asking), told)
    return lambda *given: Agent(name="ops", model=model, tools=given)


def told(seen: Conversation) -> Reply:
    """The answer is what the model was told."""
    return says(str(seen.last_output))


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (with_a_required_one, 'meal: required, but missing; expected {"type": "string"}'),
        (with_another_name, "seat: no argument of this name; this tool takes place"),
        (without_it, "seat: no argument of this name; this tool takes no arguments"),
        (with_text, "seat: input should be a valid string, not 7"),
        (with_several, "seat: input should be a valid array, not 7"),
    ],
)
async def test_an_approved_call_that_the_tool_of_today_does_not_take_is_refused_and_the_model_is_told(
    assent_environment: Environment, after: Callable[..., str], said: str
) -> None:
    tool_before = confirmed(before)
    made = agent(assent_environment, tool_before)
    async with assent_environment.serve(made(tool_before)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
    async with assent_environment.serve(made(confirmed(after)), task_queue=client.task_queue):
        assert (await run.approve(asked, by="bob")).status == "approved"
        content = (await run.result()).content
        assert content.startswith("Not run: ")
        assert said in content
        [record] = await run.audit()
        assert (record.status, record.resolved_by, record.execution) == ("approved", "bob", "refused")
        assert tools.ran(run.id) == []
        await check_replay(await run.history())


@pytest.mark.parametrize(
    ("after", "ran"), [(with_an_optional_one, "booked (7, 'none')"), (with_a_wider_type, "booked 7")]
)
async def test_an_approved_call_that_a_changed_tool_takes_is_approved_again_before_its_code_runs(
    assent_environment: Environment, after: Callable[..., str], ran: str
) -> None:
    tool_before = confirmed(before)
    made = agent(assent_environment, tool_before)
    async with assent_environment.serve(made(tool_before)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
    async with assent_environment.serve(made(confirmed(after)), task_queue=client.task_queue):
        await run.approve(asked, by="bob")
        [again] = (await run.until_paused()).active_requirements
        assert (again.follows, tools.ran(run.id)) == (asked.id, [])
        await run.approve(again, by="bob")
        assert (await run.result()).content == ran
        assert tools.ran(run.id) == [ran]


async def test_a_call_that_needs_nobody_any_more_still_waits_for_people(
    assent_environment: Environment,
) -> None:
    tool_before = confirmed(before)
    made = agent(assent_environment, tool_before)
    async with assent_environment.serve(made(tool_before)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        await run.until_paused()
    free: Tool = tool(name="book")(before)
    async with assent_environment.serve(made(free), task_queue=client.task_queue):
        await run.send_message("Hurry.", by="alice")
        [asked] = (await run.until_paused()).active_requirements
        assert tools.ran(run.id) == []
        await run.approve(asked, by="bob")
        [again] = (await run.until_paused()).active_requirements
        assert (again.follows, tools.ran(run.id)) == (asked.id, [])
        await run.approve(again, by="bob")
        assert (await run.result()).content == "booked 7"


async def test_an_approved_call_of_a_tool_that_is_carried_out_elsewhere_now_waits_for_its_result(
    assent_environment: Environment,
) -> None:
    tool_before = confirmed(before)
    made = agent(assent_environment, tool_before)
    async with assent_environment.serve(made(tool_before)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
    async with assent_environment.serve(made(elsewhere(before)), task_queue=client.task_queue):
        await run.approve(asked, by="bob")
        [again] = (await run.until_paused()).active_requirements
        assert (again.kind, again.follows) == ("external", asked.id)
        assert again.note == "the tool is now carried out elsewhere"
        assert (await run.submit_result(again, by="bob", output="by hand")).status == "executed"
        assert (await run.result()).content == "by hand"
        assert tools.ran(run.id) == []


@pytest.mark.parametrize(
    ("first", "later", "said"),
    [
        (elsewhere(before), [], "agent 'ops' has no tool named 'book' on the worker that looked"),
        (asked_for(before, "seat"), [], "agent 'ops' has no tool named 'book' on the worker that looked"),
        (asked_for(before, "seat"), [asked_for(with_another_name, "place")], "place: required, but missing"),
        (asked_for(before, "seat"), [confirmed(before)], "this tool takes nothing from a person"),
    ],
    ids=["a result, and the tool is gone", "input, and it is gone", "a field was renamed", "it asks no person now"],
)
async def test_what_a_person_hands_in_for_a_tool_that_does_not_take_it_is_refused_and_can_only_be_rejected(
    assent_environment: Environment, first: Tool, later: list[Tool], said: str
) -> None:
    made = agent(assent_environment, first)
    async with assent_environment.serve(made(first)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
    async with assent_environment.serve(made(*later), task_queue=client.task_queue):
        answer = await handed_in(run, asked)
        assert (answer.status, said in (answer.detail or "")) == ("refused", True)
        [still] = (await run.until_paused()).active_requirements
        assert still.id == asked.id
        assert (await run.reject(asked, by="bob", reason="it is booked another way now")).status == "rejected"
        assert (await run.result()).content == "Rejected: it is booked another way now"
        assert tools.ran(run.id) == []
        await check_replay(await run.history())


async def handed_in(run: RunHandle, asked: Requirement) -> DecisionOutcome:
    """What the requirement asks for, as the worker of before would have taken it."""
    if asked.kind == "external":
        return await run.submit_result(asked, by="bob", output="by hand", check=False)
    return await run.submit_input(asked, by="bob", values={"seat": 7}, check=False)
