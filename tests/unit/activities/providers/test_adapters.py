"""Both adapters against the scripted server, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web
from openai import AsyncOpenAI
from pydantic import JsonValue

from assent.activities.providers import (
    ErrorHandling,
    Providers,
    Question,
    as_application_error,
)
from assent.agents.models import OpenAIChat, OpenAIResponses
from assent.testing import (
    ModelServer,
    breaks_off,
    call,
    calls,
    fails,
    garbles,
    hangs,
    says,
    thinks,
)
from assent.wire.conversation import tool_calls, user_message
from assent.wire.protocol import Item
from tests.unit.activities.providers.provider_calls import (
    EVERY_FAILURE,
    Api,
    answered,
    both,
    failure_of,
    model,
    question,
)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-key-1234")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@both
async def test_words_come_back_as_text_and_as_an_item(server: ModelServer, providers: Providers, api: Api) -> None:
    server.script("scripted", says("Grüße, 世界 🌍"))
    answer = await providers.ask(question(model(server, api)))
    assert answer.text == "Grüße, 世界 🌍"
    assert answer.items[0]["role"] == "assistant"
    assert "status" not in answer.items[0]
    assert answer.model == "scripted"
    assert answer.usage.requests == 1
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


@both
async def test_parallel_calls_keep_their_order_and_their_exact_arguments(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    server.script("scripted", calls(call("add", raw='{"x" : 1.0}'), call("drop"), text="Both."), says("Done."))
    first = await providers.ask(question(model(server, api)))
    asked = tool_calls(first.items)
    assert [(one.tool, one.arguments) for one in asked] == [("add", '{"x" : 1.0}'), ("drop", "{}")]
    assert len({one.call_id for one in asked}) == 2
    assert first.text == "Both."
    second = await providers.ask(question(model(server, api), user_message("Hi"), *answered(first)))
    assert second.text == "Done."


@both
async def test_a_message_that_arrives_while_a_call_waits_is_accepted(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    server.script("scripted", calls(call("add", x=1)), says("Done."))
    first = await providers.ask(question(model(server, api)))
    asked, output = answered(first)
    items = [user_message("Hi"), asked, user_message("Hurry!"), output]
    assert (await providers.ask(question(model(server, api), *items))).text == "Done."


@both
async def test_call_ids_are_unique_even_where_the_server_repeats_them(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    twice = calls(call("add", x=1), call("add", x=2), ids=["call_0", "call_0"])
    server.script("scripted", twice, twice, says("Done."))
    items: list[Item] = [user_message("Hi")]
    for _ in range(2):
        items += answered(await providers.ask(question(model(server, api), *items)))
    assert len({one.call_id for one in tool_calls(items)}) == 4
    assert (await providers.ask(question(model(server, api), *items))).text == "Done."


@both
async def test_structured_output_is_asked_for_strictly_where_the_schema_allows(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    server.script("scripted", says({"city": "Köln"}))
    schema: dict[str, JsonValue] = {"type": "object", "properties": {"city": {"type": "string", "default": "x"}}}
    asked = Question(model(server, api), None, [user_message("Where?")], output_schema=schema, output_name="Place")
    answer = await providers.ask(asked)
    assert json.loads(answer.text or "") == {"city": "Köln"}
    body = json.dumps(server.requests[-1].body)
    assert '"strict": true' in body
    assert '"additionalProperties": false' in body


@both
async def test_a_free_form_schema_is_sent_as_it_is(server: ModelServer, providers: Providers, api: Api) -> None:
    server.script("scripted", says({}))
    asked = Question(model(server, api), None, [user_message("Where?")], output_schema={"type": "object"})
    await providers.ask(asked)
    assert '"strict": false' in json.dumps(server.requests[-1].body)


async def test_reasoning_is_passed_back_verbatim(server: ModelServer, providers: Providers) -> None:
    server.script("scripted", thinks("Hm."), calls(call("add", x=1)), thinks(), says("Two."), says("Bye."))
    items: list[Item] = [user_message("Hi")]
    for _ in range(2):
        answer = await providers.ask(question(model(server, "responses"), *items))
        items += answered(answer)
    assert [item["type"] for item in items if item.get("type") == "reasoning"] == ["reasoning"] * 2
    assert items[1]["encrypted_content"]
    last = await providers.ask(question(model(server, "responses"), *items, user_message("Bye")))
    assert last.text == "Bye."
    assert server.requests[-1].body["store"] is False


async def test_what_needs_reasoning_that_is_not_there_is_sent_without_its_id(
    server: ModelServer, providers: Providers
) -> None:
    server.script("scripted", thinks(), calls(call("add", x=1)), says("Two."))
    first = await providers.ask(question(model(server, "responses")))
    bare = [item for item in answered(first) if item.get("type") != "reasoning"]
    put = question(model(server, "responses"), user_message("Hi"), *bare)
    assert (await providers.ask(put)).text == "Two."
    assert (await providers.ask(put)).text == "Two."
    assert len(server.requests) == 4  # Refused once: it is remembered of these items.


async def test_a_model_that_does_not_reason_is_not_asked_for_reasoning_twice(
    server: ModelServer, providers: Providers
) -> None:
    refusal = "Encrypted content is not supported with this model."
    server.script("scripted", fails(400, message=refusal, param="include"), says("One."), says("Two."))
    first = await providers.ask(question(model(server, "responses")))
    items = [user_message("Hi"), *first.items, user_message("More")]
    assert (await providers.ask(question(model(server, "responses"), *items))).text == "Two."
    assert ["include" in request.body for request in server.requests] == [True, False, False]


@both
async def test_a_refusal_becomes_the_text(server: ModelServer, providers: Providers, api: Api) -> None:
    server.script("scripted", says("I cannot help with that.", finish="refusal"))
    answer = await providers.ask(question(model(server, api)))
    assert answer.text == "I cannot help with that."
    assert "refusal" not in json.dumps(answer.items)


@both
async def test_a_cut_answer_is_still_text_and_a_filtered_one_says_so(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    server.script("scripted", says("Half a sen", finish="length"), says("Well", finish="content_filter"))
    first = await providers.ask(question(model(server, api)))
    assert first.text == "Half a sen"
    items = [user_message("Hi"), *first.items, user_message("More")]
    assert "content filter" in ((await providers.ask(question(model(server, api), *items))).text or "")


@both
async def test_retry_after_header_beats_backoff(server: ModelServer, providers: Providers, api: Api) -> None:
    server.script("scripted", fails(429, retry_after=2), says("Hi."))
    found = await failure_of(providers, question(model(server, api)))
    assert (found.kind, found.retry, found.delay) == ("RateLimited", True, timedelta(seconds=2))
    assert (await providers.ask(question(model(server, api)))).text == "Hi."


@both
async def test_a_fraction_of_a_second_is_read_from_retry_after_ms(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    server.script("scripted", fails(429, retry_after=0.05))
    assert (await failure_of(providers, question(model(server, api)))).delay == timedelta(milliseconds=50)


@both
@pytest.mark.parametrize(
    ("status", "kind", "retry", "delay"),
    [
        (400, "ProviderRejected", False, None),
        (401, "AuthenticationFailed", True, 60),
        (403, "PermissionDenied", True, 60),
        (404, "ModelNotFound", True, 60),
        (408, "ProviderTimeout", True, None),
        (409, "ProviderUnavailable", True, None),
        (413, "ContextTooLong", False, None),
        (422, "ProviderRejected", False, None),
        (429, "RateLimited", True, None),
        (500, "ProviderUnavailable", True, None),
        (503, "ProviderUnavailable", True, None),
    ],
)
async def test_every_status_has_its_posture(
    server: ModelServer, providers: Providers, api: Api, status: int, kind: str, retry: bool, delay: int | None
) -> None:
    server.script("scripted", fails(status, message="The provider's own words."))
    found = await failure_of(providers, question(model(server, api)))
    expected = timedelta(seconds=delay) if delay else None
    assert found == ErrorHandling(kind, "The provider's own words.", retry, expected)


async def test_the_client_itself_does_not_retry(server: ModelServer, providers: Providers) -> None:
    server.script("scripted", fails(500), says("Hi."))
    await failure_of(providers, question(model(server, "chat")))
    assert len(server.requests) == 1


@both
async def test_a_provider_that_hangs_is_a_timeout(server: ModelServer, providers: Providers, api: Api) -> None:
    server.script("scripted", hangs(30), says("Hi."))
    begun = time.perf_counter()
    found = await failure_of(providers, question(model(server, api, timeout=timedelta(seconds=0.2))))
    assert time.perf_counter() - begun < 2
    assert (found.kind, found.retry) == ("ProviderTimeout", True)
    assert (await providers.ask(question(model(server, api, timeout=timedelta(seconds=2))))).text == "Hi."


@both
async def test_half_a_response_is_retried(server: ModelServer, providers: Providers, api: Api) -> None:
    server.script("scripted", breaks_off(), says("Hi."))
    assert (await failure_of(providers, question(model(server, api)))).retry
    assert (await providers.ask(question(model(server, api)))).text == "Hi."


@both
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<html>", "text/html"),
        ('{"id": "x', "application/json"),
        ("{}", "application/json"),
        ('{"choices": []}', "application/json"),
        ("null", "application/json"),
    ],
)
async def test_an_answer_that_is_none_is_retried(
    server: ModelServer, providers: Providers, api: Api, body: str, content_type: str
) -> None:
    server.script("scripted", garbles(body, content_type=content_type), says("Hi."))
    found = await failure_of(providers, question(model(server, api)))
    assert (found.kind, found.retry) == ("UnreadableAnswer", True)


@both
async def test_a_refused_connection_is_retried(providers: Providers, api: Api) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    found = await failure_of(providers, question(model(url, api)))
    assert (found.kind, found.retry, found.delay) == ("ProviderUnavailable", True, None)
    assert "127.0.0.1" in found.message


async def test_a_trickling_server_is_a_timeout_too(providers: Providers) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.02)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", trickle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    found = await failure_of(providers, question(model(url, "chat", timeout=timedelta(seconds=0.3))))
    await runner.cleanup()
    assert found.kind == "ProviderTimeout"


async def test_a_missing_key_names_the_variable_and_is_retried_slowly(
    providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    found = await failure_of(providers, question(OpenAIChat(id="gpt-5")))
    assert (found.kind, found.retry, found.delay) == ("AuthenticationFailed", True, timedelta(seconds=60))
    assert "OPENAI_API_KEY" in found.message
    assert "\n" not in found.message


async def test_a_server_on_this_machine_needs_no_key(
    server: ModelServer, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    server.script("scripted", says("Hi."))
    assert (await providers.ask(question(model(server, "chat")))).text == "Hi."


async def test_the_base_url_is_taken_from_the_environment(
    server: ModelServer, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    server.script("m", says("Hi."))
    assert (await providers.ask(question(OpenAIResponses(id="m")))).text == "Hi."


async def test_a_renewed_key_is_used_without_a_new_worker(
    server: ModelServer, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script("scripted", says("Hi."))
    server.api_key = "sk-renewed-5678"
    asked = question(model(server, "responses"))
    assert (await failure_of(providers, asked)).kind == "AuthenticationFailed"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-renewed-5678")
    assert (await providers.ask(asked)).text == "Hi."


async def test_a_key_that_the_provider_repeats_is_not_kept(
    server: ModelServer, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "very secret indeed")
    server.script("scripted", fails(401, message="Bad key: very secret indeed, or sk-proj-abcdefgh."))
    found = await failure_of(providers, question(model(server, "chat")))
    assert found.message == "Bad key: [key], or [key]"


async def test_no_tools_means_no_word_about_parallel_calls(server: ModelServer, providers: Providers) -> None:
    server.script("scripted", says("Hi."))
    await providers.ask(Question(model(server, "chat"), None, [user_message("Hi")]))
    assert set(server.requests[-1].body) == {"model", "messages", "stream", "stream_options"}


@both
async def test_settings_reach_the_provider_under_its_own_names(
    server: ModelServer, providers: Providers, api: Api
) -> None:
    server.script("scripted", says("Hi."))
    changed = replace(model(server, api), temperature=0.5, max_output_tokens=9, reasoning_effort="low")
    await providers.ask(question(changed))
    body = server.requests[-1].body
    assert body["temperature"] == 0.5
    assert body["max_output_tokens" if api == "responses" else "max_completion_tokens"] == 9
    assert (body.get("reasoning") or body.get("reasoning_effort")) in ({"effort": "low"}, "low")
    assert "top_p" not in body


async def test_a_conversation_may_change_its_api(server: ModelServer, providers: Providers) -> None:
    server.script("scripted", thinks(), calls(call("add", x=1), text="Let me see."), says("Two."), says("Three."))
    items: list[Item] = [user_message("Hi")]
    items += answered(await providers.ask(question(model(server, "responses"), *items)))
    items += (await providers.ask(question(model(server, "chat"), *items))).items
    last = await providers.ask(question(model(server, "responses"), *items, user_message("More")))
    assert last.text == "Three."


async def test_an_application_error_carries_kind_retry_and_delay(server: ModelServer, providers: Providers) -> None:
    server.script("scripted", fails(400, message="No."))
    with pytest.raises(EVERY_FAILURE) as caught:
        await providers.ask(question(model(server, "chat")))
    error = as_application_error(caught.value)
    assert (error.message, error.type, error.non_retryable) == ("No.", "ProviderRejected", True)


async def test_the_openai_package_itself_works_against_the_server(server: ModelServer) -> None:
    server.script("scripted", thinks("Hm."), calls(call("add", x=1), text="Now."), says("Done."))
    async with AsyncOpenAI(base_url=server.url, api_key="x", max_retries=0) as client:
        response = await client.responses.create(model="scripted", input="Hi", store=False)
        assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
        assert response.output_text == "Now."
        assert response.usage is not None
        completion = await client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "Hi"}], temperature=0.1
        )
        assert completion.choices[0].finish_reason == "tool_calls"
        assert completion.choices[0].message.tool_calls is not None
        assert [found.id async for found in client.models.list()] == ["scripted"]
