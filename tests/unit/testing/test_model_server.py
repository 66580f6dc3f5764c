"""The scripted model server, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from aiohttp import ClientPayloadError, ClientSession
from pydantic import JsonValue

from assent.testing import (
    Conversation,
    ModelServer,
    Reply,
    breaks_off,
    call,
    calls,
    fails,
    garbles,
    hangs,
    says,
    thinks,
)
from assent.testing._requests import BadRequestError, read_responses

JsonObject = dict[str, JsonValue]


@dataclass
class Client:
    """Posts JSON to the server; answers the status and the body."""

    server: ModelServer
    session: ClientSession

    async def post(self, path: str, body: object) -> tuple[int, JsonObject]:
        """Any body to any path."""
        async with self.session.post(f"{self.server.url}/{path}", json=body) as answer:
            return answer.status, await answer.json()

    async def respond(self, *items: JsonObject, **more: object) -> tuple[int, JsonObject]:
        """To the Responses API."""
        return await self.post("responses", {"model": "m", "input": items or "Hi", "store": False, **more})

    async def complete(self, *messages: JsonObject, **more: object) -> tuple[int, JsonObject]:
        """To the Chat Completions API."""
        return await self.post("chat/completions", {"model": "m", "messages": messages or [USER], **more})


USER: JsonObject = {"role": "user", "content": "Hi"}


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with ModelServer() as server, ClientSession() as session:
        yield Client(server, session)


def output_of(body: JsonObject) -> list[JsonObject]:
    output = body["output"]
    assert isinstance(output, list)
    return [item for item in output if isinstance(item, dict)]


def message_of(body: JsonObject) -> str:
    error = body["error"]
    assert isinstance(error, dict)
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


def answer(body: JsonObject, output: str = "done") -> list[JsonObject]:
    items = [{key: value for key, value in item.items() if key != "status"} for item in output_of(body)]
    wanted = [item["call_id"] for item in items if item["type"] == "function_call"]
    return [*items, *({"type": "function_call_output", "call_id": one, "output": output} for one in wanted)]


async def test_the_turn_is_counted_in_the_conversation_so_runs_do_not_disturb_each_other(client: Client) -> None:
    client.server.script("m", calls(call("a"), call("b")), says("Done."))
    results = await asyncio.gather(*(client.respond({"role": "user", "content": str(n)}) for n in range(20)))
    ids = [item["call_id"] for _, body in results for item in output_of(body)]
    assert len(set(map(str, ids))) == 40
    again = await client.respond({"role": "user", "content": "3"})
    assert output_of(again[1]) == output_of(results[3][1])
    status, body = await client.respond({"role": "user", "content": "3"}, *answer(again[1]))
    assert status == 200
    assert "Done." in json.dumps(body)


async def test_a_failure_happens_its_number_of_times_in_each_conversation(client: Client) -> None:
    client.server.script("m", fails(503, times=2), says("Hi."))
    one = [(await client.respond())[0] for _ in range(3)]
    other = [(await client.respond({"role": "user", "content": "other"}))[0] for _ in range(3)]
    assert one == other == [503, 503, 200]


async def test_a_failure_without_number_happens_every_time(client: Client) -> None:
    client.server.script("m", fails(500, times=None), says("Hi."))
    assert [(await client.complete())[0] for _ in range(3)] == [500] * 3


async def test_several_things_may_go_wrong_before_one_answer(client: Client) -> None:
    client.server.script("m", fails(429), hangs(0.01), garbles("{}", content_type="application/json"), says("Hi."))
    found = [await client.complete() for _ in range(3)]
    assert [status for status, _ in found] == [429, 200, 200]
    assert found[1][1] == {}


async def test_half_a_response_is_a_broken_connection(client: Client) -> None:
    client.server.script("m", breaks_off(), says("Hi."))
    with pytest.raises(ClientPayloadError):
        await client.respond()
    assert (await client.respond())[0] == 200


async def test_a_step_may_look_at_the_conversation(client: Client) -> None:
    def report(seen: Conversation) -> Reply:
        return says(f"{seen.user} {seen.last_output} {seen.turn} {seen.instructions} {seen.tools}")

    client.server.script("m", calls(call("a")), report)
    tool: JsonObject = {"type": "function", "name": "a", "parameters": {"type": "object"}}
    _, first = await client.respond(tools=[tool])
    _, second = await client.respond(USER, *answer(first, "7"), instructions="Be brief.", tools=[tool])
    assert "['Hi'] 7 1 Be brief. ['a']" in json.dumps(second)


async def test_a_function_alone_answers_every_turn_and_may_fail_first(client: Client) -> None:
    client.server.script("m", lambda seen: [fails(500), says(f"turn {seen.turn}")])
    assert (await client.complete())[0] == 500
    said: JsonObject = {"role": "assistant", "content": "x"}
    assert "turn 0" in json.dumps(await client.complete())
    assert (await client.complete(USER, said, USER))[0] == 500
    assert "turn 1" in json.dumps(await client.complete(USER, said, USER))


async def test_a_step_that_raises_says_so(client: Client) -> None:
    client.server.script("m", lambda seen: says(seen.user[9]))
    status, body = await client.respond()
    assert status == 400
    assert "IndexError" in message_of(body)


async def test_a_script_that_runs_out_and_an_unknown_model_say_so(client: Client) -> None:
    client.server.script("m", says("Hi."))
    status, body = await client.respond(USER, {"role": "assistant", "content": "Hi."}, USER)
    assert (status, message_of(body)) == (400, "The script of model `m` has 1 answers; turn 2 was asked for.")
    status, body = await client.complete(model="other")
    assert status == 404
    assert "`other` does not exist" in message_of(body)


@pytest.mark.parametrize("drop", ["reasoning", "encrypted_content"])
async def test_reasoning_is_demanded_back(client: Client, drop: str) -> None:
    client.server.script("m", thinks("Hm."), calls(call("a")), says("Done."))
    _, first = await client.respond()
    whole = answer(first)
    assert (await client.respond(USER, *whole))[0] == 200
    bare = [{key: value for key, value in item.items() if key != drop} for item in whole if item["type"] != drop]
    status, body = await client.respond(USER, *bare)
    assert status == 400
    assert "required 'reasoning' item" in message_of(body) or "not found" in message_of(body)


CALL: JsonObject = {"type": "function_call", "call_id": "a", "name": "a", "arguments": "{}"}
OUTPUT: JsonObject = {"type": "function_call_output", "call_id": "a", "output": "1"}


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([CALL], "No tool output found for function call a."),
        ([OUTPUT], "No tool call found for function call output with call_id a."),
        ([CALL, OUTPUT, OUTPUT], "No tool call found"),
        ([CALL, CALL, OUTPUT], "Duplicate function call"),
        ([{**CALL, "call_id": "x" * 65}], "Invalid 'input[0].call_id': string too long."),
        ([{**CALL, "arguments": {}}], "expected a string"),
        ([{"type": "function_call"}], "Missing required parameter: 'input[0].call_id'."),
        ([{**USER, "colour": 1}], "Unknown parameter: 'input[0].colour'."),
        ([{"type": "mystery"}], "Invalid value: 'mystery'."),
        ([{"role": "assistant", "content": [{"type": "input_text", "text": ""}]}], "Invalid value: 'input_text'."),
    ],
)
async def test_broken_conversations_are_refused(client: Client, items: list[JsonObject], words: str) -> None:
    client.server.script("m", lambda _: says("Hi."))
    status, body = await client.respond(*items)
    assert status == 400
    assert words in message_of(body)


PNG, PDF = "data:image/png;base64,aGk=", "data:application/pdf;base64,aGk="
IMAGE: JsonObject = {"type": "input_image", "detail": "auto", "image_url": PNG}
FILE: JsonObject = {"type": "input_file", "filename": "a.pdf", "file_data": PDF}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (IMAGE, ""),
        ({"type": "input_image", "file_id": "file-1"}, ""),
        ({**IMAGE, "image_url": "https://x/y.png"}, ""),
        (FILE, ""),
        ({**FILE, "file_data": "data:text/csv;base64,aGk="}, ""),
        ({"type": "input_file", "file_url": "https://x/y.pdf"}, ""),
        ({"type": "image_url", "image_url": {"url": PNG}}, "Invalid value: 'image_url'."),
        ({**IMAGE, "media_type": "image/png"}, "Unknown parameter: 'input[0].content[0].media_type'."),
        ({"type": "input_image"}, "Missing required parameter: 'input[0].content[0].image_url'."),
        ({**IMAGE, "image_url": "aGk="}, "got a value without the 'data:' prefix"),
        ({**IMAGE, "image_url": "data:;base64,aGk="}, "got unsupported MIME type ''"),
        ({**IMAGE, "image_url": "data:image/bmp;base64,aGk="}, "got unsupported MIME type 'image/bmp'"),
        ({**IMAGE, "image_url": "data:image/png;base64,"}, "got empty base64-encoded bytes"),
        ({**IMAGE, "image_url": "data:image/png;base64,aGk"}, "got an invalid base64-encoded value"),
        ({"type": "input_file", "file_data": PDF}, "Missing required parameter: 'input[0].content[0]'."),
        ({"type": "input_file", "filename": "a.pdf"}, "Missing required parameter: 'input[0].content[0]'."),
        ({**FILE, "file_data": "aGk="}, "got a value without the 'data:' prefix"),
    ],
)
async def test_images_and_files_that_a_response_does_not_take_are_refused(
    client: Client, part: JsonObject, words: str
) -> None:
    client.server.script("m", lambda _: says("Hi."))
    status, body = await client.respond({"role": "user", "content": [part]})
    assert status == (400 if words else 200)
    assert not words or words in message_of(body)
    assert (await client.respond({"role": "assistant", "content": [part]}))[0] == 400


CHAT_IMAGE: JsonObject = {"type": "image_url", "image_url": {"url": PNG}}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (CHAT_IMAGE, ""),
        ({"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}, ""),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}, ""),
        ({"type": "file", "file": {"file_id": "file-1"}}, ""),
        (IMAGE, "Invalid value: 'input_image'."),
        ({"type": "image_url", "image_url": PNG}, "expected an object"),
        ({"type": "image_url", "image_url": {"file_id": "file-1"}}, "Unknown parameter"),
        ({**CHAT_IMAGE, "detail": "low"}, "Unknown parameter: 'messages[0].content[1].detail'."),
        ({"type": "image_url", "image_url": {"url": "data:image/x;base64,aGk="}}, "unsupported MIME type 'image/x'"),
        ({"type": "file", "file": {"filename": "a.pdf"}}, "'messages[0].content[1].file.file_id'."),
        ({"type": "file", "file": {"file_url": "https://x/y.pdf"}}, "Unknown parameter"),
        ({"type": "file", "file": {"file_data": "data:text/csv;base64,aGk="}}, "an application/pdf MIME type"),
    ],
)
async def test_images_and_files_that_a_chat_does_not_take_are_refused(
    client: Client, part: JsonObject, words: str
) -> None:
    client.server.script("m", lambda seen: says(str(seen.user)))
    status, body = await client.complete({"role": "user", "content": [{"type": "text", "text": "Look."}, part]})
    assert status == (400 if words else 200)
    assert (words or "['Look.']") in (message_of(body) if words else json.dumps(body))
    for role in ("assistant", "system", "developer"):
        status, body = await client.complete(USER, {"role": role, "content": [part]})
        assert status == 400
        assert words or "only allowed for messages with role 'user'" in message_of(body)


def test_too_many_bytes_of_images_and_files_are_refused() -> None:
    large: JsonObject = {**IMAGE, "image_url": f"data:image/png;base64,{'A' * 34_000_000}"}
    read_responses({"model": "m", "input": [{"role": "user", "content": [large]}]})
    with pytest.raises(BadRequestError, match="the limit is 50000000"):
        read_responses({"model": "m", "input": [{"role": "user", "content": [large, large]}]})


TOOL_CALL: JsonObject = {"id": "a", "type": "function", "function": {"name": "a", "arguments": "{}"}}
CALLING: JsonObject = {"role": "assistant", "content": "", "tool_calls": [TOOL_CALL]}
RESULT: JsonObject = {"role": "tool", "tool_call_id": "a", "content": "1"}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([USER, CALLING], "must be followed by tool messages"),
        ([USER, CALLING, USER, RESULT], "must be followed by tool messages"),
        ([USER, RESULT], "must be a response to a preceding message"),
        ([{"role": "user", "content": None}], "got null"),
        ([{"role": "robot", "content": ""}], "Invalid value: 'robot'."),
    ],
)
async def test_broken_chats_are_refused(client: Client, messages: list[JsonObject], words: str) -> None:
    client.server.script("m", lambda _: says("Hi."))
    status, body = await client.complete(*messages)
    assert status == 400
    assert words in message_of(body)
    assert (await client.complete(USER, CALLING, RESULT))[0] == 200


BROKEN: list[tuple[JsonObject, str]] = [
    ({"temprature": 1}, "Unknown parameter: 'temprature'."),
    ({"stream_options": {}}, "only allowed when 'stream' is enabled"),
    ({"previous_response_id": "resp_1"}, "does not support 'previous_response_id'"),
    ({"tools": [{"type": "function"}]}, "Missing required parameter: 'tools[0].name'."),
    ({"tools": [{"type": "function", "name": "a b"}]}, "does not match pattern"),
    ({"tools": [{"type": "function", "name": "a", "parameters": {}}]}, "Invalid schema for function 'a'"),
    (
        {"text": {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": {"type": "object"}}}},
        "Invalid schema for response_format 'x'",
    ),
]


@pytest.mark.parametrize(("more", "words"), BROKEN)
async def test_broken_requests_are_refused(client: Client, more: JsonObject, words: str) -> None:
    client.server.script("m", says("Hi."))
    status, body = await client.respond(**more)
    assert status == 400
    assert words in message_of(body)


async def test_a_request_without_model_or_json_is_refused(client: Client) -> None:
    assert (await client.post("responses", {"input": "Hi"}))[0] == 400
    assert (await client.post("chat/completions", [1]))[0] == 400
    async with client.session.post(f"{client.server.url}/responses", data=b"{") as answered:
        assert answered.status == 400


async def test_everything_received_is_recorded(client: Client) -> None:
    client.server.script("m", says("Hi."))
    await client.respond()
    await client.complete()
    first, second = client.server.requests
    assert (first.model, first.api, second.api) == ("m", "responses", "chat")
    assert first.body["input"] == "Hi"
    assert first.headers["content-type"] == "application/json"
    assert first.at <= second.at


async def test_a_server_may_come_back_on_its_port(client: Client) -> None:
    client.server.script("m", says("Hi."))
    await client.server.stop()
    await client.server.start()
    assert (await client.respond())[0] == 200


def test_a_program_that_is_not_async_runs_it_in_a_thread() -> None:
    with ModelServer.in_thread() as server:
        server.script("m", says("Hi."))
        with urllib.request.urlopen(f"{server.url}/models") as answered:
            assert b'"id":"m"' in answered.read()
