"""Images and files, in the shapes that the `openai` package declares for both APIs."""

from __future__ import annotations

import base64
from typing import cast

import pytest
from openai.types.chat import ChatCompletionContentPartParam
from openai.types.responses import ResponseInputContentParam
from pydantic import TypeAdapter

from assent import FilePart, ImagePart, TextPart
from assent.activities.providers import Providers, Question, chat, responses
from assent.agents.models import OpenAIChat, OpenAIResponses
from assent.testing import ModelServer, says
from assent.wire.conversation import user_message
from assent.wire.parts import Part, attachments_of

from .provider_calls import failure_of, model

DATA, FILE = b"\x89PNG\r\n\x1a\n", b"%PDF-1.7"
IMAGE = f"data:image/png;base64,{base64.b64encode(DATA).decode()}"
PDF = f"data:application/pdf;base64,{base64.b64encode(FILE).decode()}"
BOTH: list[Part] = [
    TextPart(text="Look."),
    ImagePart(data=DATA, media_type="image/png"),
    ImagePart(url="https://example.com/a.png"),
    FilePart(data=FILE, media_type="application/pdf"),
    FilePart(data=FILE, media_type="application/pdf", name="offer.pdf"),
    FilePart(file_id="file-1"),
]
RESPONSES_ONLY: list[Part] = [ImagePart(file_id="file-2"), FilePart(url="https://example.com/a.pdf")]


def question(of: OpenAIChat | OpenAIResponses, parts: list[Part]) -> Question:
    return Question(of, None, [user_message(parts)], attachments=attachments_of(parts))


def content_of(message: object) -> object:
    return cast("dict[str, object]", cast("list[object]", message)[0])["content"]


def test_the_responses_api_gets_all_of_them() -> None:
    sent = content_of(responses.body_of(question(OpenAIResponses("m"), [*BOTH, *RESPONSES_ONLY]))["input"])
    assert sent == [
        {"type": "input_text", "text": "Look."},
        {"type": "input_image", "detail": "auto", "image_url": IMAGE},
        {"type": "input_image", "detail": "auto", "image_url": "https://example.com/a.png"},
        {"type": "input_file", "filename": "file.pdf", "file_data": PDF},
        {"type": "input_file", "filename": "offer.pdf", "file_data": PDF},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_image", "detail": "auto", "file_id": "file-2"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
    ]
    TypeAdapter(list[ResponseInputContentParam]).validate_python(sent)


def test_the_chat_completions_api_gets_those_that_it_has_a_place_for() -> None:
    sent = content_of(chat.body_of(question(OpenAIChat("m"), BOTH))["messages"])
    assert sent == [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": IMAGE}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"filename": "file.pdf", "file_data": PDF}},
        {"type": "file", "file": {"filename": "offer.pdf", "file_data": PDF}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    TypeAdapter(list[ChatCompletionContentPartParam]).validate_python(sent)


@pytest.mark.parametrize("part", RESPONSES_ONLY)
async def test_what_it_has_no_place_for_ends_the_call_in_one_line(part: Part) -> None:
    async with ModelServer() as server:
        server.script("scripted", says("Hi."))
        providers = Providers()
        failed = await failure_of(providers, question(cast("OpenAIChat", model(server, "chat")), [part]))
        await providers.close()
        assert not server.requests
    assert (failed.kind, failed.retry) == ("ProviderRejected", False)
    assert failed.message.endswith(": send its bytes, or use OpenAIResponses.")
