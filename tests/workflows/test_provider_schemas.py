"""Types whose JSON schemas are legal, and refused by providers as they are: a run with them has its answer."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Generic, NamedTuple, TypeVar

import pytest
from pydantic import BaseModel, Field, RootModel, ValidationError, create_model

from assent import Agent, tool
from assent.testing import Environment, call, calls, says
from tests.support.run_probes import content
from tests.unit.activities.providers.provider_calls import Api, both

T = TypeVar("T")


class Point(NamedTuple):
    x: int
    y: str


class Page(BaseModel, Generic[T]):
    rows: list[T]


class Rows(RootModel[list[int]]):
    pass


class Money(BaseModel):
    amount: Decimal
    code: Annotated[str, Field(json_schema_extra={"pattern": "^(?=[A-Z])\\w{3}$"})] = "EUR"


STREET = create_model("Straße", name=(str, ...))
LONG = create_model("L" * 70, name=(str, ...))


@tool
def plot(pair: tuple[int, str], point: Point, price: Decimal, maybe: tuple[int, int] | None = None) -> str:
    """Draw something."""
    return f"{pair} {point.y} {price} {maybe}"


@both
async def test_tuples_and_decimals_are_parameters(assent_environment: Environment, api: Api) -> None:
    make = assent_environment.responses if api == "responses" else assent_environment.chat
    drawn = call("plot", pair=[1, "a"], point=[2, "b"], price="1.50", maybe=[1, 2])
    model = make(calls(drawn), lambda seen: says(seen.last_output or ""))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[plot])) as client:
        assert await content(await client.start("ops", "Go.")) == "(1, 'a') b 1.50 (1, 2)"


@both
async def test_any_output_type_is_asked_for(assent_environment: Environment, api: Api) -> None:
    make = assent_environment.responses if api == "responses" else assent_environment.chat
    asked: list[tuple[type[object], str]] = [
        (Page[int], '{"rows": [1]}'),
        (Rows, "[1, 2]"),
        (list[int], "[1, 2]"),
        (Money, '{"amount": "1.50"}'),
        (STREET, '{"name": "a"}'),
        (LONG, '{"name": "a"}'),
        (tuple[int, str], '[1, "a"]'),
    ]
    agents = [
        Agent(name=f"ops-{number}", model=make(says(answer)), output_type=output_type)
        for number, (output_type, answer) in enumerate(asked)
    ]
    async with assent_environment.serve(*agents) as client:
        for agent, (_, answer) in zip(agents, asked, strict=True):
            run = await client.start(agent.name, "Go.")
            assert await content(run) == answer
            assert (await run.state()).turns == 1


class Invoice(BaseModel):
    """An output whose fields are no JSON values."""

    due: date
    parts: tuple[str, ...]


async def test_an_output_is_read_as_the_type_of_the_agent(assent_environment: Environment) -> None:
    model = assent_environment.responses(says({"due": "2026-12-01", "parts": ["a", "b"]}))
    async with assent_environment.serve(Agent(name="billing", model=model, output_type=Invoice)) as client:
        result = await (await client.start("billing", "Go.")).result()
        assert result.output_as(Invoice) == Invoice(due=date(2026, 12, 1), parts=("a", "b"))
        with pytest.raises(ValidationError):
            result.output_as(int)
