"""A model's words while they are written: in `watch`, in `describe`, at the terminal, and nowhere in the history."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import re
from collections.abc import Sequence

import pytest
from rich.console import Console
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.converter import PayloadCodec

from assent import Agent, AgentClient, RunHandle, tool
from assent.cli.terminal import follow
from assent.client.live_text import live_text
from assent.client.progress import describe_progress, progress_of
from assent.runtime.converter import data_converter
from assent.runtime.settings import Settings
from assent.testing import Environment, breaks_off, call, calls, fails, hangs, says
from assent.views.run_events import RunEvent
from assent.wire.live_text import LiveText
from assent.worker import serving
from tests.support.cli_operator import Operator

WORDS = " ".join(f"word{number}" for number in range(30))
DELAY = 0.06
"""Seconds between two words: the whole takes 1.8 s."""


@tool
def add(x: int) -> int:
    """Add something."""
    return x + 1


async def live_of(run: RunHandle) -> LiveText | None:
    return next((each.live for each in (await progress_of(run)).activities), None)


async def grown(run: RunHandle, characters: int = 1) -> LiveText:
    """What is told of the answer once there are as many characters."""
    async with asyncio.timeout(10):
        while True:
            live = await live_of(run)
            if live is not None and live.characters >= characters:
                return live
            await asyncio.sleep(0.05)


async def kinds(run: RunHandle) -> list[str]:
    return [EventType.Name(event.event_type) for event in (await run.history()).events]


async def size(run: RunHandle) -> int:
    return sum(event.ByteSize() for event in (await run.history()).events)


def texts(events: Sequence[RunEvent], turn: int) -> list[str]:
    return [event.text for event in events if event.kind == "model_text" and event.turn == turn]


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_the_text_is_seen_growing_and_costs_no_event(assent_environment: Environment, api: str) -> None:
    model = assent_environment.responses if api == "responses" else assent_environment.chat
    steps = [calls(call("add", x=4711), text=WORDS, delay=DELAY), says(WORDS, delay=DELAY)]
    streamed = Agent(name="streamed", model=model(*steps), tools=[add])
    whole = Agent(name="whole", model=dataclasses.replace(model(*steps), stream=False), tools=[add])
    async with assent_environment.serve(streamed, whole) as client:
        runs = [await client.start(name, "Go.") for name in ("streamed", "whole")]
        events = [event async for event in runs[0].watch()]
        for turn in (1, 2):
            seen = texts(events, turn)
            assert len(seen) >= 2
            assert all(WORDS.startswith(text) for text in seen)
            assert [len(text) for text in seen] == sorted({len(text) for text in seen})
        order = [event.kind for event in events if event.kind != "model_text"]
        assert order == [event.kind async for event in runs[1].watch()]
        for index, event in enumerate(events):
            if event.kind == "model_text":
                assert events[index - 1].kind in {"model_called", "model_text"}
        assert await kinds(runs[0]) == await kinds(runs[1])
        assert abs(await size(runs[0]) - await size(runs[1])) < 100  # their names, and the tokens of their requests


async def test_describe_and_show_have_the_text_and_no_argument(assent_environment: Environment) -> None:
    slowly = " ".join(["word"] * 90)  # 9 s, and fewer characters than are shown: the command is a process, and starts
    model = assent_environment.responses(calls(call("add", x=4711), text=slowly, delay=0.1), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[add])) as client:
        run = await client.start("ops", "My secret prompt.")
        first = await grown(run)
        later = await grown(run, first.characters + 1)
        assert later.text.startswith(first.text)
        assert (later.turn, later.attempt) == (1, 1)
        shown = (await Operator(assent_environment, client).assent("show", run.id)).out
        assert f"characters so far: {first.text}" in shown
        assert all(secret not in later.model_dump_json() for secret in ("4711", "secret"))
        await run.cancel()


async def test_half_an_answer_is_neither_kept_nor_told_once_it_failed(assent_environment: Environment) -> None:
    answers = iter([says("half " * 80, delay=DELAY), says(WORDS, delay=DELAY)])
    model = assent_environment.responses(breaks_off(), lambda _: next(answers))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")
        seen: list[RunEvent] = []
        async for event in run.watch():
            seen.append(event)
            for each in (await progress_of(run)).activities:
                assert each.live is None or (each.running and each.live.attempt == each.attempt)
        halves = [text.startswith("half") for text in texts(seen, 1)]
        assert halves == sorted(halves, reverse=True)
        assert set(halves) == {True, False}
        assert not any(b"half" in event.SerializeToString() for event in (await run.history()).events)
        assert (await run.result()).content == WORDS
        assert [event.text for event in seen if event.kind == "model_answered"] == [WORDS]
        assert len([name for name in await kinds(run) if "ACTIVITY_TASK" in name]) == 3


async def test_a_message_in_the_middle_keeps_its_place(assent_environment: Environment) -> None:
    model = assent_environment.chat(says(WORDS, delay=DELAY), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")
        seen: list[str] = []
        async for event in run.watch():
            if event.kind == "model_text" and "message" not in seen and "model_text" not in seen:
                await run.send_message("More.", by="bob")
            seen.append(event.kind)
        assert seen.index("model_text") < seen.index("message") < seen.index("model_answered")
        assert "model_text" in seen[seen.index("message") : seen.index("model_answered")]


class Rot(PayloadCodec):
    """Keeps every payload as something else."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Wrapped, reversed."""
        return [Payload(metadata={"encoding": b"binary/rot"}, data=each.SerializeToString()[::-1]) for each in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """As it was."""
        plain = [each.metadata.get("encoding") != b"binary/rot" for each in payloads]
        return [
            each if as_it_is else Payload.FromString(each.data[::-1])
            for each, as_it_is in zip(payloads, plain, strict=True)
        ]


async def test_the_text_goes_through_the_payload_codec(assent_environment: Environment) -> None:
    converter = dataclasses.replace(data_converter, payload_codec=Rot())
    connection = await Client.connect(assent_environment.server.address, data_converter=converter)
    model = assent_environment.responses(says(WORDS, delay=DELAY))
    queue = "live-text-codec"
    async with serving(connection, [Agent(name="ops", model=model)], Settings(task_queue=queue)):
        client = AgentClient(connection, task_queue=queue)
        run = await client.start("ops", "Go.")
        live = await grown(run)
        assert WORDS.startswith(live.text)
        [info] = (await run.description()).raw_description.pending_activities
        assert b"word" not in info.heartbeat_details.SerializeToString()
        assert await live_text(info, data_converter) is None
        await run.result()


# -- at the terminal --------------------------------------------------------------------------------------------------


async def test_at_a_terminal_the_text_is_drawn_over_and_over_and_elsewhere_not_at_all(
    assent_environment: Environment,
) -> None:
    model = assent_environment.responses(says(WORDS, delay=DELAY))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")
        screens = [
            Console(file=io.StringIO(), force_terminal=True, width=60, height=20, _environ={"TERM": "xterm"}),
            Console(file=io.StringIO(), width=60),
        ]
        await asyncio.gather(*(follow(run, approver="", console=screen, ask=False) for screen in screens))
        drawn, plain = (screen.file.getvalue() for screen in screens if isinstance(screen.file, io.StringIO))
        assert drawn.count("model text") >= 2
        assert "\x1b[1A\x1b[2K" in drawn  # a line up, and emptied
        assert "model text" not in plain
        assert plain.count("word0 word1") == 2  # the answer, as an event and whole


async def test_watching_as_json_gives_an_event_for_each_change(assent_environment: Environment) -> None:
    model = assent_environment.responses(says(WORDS, delay=DELAY))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")
        ran = await Operator(assent_environment, client).assent("watch", run.id, "--json")
        assert '"kind": "model_text"' in ran.out or '"kind":"model_text"' in ran.out


async def test_watching_says_why_nothing_comes_while_the_provider_fails(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assent.cli.terminal.IDLE", 0.5)
    closed = fails(503, message="We are closed.", retry_after=1.5)
    model = assent_environment.responses(closed, hangs(1.5), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")
        screen = io.StringIO()
        await follow(run, approver="", console=Console(file=screen, width=200), ask=False)
        assert "call_model attempt 1: ProviderUnavailable: We are closed.; next at" in screen.getvalue()
        again = r"call_model runs since \S+ \S+, attempt 2 after: ProviderUnavailable: We are closed\."
        assert re.search(again, screen.getvalue())


async def test_what_is_told_of_an_answer_is_one_line(assent_environment: Environment) -> None:
    model = assent_environment.responses(says("\x1b[2J\nword " * 30, delay=DELAY / 2))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")
        await grown(run)
        [line] = describe_progress(await progress_of(run))
        assert "\x1b" not in line
        assert "\n" not in line
        await run.result()
