"""What providers refuse to be asked for, in the envelopes that they use: asked again without it, and shown in words."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from pydantic import JsonValue

from assent.activities.providers import Providers, Question
from assent.agents.models import OpenAIChat
from assent.testing import ModelServer, alters, fails, says
from assent.wire.conversation import tool_output, user_message
from assent.wire.protocol import Item
from tests.unit.activities.providers.provider_calls import TOOLS, Api, both, failure_of, model, question


def extra(*where: str) -> JsonValue:
    """FastAPI's words for a field that it does not know, with all of what it was sent."""
    sent: JsonValue = {"stream": True, "response_format": 1, "max_tokens": 2}
    loc: JsonValue = ["body", *where]
    return [{"type": "extra_forbidden", "loc": loc, "msg": "Extra inputs are not permitted", "input": sent}]


ENVELOPES: list[JsonValue] = [
    {"detail": extra("tool_choice")},
    {"message": {"detail": extra("tool_choice")}},
    {"error": {"message": "Unknown parameter: 'tool_choice'.", "param": "tool_choice"}},
    {"error": "tool_choice is not supported"},
    {"message": "tool_choice: unknown field"},
    {"errors": [{"message": "tool_choice is unknown"}]},
    {"object": "error", "message": "[{'loc': ('body', 'tool_choice'), 'msg': 'extra'}]", "code": 40001},
    {"error": {"message": "No endpoints found that support the provided 'tool_choice' value.", "code": 404}},
    {"detail": "litellm.UnsupportedParamsError: it does not support parameters: ['tool_choice']"},
]


@both
@pytest.mark.parametrize("status", [400, 404, 422])
@pytest.mark.parametrize("body", ENVELOPES)
async def test_a_refused_parameter_is_left_out_from_then_on(
    server: ModelServer, providers: Providers, api: Api, status: int, body: JsonValue
) -> None:
    server.script("scripted", fails(status, body=body), says("Hi."))
    for _ in range(2):
        assert (await providers.ask(question(model(server, api)))).text == "Hi."
    sent = [request.body for request in server.requests]
    assert ["tool_choice" in each for each in sent] == [True, False, False]
    assert all(each["stream"] for each in sent)


@pytest.mark.parametrize("name", ["parallel_tool_calls", "stream_options", "max_completion_tokens"])
async def test_every_parameter_that_was_not_asked_for_may_be_refused(
    server: ModelServer, providers: Providers, name: str
) -> None:
    server.script("scripted", fails(422, body={"detail": extra(name)}), says("Hi."))
    put = question(replace(model(server, "chat"), max_output_tokens=5))
    assert (await providers.ask(put)).text == "Hi."
    assert [name in request.body for request in server.requests] == [True, False]
    assert ("max_tokens" in server.requests[-1].body) == (name == "max_completion_tokens")


@pytest.mark.parametrize(
    "body",
    [
        {"detail": extra("include", "0")},
        {"error": {"message": "Unknown field `include`"}},
        {"error": {"param": "include"}},
    ],
)
async def test_reasoning_is_not_asked_for_where_that_is_refused_in_any_envelope(
    server: ModelServer, providers: Providers, body: JsonValue
) -> None:
    server.script("scripted", fails(422, body=body), says("Hi."))
    for _ in range(2):
        assert (await providers.ask(question(model(server, "responses")))).text == "Hi."
    assert ["include" in request.body for request in server.requests] == [True, False, False]


async def test_what_was_no_remedy_is_not_learnt(server: ModelServer, providers: Providers) -> None:
    too_many = fails(400, message="max_tokens is too large", param="max_tokens", times=2)
    server.script("scripted", too_many, says("Hi."))
    put = question(replace(model(server, "chat"), max_output_tokens=5))
    assert (await failure_of(providers, put)).message == "max_tokens is too large"
    assert (await providers.ask(put)).text == "Hi."
    names = ["max_completion_tokens" in request.body for request in server.requests]
    assert names == [True, False, True]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": extra("temperature")}, "body.temperature: Extra inputs are not permitted"),
        ({"message": {"detail": "temperature is fixed"}}, "temperature is fixed"),
        ({"error": {"message": "No.", "details": {}}}, "No."),
        ({"code": 7}, "Error code: 422 - {'code': 7}"),
    ],
)
async def test_the_words_of_an_error_are_shown_from_any_envelope(
    server: ModelServer, providers: Providers, body: JsonValue, words: str
) -> None:
    server.script("scripted", fails(422, body=body), says("Hi."))
    found = await failure_of(providers, question(model(server, "chat")))
    assert (found.kind, found.message) == ("ProviderRejected", words)


FORMATS: list[tuple[int, JsonValue]] = [
    (500, {"error": {"message": "[{'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text'\"}]"}}),
    (400, {"error": {"message": "This response_format type is unavailable now", "type": "invalid_request_error"}}),
    (422, {"detail": extra("response_format", "json_schema")}),
    (400, {"error": {"message": "Invalid parameter", "param": "text.format"}}),
]


@both
@pytest.mark.parametrize(("status", "body"), FORMATS)
@pytest.mark.parametrize("times", [1, 2])
async def test_a_format_that_is_not_known_is_asked_for_in_words(
    server: ModelServer, providers: Providers, api: Api, status: int, body: JsonValue, times: int
) -> None:
    left = [fails(status, body=body, times=None)] * times
    answer = says({"city": "Köln"})
    server.script("scripted", lambda _: [left.pop(), answer] if left else answer)
    schema: dict[str, JsonValue] = {"type": "object", "properties": {"city": {"type": "string"}}}
    put = Question(model(server, api), "Be brief.", [user_message("Where?")], output_schema=schema)
    for _ in range(2):
        assert json.loads((await providers.ask(put)).text or "") == {"city": "Köln"}
    sent = [json.dumps(request.body) for request in server.requests]
    assert len(sent) == times + 2
    assert "json_schema" in sent[0]
    assert ('"type": "json_object"' in sent[-1]) == (times == 1)
    assert "fits this JSON schema" in sent[-1]


@both
async def test_a_call_is_demanded_of_the_first_answer_to_a_message(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    server.script("scripted", says("Hi."), says("Hi."))
    call: Item = {"type": "function_call", "call_id": "a", "name": "add", "arguments": "{}"}
    for choice in ("auto", "required", "add", None):
        put = question(replace(model(server, api), tool_choice=choice))
        await providers.ask(put)
        await providers.ask(replace(put, items=[user_message("Hi"), call, tool_output("a", "1")]))
    given = [request.body.get("tool_choice") for request in server.requests]
    named: JsonValue = {"type": "function", "name": "add"}
    if api == "chat":
        named = {"type": "function", "function": {"name": "add"}}
    assert given == ["auto", "auto", "required", "auto", named, "auto", None, None]
    await providers.ask(replace(question(model(server, api)), tools=[]))
    assert "tool_choice" not in server.requests[-1].body


async def test_the_parameter_for_tokens_can_be_named(server: ModelServer, providers: Providers) -> None:
    server.script("scripted", says("Hi."))
    of = OpenAIChat("scripted", base_url=server.url, max_output_tokens=5, max_tokens_name="max_tokens")
    await providers.ask(Question(of, None, [user_message("Hi")], tools=TOOLS))
    assert server.requests[-1].body["max_tokens"] == 5
    assert "max_completion_tokens" not in server.requests[-1].body


async def test_it_is_said_once_that_tokens_are_not_counted(
    server: ModelServer, providers: Providers, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("scripted", alters(lambda body: body.update(usage=None)), says("Hi."))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await providers.ask(question(model(server, "chat")))
    assert len([each for each in caplog.messages if "how many tokens" in each]) == 1
