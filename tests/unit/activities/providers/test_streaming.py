"""Answers that come as a stream: put together to what they are without one, or taken for none."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIError
from pydantic import JsonValue

from assent.activities.providers import Answer, CallError, ErrorHandling, Providers, Question, ToolSpec, posture
from assent.activities.providers.chat import answer_of, messages_of
from assent.activities.providers.chat_stream import Chunks
from assent.agents.models import Model, OpenAIChat, OpenAIResponses
from assent.testing import ModelServer, Step, breaks_off, call, calls, fails, garbles, says, thinks
from assent.wire.conversation import tool_calls, user_message
from assent.wire.limits import LIVE_NAME_SHOWN, LIVE_TEXT_SHOWN
from assent.wire.live_text import CALLS_SHOWN, TextSoFar

Api = Literal["responses", "chat"]
both = pytest.mark.parametrize("api", ["responses", "chat"])
TOOLS = [ToolSpec("add", "Adds.", {"type": "object", "properties": {"x": {"type": "integer"}}})]
STREAM = "text/event-stream"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-key-1234")


def question(
    server: ModelServer, api: Api, *, stream: bool = True, timeout: timedelta = timedelta(seconds=5)
) -> Question:
    kind = OpenAIResponses if api == "responses" else OpenAIChat
    model: Model = kind(id="scripted", base_url=server.url, stream=stream, timeout=timeout)
    return Question(model=model, instructions="Be brief.", items=[user_message("Hi")], tools=TOOLS)


async def failure_of(providers: Providers, asked: Question) -> ErrorHandling:
    with pytest.raises((APIError, CallError, TimeoutError)) as caught:
        await providers.ask(asked)
    return posture(caught.value)


def sse(*events: JsonValue) -> str:
    return "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)


ANSWERS: list[list[Step]] = [
    [says("Grüße,  世界 🌍\n\n and two\tmore. ")],
    [says("")],
    [calls(call("add", raw='{"x" : 1.0}'), call("add", x=2), text="Both.")],
    [calls(call("add", raw=""), ids=["call_0"])],
    [calls(call("add", x=1), call("add", x=2), ids=["call_0", "call_0"])],
    [thinks("Hm."), calls(call("add", x=1))],
    [says("I cannot help with that.", finish="refusal")],
    [says("Half a sen", finish="length")],
    [says("", finish="length")],
    [says("Well", finish="content_filter")],
]


@both
@pytest.mark.parametrize("steps", ANSWERS)
async def test_a_streamed_answer_is_the_one_that_comes_without_a_stream(
    server: ModelServer, providers: Providers, api: Api, steps: list[Step]
) -> None:
    server.script("scripted", *steps)
    answers: list[Answer] = []
    for stream in (True, False):
        answers.append(await providers.ask(question(server, api, stream=stream)))
        assert server.requests[-1].body.get("stream", False) is stream
    streamed, whole = answers
    assert (streamed.items, streamed.text, streamed.model) == (whole.items, whole.text, whole.model)
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert streamed.usage.input_tokens > 0


@both
async def test_what_is_told_is_the_models_words_and_no_argument(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    server.script("scripted", thinks("Secretly."), calls(call("add", x=4711), text="Let me see."))
    so_far = TextSoFar()
    await providers.ask(question(server, api), so_far)
    told = so_far.snapshot(1, 1)
    assert told is not None
    assert (told.text, told.characters, told.calls) == ("Let me see.", 11, ["add"])
    assert not any(secret in told.model_dump_json() for secret in ("4711", "Secretly", "Be brief"))


def test_of_a_long_answer_the_end_is_told() -> None:
    so_far = TextSoFar()
    assert so_far.snapshot(1, 1) is None
    for number in range(LIVE_TEXT_SHOWN):
        so_far.say(f"{number:04d} ")
        if number % 100 == 0:
            so_far.snapshot(1, 1)
    told = so_far.snapshot(7, 2)
    assert told is not None
    assert told.text == "".join(f"{number:04d} " for number in range(LIVE_TEXT_SHOWN))[-LIVE_TEXT_SHOWN:]
    assert (told.turn, told.attempt, told.characters, told.left_out) == (7, 2, 5 * LIVE_TEXT_SHOWN, 4 * LIVE_TEXT_SHOWN)


def test_of_a_long_name_the_beginning_is_told() -> None:
    """The server ends an activity whose heartbeat has more than 2 MiB, and the names are the model's own."""
    so_far = TextSoFar()
    for _ in range(CALLS_SHOWN + 1):
        so_far.call("x" * 1_000_000)
    told = so_far.snapshot(1, 1)
    assert told is not None
    assert told.calls == [f"{'x' * LIVE_NAME_SHOWN}…"] * CALLS_SHOWN


# -- half an answer is none -------------------------------------------------------------------------------------------


@both
async def test_a_stream_that_is_cut_is_retried(server: ModelServer, providers: Providers, api: Api) -> None:
    server.script("scripted", breaks_off(), says("One two three four."))
    so_far = TextSoFar()
    with pytest.raises(APIError) as caught:
        await providers.ask(question(server, api), so_far)
    found = posture(caught.value)
    assert (found.kind, found.retry) == ("ProviderUnavailable", True)
    assert 0 < so_far.characters < len("One two three four.")
    assert (await providers.ask(question(server, api))).text == "One two three four."


@both
@pytest.mark.parametrize("empty", ["", sse("[DONE]"), ": ping\n\n"])
async def test_where_a_stream_is_empty_the_answer_is_had_without_one(
    server: ModelServer, providers: Providers, api: Api, empty: str
) -> None:
    server.script("scripted", garbles(empty, content_type=STREAM), says("Whole."))
    assert (await providers.ask(question(server, api))).text == "Whole."
    assert [each.body.get("stream") for each in server.requests] == [True, None]
    assert (await providers.ask(question(server, api))).text == "Whole."
    assert server.requests[-1].body.get("stream") is True


HALVES = [
    sse({"type": "response.output_text.delta", "delta": "Half", "output_index": 0, "content_index": 0}),
    sse({"choices": [{"index": 0, "delta": {"content": "Half"}, "finish_reason": None}]}),
    sse({"choices": [{"index": 0, "delta": {"content": "Half"}}]}, "[DONE]"),
    sse("{no json"),
]


@both
@pytest.mark.parametrize("stream", HALVES)
async def test_a_stream_that_ends_too_early_is_no_answer(
    server: ModelServer, providers: Providers, api: Api, stream: str
) -> None:
    server.script("scripted", garbles(stream, content_type=STREAM), says("Hi."))
    found = await failure_of(providers, question(server, api))
    assert (found.kind, found.retry) == ("UnreadableAnswer", True)
    assert (await providers.ask(question(server, api))).text == "Hi."


@both
@pytest.mark.parametrize("behind", ["{no json", "", "null", {"error": {"message": "No."}}])
async def test_what_goes_wrong_behind_the_whole_answer_is_of_no_account(
    server: ModelServer, providers: Providers, api: Api, behind: JsonValue
) -> None:
    message: JsonValue = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]}
    done: JsonValue = {"type": "response.completed", "response": {"output": [message], "model": "m"}}
    if api == "chat":
        done = {"choices": [{"index": 0, "delta": {"content": "Hi."}, "finish_reason": "stop"}]}
    server.script("scripted", garbles(sse(done, behind), content_type=STREAM, times=None), says("Never."))
    assert (await providers.ask(question(server, api))).text == "Hi."


async def test_a_last_event_that_leaves_out_the_output_is_completed_from_the_others(
    server: ModelServer, providers: Providers
) -> None:
    item: JsonValue = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]}
    events: list[JsonValue] = [
        {"type": "response.output_item.done", "item": item},
        {"type": "response.completed", "response": {"output": [], "model": "m"}},
    ]
    server.script("scripted", garbles(sse(*events), content_type=STREAM), says("Never."))
    assert (await providers.ask(question(server, "responses"))).text == "Hi."


# -- errors in the middle ---------------------------------------------------------------------------------------------


def failed(code: str | None) -> JsonValue:
    return {"type": "response.failed", "response": {"error": code and {"code": code, "message": "No."}, "output": []}}


FAILURES: list[tuple[Api, JsonValue, tuple[str, bool, int | None]]] = [
    ("responses", failed("server_error"), ("ProviderUnavailable", True, None)),
    ("responses", failed("rate_limit_exceeded"), ("ProviderUnavailable", True, None)),
    ("responses", failed("invalid_prompt"), ("ProviderRejected", False, None)),
    ("responses", failed(None), ("ProviderUnavailable", True, None)),
    ("responses", {"type": "error", "code": "server_error", "message": "No."}, ("ProviderUnavailable", True, None)),
    ("responses", {"type": "error", "code": None, "message": None}, ("ProviderUnavailable", True, None)),
    ("responses", {"type": "error", "code": "invalid_prompt", "message": "No."}, ("ProviderRejected", False, None)),
    ("chat", {"error": {"message": "No."}}, ("ProviderUnavailable", True, None)),
    ("chat", {"error": "No."}, ("ProviderUnavailable", True, None)),
    ("chat", {"error": {"message": "No.", "type": "invalid_request_error"}}, ("ProviderRejected", False, None)),
    ("chat", {"error": {"message": "No.", "code": "context_length_exceeded"}}, ("ContextTooLong", False, None)),
    ("chat", {"error": {"message": "No.", "code": "rate_limit_exceeded"}}, ("RateLimited", True, None)),
    ("chat", {"error": {"message": "No.", "code": "insufficient_quota"}}, ("QuotaExceeded", True, 60)),
    ("chat", {"error": {"message": "No.", "code": 502}}, ("ProviderUnavailable", True, None)),
    ("chat", {"error": {"message": "No.", "code": 400}}, ("ProviderRejected", False, None)),
    ("chat", {"error": {"message": "No connected db.", "code": 400}}, ("AuthenticationFailed", True, 60)),
    ("chat", {"error": {"message": "Invalid model name passed in."}}, ("ModelNotFound", True, 60)),
    ("chat", {"error": {"message": "No.", "code": 429}}, ("RateLimited", True, None)),
    ("chat", {"error": {"message": "No.", "code": 401}}, ("AuthenticationFailed", True, 60)),
]


@pytest.mark.parametrize(("api", "event", "expected"), FAILURES)
async def test_a_failure_in_the_middle_has_its_posture(
    server: ModelServer, providers: Providers, api: Api, event: JsonValue, expected: tuple[str, bool, int | None]
) -> None:
    begun: JsonValue = {"type": "response.output_text.delta", "delta": "Half", "choices": []}
    server.script("scripted", garbles(sse(begun, event), content_type=STREAM), says("Hi."))
    found = await failure_of(providers, question(server, api))
    kind, retry, delay = expected
    assert (found.kind, found.retry, found.delay) == (kind, retry, timedelta(seconds=delay) if delay else None)


async def test_a_key_in_a_failure_in_the_middle_is_not_kept(server: ModelServer, providers: Providers) -> None:
    event: JsonValue = {"error": {"message": "Bad key: sk-test-key-1234."}}
    server.script("scripted", garbles(sse(event), content_type=STREAM), says("Hi."))
    assert (await failure_of(providers, question(server, "chat"))).message == "Bad key: [key]."


@both
async def test_a_stream_that_stands_still_is_a_timeout(server: ModelServer, providers: Providers, api: Api) -> None:
    server.script("scripted", says("One two.", delay=9))
    assert (
        await failure_of(providers, question(server, api, timeout=timedelta(seconds=0.3)))
    ).kind == "ProviderTimeout"


# -- servers that do not stream ---------------------------------------------------------------------------------------

PLAIN: dict[Api, JsonValue] = {
    "responses": {"output": [{"type": "message", "role": "assistant", "content": "Hi."}], "model": "m"},
    "chat": {"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}], "model": "m"},
}


@both
async def test_a_server_that_answers_without_a_stream_all_the_same_is_understood(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    server.script("scripted", garbles(json.dumps(PLAIN[api]), content_type="application/json"), says("Never."))
    assert (await providers.ask(question(server, api))).text == "Hi."


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_of_another_content_type_is_read(
    server: ModelServer, providers: Providers, api: Api, *, stream: bool
) -> None:
    server.script("scripted", garbles(json.dumps(PLAIN[api]), content_type="text/plain", times=None), says("Never."))
    assert (await providers.ask(question(server, api, stream=stream))).text == "Hi."


@both
async def test_who_refuses_to_stream_is_not_asked_twice(server: ModelServer, providers: Providers, api: Api) -> None:
    message = "Your organization must be verified to stream this model."
    server.script("scripted", fails(400, message=message, param="stream", code="unsupported_value"), says("Hi."))
    for _ in range(2):
        assert (await providers.ask(question(server, api))).text == "Hi."
    assert [request.body.get("stream") for request in server.requests] == [True, None, None]


async def test_who_does_not_know_stream_options_is_asked_for_a_stream_without(
    server: ModelServer, providers: Providers
) -> None:
    refusal = fails(422, message="Extra inputs are not permitted: body.stream_options")
    server.script("scripted", refusal, says("Hi."))
    for _ in range(2):
        assert (await providers.ask(question(server, "chat"))).text == "Hi."
    assert [request.body.get("stream") for request in server.requests] == [True, True, True]
    assert ["stream_options" in request.body for request in server.requests] == [True, False, False]


# -- chunks as compatible servers send them ---------------------------------------------------------------------------


def of_chunks(*deltas: JsonValue, finish: str = "stop") -> Answer:
    chunks = Chunks(TextSoFar())
    for delta in deltas:
        chunks.read({"choices": [{"index": 0, "delta": delta}]})
    last: JsonValue = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    chunks.read(last)
    return answer_of(chunks.whole(done=False))


def begun(name: str, arguments: JsonValue = "", **more: JsonValue) -> JsonValue:
    return {"tool_calls": [{**more, "function": {"name": name, "arguments": arguments}}]}


def more(arguments: str, **more: JsonValue) -> JsonValue:
    return {"tool_calls": [{**more, "function": {"arguments": arguments}}]}


QUIRKS: list[tuple[list[JsonValue], list[tuple[str, str, str]]]] = [
    ([begun("a", '{"x":', id="1", index=0), more("1}", index=0)], [("1", "a", '{"x":1}')]),
    ([begun("a", "{}", id="1"), begun("b", "{}", id="2")], [("1", "a", "{}"), ("2", "b", "{}")]),
    ([begun("a", "{", id="1"), more("}")], [("1", "a", "{}")]),
    ([begun("a", "{}", id="1", index=0), begun("b", "{}", id="2", index=0)], [("1", "a", "{}"), ("2", "b", "{}")]),
    ([begun("a", "{", id="1", index=0), more("}", id="1", index=0)], [("1", "a", "{}")]),
    ([begun("a", "{", id="1", index=0), more("}", id="9", index=0)], [("1", "a", "{}")]),
    ([begun("a", "{", id="1", index=0), begun("a", "}", id="1", index=0)], [("1", "a", "{}")]),
    ([begun("a", {"x": 1}, id="1", index=0)], [("1", "a", '{"x": 1}')]),
    ([begun("a", None, id="1", index=0)], [("1", "a", "")]),
    (
        [begun("a", "{", id="1", index=0), begun("b", "[", id="2", index=1), more("}", index=0), more("]", index=1)],
        [("1", "a", "{}"), ("2", "b", "[]")],
    ),
]


@pytest.mark.parametrize(("deltas", "expected"), QUIRKS)
def test_calls_are_put_together_however_a_server_sends_them(
    deltas: list[JsonValue], expected: list[tuple[str, str, str]]
) -> None:
    found = tool_calls(of_chunks(*deltas, finish="tool_calls").items)
    assert [(each.call_id, each.tool, each.arguments) for each in found] == expected


@pytest.mark.parametrize("index", ["0", 0, None])
@pytest.mark.parametrize("part", ["delta", "message"])
def test_the_first_choice_is_read_however_it_is_named(index: JsonValue, part: str) -> None:
    chunks = Chunks(TextSoFar())
    chunks.read({"choices": [{"index": index, part: {"content": "Hi."}, "finish_reason": "stop"}, {"index": 1}]})
    assert answer_of(chunks.whole(done=True)).text == "Hi."


def test_content_may_come_in_parts() -> None:
    assert of_chunks({"content": [{"type": "text", "text": "Hi "}]}, {"content": "there"}, {}).text == "Hi there"


async def test_a_character_may_come_in_two_halves(server: ModelServer, providers: Providers) -> None:
    deltas: list[JsonValue] = [{"content": "a\ud83d"}, {"content": "\ude00b \ud83d"}]
    deltas += [begun("a", '{"x": "\ud83d', id="1", index=0), more('\ude00"}', index=0)]
    chunks: list[JsonValue] = [{"choices": [{"delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    server.script("scripted", garbles(sse(*chunks), content_type=STREAM), says("Never."))
    so_far = TextSoFar()
    answer = await providers.ask(question(server, "chat"), so_far)
    live = so_far.snapshot(1, 1)
    assert live is not None
    assert answer.text == live.text == "a😀b \ufffd"
    assert [each.arguments for each in tool_calls(answer.items)] == ['{"x": "😀"}']


@both
@pytest.mark.parametrize("stream", [True, False])
async def test_half_a_character_does_not_keep_an_answer_from_being_written_down(
    server: ModelServer, providers: Providers, api: Api, stream: bool
) -> None:
    server.script("scripted", says("a\ud83d b"))
    answer = await providers.ask(question(server, api, stream=stream))
    assert answer.text == "a\ufffd b"
    assert json.dumps(answer.items, ensure_ascii=False).encode()


@pytest.mark.parametrize("chunk", [None, [], "x", {"choices": [{"delta": {"tool_calls": "x"}}]}])
def test_a_chunk_that_is_none_is_refused(chunk: JsonValue) -> None:
    with pytest.raises(CallError):
        Chunks(TextSoFar()).read(chunk)


@given(st.lists(st.text(max_size=5)), st.lists(st.lists(st.text(max_size=5), min_size=1), max_size=3))
def test_however_it_is_cut_into_chunks_the_answer_is_the_same(words: list[str], arguments: list[list[str]]) -> None:
    deltas: list[JsonValue] = [{"content": word} for word in words]
    for index, pieces in enumerate(arguments):
        deltas.append(begun("a", pieces[0], id=f"call_{index}", index=index))
        deltas += [more(piece, index=index) for piece in pieces[1:]]
    answer = of_chunks(*deltas)
    assert (answer.text or "") == "".join(words)
    assert [each.arguments for each in tool_calls(answer.items)] == ["".join(pieces) for pieces in arguments]


def test_fields_that_we_do_not_know_are_put_together_and_given_back() -> None:
    deltas: list[JsonValue] = [
        {
            "reasoning_content": "Let me",
            "reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "Let me"}],
        },
        {"reasoning_content": " see.", "reasoning_details": [{"index": 0, "text": " see.", "signature": "s1"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "index": 1, "data": "xyz"}], "name": "assistant"},
    ]
    google: JsonValue = {"google": {"thought_signature": "sig"}}
    call: JsonValue = {"index": 0, "id": "a", "extra_content": google, "function": {"name": "add", "arguments": "{}"}}
    answer = of_chunks(*deltas, {"tool_calls": [call]}, finish="tool_calls")
    [message] = messages_of(answer.items)
    assert message["reasoning_content"] == "Let me see."
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "text": "Let me see.", "signature": "s1"},
        {"type": "reasoning.encrypted", "index": 1, "data": "xyz"},
    ]
    assert "name" not in message
    function: JsonValue = {"name": "add", "arguments": "{}"}
    assert message["tool_calls"] == [{"extra_content": google, "id": "a", "type": "function", "function": function}]
    [elsewhere] = messages_of(answer.items, "elsewhere")
    assert elsewhere.keys() == {"role", "content", "tool_calls"}


def test_fields_that_are_too_long_are_not_kept() -> None:
    answer = of_chunks({"content": "Hi.", "reasoning_content": "x" * 300_000})
    assert answer.items == [{"role": "assistant", "content": "Hi."}]
