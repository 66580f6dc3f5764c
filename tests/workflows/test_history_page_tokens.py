"""Following a history: what the server refuses on the way is asked for anew, and nothing is told twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import (
    Client,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowHistoryEventAsyncIterator,
)
from temporalio.service import RPCError, RPCStatusCode

from assent import Agent, RunHandle
from assent.history import pages
from assent.testing import Environment, call, calls, says
from tests.support import tools

MISMATCH = "Current and request branch tokens, or current and request versioned transitions, don't match."


class Refused(WorkflowHistoryEventAsyncIterator):
    """The server's pages, but that it refuses the token it gave, as often as *left* says."""

    left: list[None]

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        if self.next_page_token and self.left:
            self.left.pop()
            raise RPCError(MISMATCH, RPCStatusCode.INVALID_ARGUMENT, b"")
        await super().fetch_next_page(page_size=page_size)


class Refusing(Interceptor, OutboundInterceptor):
    """Refuses page tokens a number of times: what the server does by itself as an execution begins, under load."""

    def __init__(self, times: int) -> None:
        self.left: list[None] = [None] * times

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        OutboundInterceptor.__init__(self, next)
        return self

    def fetch_workflow_history_events(self, input: FetchWorkflowHistoryEventsInput) -> Any:
        iterator = super().fetch_workflow_history_events(input)
        iterator.__class__ = Refused
        assert isinstance(iterator, Refused)
        iterator.left = self.left
        return iterator


def refusing(client: Client, times: int) -> tuple[Client, Refusing]:
    config, interceptor = client.config(), Refusing(times)
    config["interceptors"] = [interceptor]
    return Client(**config), interceptor


async def followed(client: Client, run: RunHandle, execution_id: str) -> list[int]:
    """The numbers of the events of a run, read while it goes on, to its end."""
    grown = pages.pages(client, run.id, execution_id, wait=True)
    return [event.event_id async for page in grown for event in page.events]


async def test_a_page_token_that_the_server_takes_no_more_is_asked_for_anew_and_nothing_is_told_twice(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_PAUSES", (0.01, 0.01, 0.01))
    model = assent_environment.responses(calls(call("pay", to="bob", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="payer", model=model, tools=tools.ALL)) as client:
        run = await client.start("payer", "Go.")
        (asked,) = (await run.until_paused()).active_requirements
        execution_id = (await run.description()).run_id
        assert execution_id is not None
        twice, interceptor = refusing(client.temporal, 2)
        always, _ = refusing(client.temporal, 1_000)
        reading = asyncio.create_task(followed(twice, run, execution_id))
        with pytest.raises(RPCError, match="branch tokens"):
            await followed(always, run, execution_id)
        await run.approve(asked.id, by="carol")
        numbers = await asyncio.wait_for(reading, 60)
        assert interceptor.left == []
        assert numbers == list(range(1, (await run.description()).history_length + 1))


class Cut(WorkflowHistoryEventAsyncIterator):
    """The server's pages, of which the first seems to be the last."""

    left: list[None]

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        await super().fetch_next_page(page_size=1 if self.left else page_size)
        if self.left:
            self.left.pop()
            self._next_page_token = None


class Cutting(Refusing):
    """Leaves out the token of a page a number of times, as a server under load was seen to do."""

    def fetch_workflow_history_events(self, input: FetchWorkflowHistoryEventsInput) -> Any:
        iterator = super().fetch_workflow_history_events(input)
        iterator.__class__ = Cut
        return iterator


async def test_a_history_is_followed_to_its_closing_event_whatever_the_server_says_of_further_pages(
    assent_environment: Environment,
) -> None:
    model = assent_environment.responses(says("done", delay=1))
    async with assent_environment.serve(Agent(name="payer", model=model)) as client:
        run = await client.start("payer", "Go.")
        execution_id = (await run.description()).run_id
        assert execution_id is not None
        interceptor = Cutting(2)
        config = client.temporal.config()
        config["interceptors"] = [interceptor]
        numbers = await asyncio.wait_for(followed(Client(**config), run, execution_id), 60)
        assert interceptor.left == []
        assert numbers == list(range(1, (await run.description()).history_length + 1))
