"""Answers as compatible servers give them: what stands beside an answer never costs it, and half of one is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from pydantic import JsonValue

from assent.activities.providers import Providers, Question
from assent.testing import ModelServer, Step, alters, call, calls, says
from assent.wire.conversation import tool_calls
from tests.unit.activities.providers.provider_calls import Api, both, failure_of, model, question

Body = dict[str, JsonValue]

streamed = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def asked(server: ModelServer, api: Api, *, stream: bool, steps: tuple[Step, ...]) -> Question:
    server.script("scripted", *steps)
    return question(replace(model(server, api), stream=stream))


def choice(body: Body) -> Body:
    choices = body["choices"]
    assert isinstance(choices, list)
    assert isinstance(choices[0], dict)
    return choices[0]


def message(body: Body) -> Body:
    found = choice(body)["message"]
    assert isinstance(found, dict)
    return found


def finish(reason: JsonValue) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        choice(body)["finish_reason"] = reason

    return change


def sets(**values: JsonValue) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        body.update(values)

    return change


def in_message(**values: JsonValue) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        message(body).update(values)

    return change


BROKEN_OFF = [
    *("error", "malformed_function_call", "insufficient_system_resource", "network_error", "abort", "timeout"),
    *("MALFORMED_FUNCTION_CALL", "unexpected_tool_call", "OTHER", "cancelled", "repetition"),
]


@streamed
@pytest.mark.parametrize("reason", BROKEN_OFF)
async def test_an_answer_that_the_provider_broke_off_is_none(
    server: ModelServer, providers: Providers, reason: str, *, stream: bool
) -> None:
    steps = (alters(finish(reason), times=1), calls(call("add", x=1), text="Half a sen"))
    put = asked(server, "chat", stream=stream, steps=steps)
    found = await failure_of(providers, put)
    assert (found.kind, found.retry) == ("UnreadableAnswer", True)
    assert repr(reason) in found.message
    assert found.paid is not None
    assert found.paid.input_tokens > 0
    assert tool_calls((await providers.ask(put)).items)


@streamed
@pytest.mark.parametrize("status", ["cancelled", "in_progress", "queued", "abort"])
async def test_a_response_that_is_not_complete_is_none(
    server: ModelServer, providers: Providers, status: str, *, stream: bool
) -> None:
    def change(body: Body) -> None:
        body["status" if not stream else "incomplete_details"] = {"reason": status} if stream else status

    put = asked(server, "responses", stream=stream, steps=(alters(change, times=1), says("Half a sen")))
    assert (await failure_of(providers, put)).kind == "UnreadableAnswer"


@streamed
@pytest.mark.parametrize("reason", ["eos", "end_turn", "tool-calls", "STOP", "stop_sequence", None, ""])
async def test_other_words_for_the_end_are_the_end(
    server: ModelServer, providers: Providers, reason: str | None, *, stream: bool
) -> None:
    put = asked(server, "chat", stream=stream, steps=(alters(finish(reason)), says("Whole.")))
    answer = await providers.ask(put)
    assert (answer.text, answer.usage.output_tokens > 0) == ("Whole.", True)


@streamed
@pytest.mark.parametrize("reason", ["SAFETY", "sensitive", "RECITATION", "content-filter"])
async def test_other_words_for_the_filter_are_the_filter(
    server: ModelServer, providers: Providers, reason: str, *, stream: bool
) -> None:
    put = asked(server, "chat", stream=stream, steps=(alters(finish(reason)), says("Well")))
    assert "content filter" in ((await providers.ask(put)).text or "")


ODD_USAGE: list[JsonValue] = [
    {"prompt_tokens": 12.0, "completion_tokens": 3.0, "input_tokens": 12.0, "output_tokens": 3.0},
    {"prompt_tokens": "12", "completion_tokens": "3", "input_tokens": "12", "output_tokens": "3"},
]
NO_USAGE: list[JsonValue] = [
    None,
    "none",
    [],
    {},
    {"prompt_tokens": "many", "input_tokens": None},
    {"input_tokens": -5},
]


@both
@streamed
@pytest.mark.parametrize("usage", [*ODD_USAGE, *NO_USAGE])
async def test_tokens_in_any_form_cost_no_answer(
    server: ModelServer, providers: Providers, api: Api, usage: JsonValue, *, stream: bool
) -> None:
    answer = await providers.ask(asked(server, api, stream=stream, steps=(alters(sets(usage=usage)), says("Hi."))))
    expected = (1, 12, 3) if usage in ODD_USAGE else (1, 0, 0)
    assert answer.text == "Hi."
    assert (answer.usage.requests, answer.usage.input_tokens, answer.usage.output_tokens) == expected


@both
@streamed
@pytest.mark.parametrize(
    "change",
    [
        sets(model=None),
        sets(model={"id": "x"}),
        sets(error={}),
        sets(error=None),
        sets(service_tier=7, id=None, created="x", object=1),
        sets(incomplete_details={}),
    ],
)
async def test_what_stands_beside_an_answer_costs_none(
    server: ModelServer, providers: Providers, api: Api, change: Callable[[Body], None], *, stream: bool
) -> None:
    assert (await providers.ask(asked(server, api, stream=stream, steps=(alters(change), says("Hi."))))).text == "Hi."


@streamed
@pytest.mark.parametrize(
    "change",
    [
        in_message(tool_calls={}),
        in_message(tool_calls=None),
        in_message(refusal=False),
        in_message(refusal=[]),
        in_message(role=None, annotations={}, audio=False, function_call={}),
    ],
)
async def test_what_stands_beside_a_message_costs_none(
    server: ModelServer, providers: Providers, change: Callable[[Body], None], *, stream: bool
) -> None:
    answer = await providers.ask(asked(server, "chat", stream=stream, steps=(alters(change), says("Hi."))))
    assert (answer.text, tool_calls(answer.items)) == ("Hi.", [])


@streamed
@pytest.mark.parametrize("lost", ["x", ["x"], 7])
async def test_a_call_that_cannot_be_read_is_not_left_out(
    server: ModelServer, providers: Providers, lost: JsonValue, *, stream: bool
) -> None:
    put = asked(server, "chat", stream=stream, steps=(alters(in_message(tool_calls=lost)), says("I pay now.")))
    if stream and isinstance(lost, list):
        return  # The scripted server has no chunk for it.
    assert (await failure_of(providers, put)).kind == "UnreadableAnswer"


async def test_an_error_with_status_200_is_an_error(server: ModelServer, providers: Providers) -> None:
    def change(body: Body) -> None:
        body.clear()
        body["error"] = {"code": 429, "message": "Slow down."}

    found = await failure_of(providers, asked(server, "chat", stream=False, steps=(alters(change), says("Hi."))))
    assert (found.kind, found.retry, found.paid, found.message) == ("RateLimited", True, None, "Slow down.")
