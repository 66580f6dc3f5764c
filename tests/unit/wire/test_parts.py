"""Text, images and files in a prompt or message: read, or refused with one line that has none of their bytes."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assent import FilePart, ImagePart, RunRequest, TextPart, data_converter
from assent.audit.event_fields import content_of
from assent.wire.digest import sha256_hex
from assent.wire.errors import MessageError
from assent.wire.limits import INLINE_LIMIT, PARTS_LIMIT
from assent.wire.messages import SendMessage, read, read_request, shown
from assent.wire.parts import content_json, inline_problem, readable
from tests.unit.strategies import json_values

DATA = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
PDF = b"%PDF-" + bytes(range(256))
BASE64 = base64.b64encode(DATA).decode()
IMAGE = {"type": "image", "data": BASE64, "media_type": "image/png"}
URL = {"type": "image", "url": "https://example.com/a.png"}
TEXT = {"type": "text", "text": "What is this?"}


def problem_of(parts: object) -> str:
    """The one line that refuses these parts, the same in a request and in a message."""
    with pytest.raises(MessageError) as caught:
        read_request(({"agent": "a", "input": parts},))
    with pytest.raises(MessageError) as refused:
        read("send_message", ({"content": parts, "by": "bob"},))
    for error in (caught, refused):
        line = str(error.value)
        assert "\n" not in line
        assert len(line) < 1_500
        assert BASE64[:40] not in line
    told = str(caught.value).removeprefix("AgentRun: input").split(': {"agent"', maxsplit=1)[0]
    assert told in str(refused.value)
    return told


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ({"type": "video", "url": "https://x/y"}, ".0: Input tag 'video' found"),
        ({"url": "https://x/y"}, ".0: Unable to extract tag"),
        ("text", ".0: Input should be a valid dictionary"),
        ({"type": "text"}, ".0.text.text: Field required"),
        ({"type": "text", "text": " \n"}, ".0.text.text: it is empty"),
        ({"type": "text", "text": "a\ud83d"}, ".0.text.text: it has half a character"),
        ({"type": "text", "text": 5}, ".0.text.text: Input should be a valid string"),
        ({"type": "image"}, ".0.image: give one of url, file_id and data, not none"),
        ({**URL, "file_id": "file-1"}, ".0.image: give one of url, file_id and data, not url and file_id"),
        ({**IMAGE, "url": "https://x/y"}, ".0.image: give one of url, file_id and data, not url and data"),
        ({**IMAGE, "data": BASE64[:-1]}, ".0.image.data: it is not base64"),
        ({**IMAGE, "data": BASE64 + "\n"}, ".0.image.data: it is not base64"),
        ({**IMAGE, "data": BASE64.replace("+", "-")}, ".0.image.data: it is not base64"),
        ({**IMAGE, "data": ""}, ".0.image.data: it has 0 bytes"),
        ({**IMAGE, "data": "\udc00"}, ".0.image.data: it is not base64"),
        ({**IMAGE, "data": [1, 2]}, ".0.image.data: Input should be a valid bytes"),
        ({"type": "image", "data": BASE64}, ".0.image: data needs its media_type"),
        ({**IMAGE, "media_type": "image/svg+xml"}, ".0.image.media_type: it is not one of image/png, image/jpeg"),
        ({**IMAGE, "type": "file"}, ".0.file.media_type: it is not one of application/pdf"),
        ({**IMAGE, "media_type": "image/jpeg"}, ".0.image: data does not begin as image/jpeg does"),
        ({**URL, "media_type": "image/png"}, ".0.image: media_type goes with data"),
        ({**URL, "mime_type": "image/png"}, ".0.image.mime_type: Extra inputs are not permitted"),
        ({**URL, "sha256": "ab"}, ".0.image.sha256: Extra inputs are not permitted"),
        ({**URL, "name": "a.png"}, ".0.image.name: Extra inputs are not permitted"),
        ({**URL, "url": "http://example.com/a.png"}, ".0.image.url: it is not a URL of up to 4096 characters"),
        ({**URL, "url": "https://a b"}, ".0.image.url: it is not a URL"),
        ({**URL, "url": "https://x/" + "y" * 4_096}, ".0.image.url: it is not a URL"),
        ({**URL, "url": "file:///etc/passwd"}, ".0.image.url: it is not a URL"),
        ({**URL, "url": f"data:image/png;base64,{BASE64}"}, ".0.image.url: a data URL is not allowed: give the bytes"),
        ({"type": "file", "file_id": "a b"}, ".0.file.file_id: a provider's file id"),
        ({"type": "file", "file_id": "f", "name": "a.pdf"}, ".0.file: name goes with data"),
        (
            {"type": "file", "data": BASE64, "media_type": "application/pdf", "name": "a\u202efdp.exe"},
            ".0.file.name: a name has 1 to 200 characters, all of which show",
        ),
    ],
)
def test_a_part_that_does_not_fit_is_refused_in_one_line(part: object, problem: str) -> None:
    assert problem in problem_of([part])


def test_lists_that_do_not_fit_are_refused_in_one_line() -> None:
    assert problem_of([]).startswith(": List should have at least 1 item")
    assert problem_of([TEXT] * 51).startswith(": List should have at most 50 items")
    assert problem_of(URL).startswith(": Input should be a valid string")
    assert (
        problem_of([{**TEXT, "text": "x" * 600_000}] * 2) == ": its texts are 1200004 bytes long; the limit is 1000000"
    )
    half = {**IMAGE, "data": base64.b64encode(DATA.ljust(PARTS_LIMIT // 2 + 1)).decode()}
    assert (
        problem_of([half, half]) == f": its images and files have {PARTS_LIMIT + 2} bytes; the limit is {PARTS_LIMIT}"
    )
    whole = {**IMAGE, "data": base64.b64encode(bytes(PARTS_LIMIT + 1)).decode()}
    assert problem_of([whole]).startswith(f".0.image.data: it has {PARTS_LIMIT + 1} bytes")


@given(json_values | st.dictionaries(st.sampled_from(["type", "data", "url", "text"]), json_values))
def test_whatever_is_sent_as_parts_is_read_or_refused(parts: object) -> None:
    for sent in (parts, [parts]):
        body = {"content": sent, "by": "bob"}
        assert shown([body])
        with contextlib.suppress(MessageError):
            read("send_message", (body,))


PARTS: list[TextPart | ImagePart | FilePart] = [
    TextPart(text="What is this?"),
    ImagePart(url="https://example.com/a.png"),
    ImagePart(data=DATA, media_type="image/png"),
    FilePart(data=PDF, media_type="application/pdf", name="offer.pdf"),
    FilePart(file_id="file-1"),
]


def test_parts_are_the_same_as_values_and_over_the_wire() -> None:
    request = read_request(({"agent": "a", "input": content_json(PARTS)},))
    assert request.input == PARTS
    [payload] = data_converter.payload_converter.to_payloads([RunRequest(agent="a", input=PARTS)])
    assert json.loads(payload.data) == {"agent": "a", "input": content_json(PARTS)}
    message = read("send_message", ({"content": content_json(PARTS), "by": "bob"},))
    assert isinstance(message, SendMessage)
    assert message.content == PARTS


def test_people_are_told_what_each_part_is() -> None:
    about = f"{len(DATA)} bytes, SHA-256 {sha256_hex(DATA)}"
    assert readable(PARTS).split("\n\n") == [
        "What is this?",
        "[image: https://example.com/a.png]",
        f"[image: image/png, {about}]",
        f"[file: offer.pdf, application/pdf, {len(PDF)} bytes, SHA-256 {sha256_hex(PDF)}]",
        "[file: file id file-1]",
    ]


def test_bytes_are_shown_nowhere() -> None:
    with pytest.raises(ValidationError) as caught:
        ImagePart(data=DATA, media_type="image/png", url="https://x/y")
    body = {"content": content_json(PARTS), "by": "bob"}
    # Those that do not fit are shown as well.
    strange = [{"content": IMAGE}, {"content": [{**IMAGE, "data": "%" + BASE64}]}, {"input": [IMAGE], "agent": 5}]
    payloads = data_converter.payload_converter.to_payloads([body])
    texts = [repr(PARTS), str(caught.value), content_of(payloads).text, *(shown([each]) for each in [body, *strange])]
    for text in texts:
        assert repr(DATA)[2:40] not in text
        assert BASE64[:20] not in text
    assert sha256_hex(DATA) in content_of(payloads).text
    assert (content_of(payloads).size, content_of(payloads).sha256) == (
        len(payloads[0].data),
        sha256_hex(payloads[0].data),
    )


def test_what_is_too_large_for_an_input_needs_a_storage() -> None:
    small = ImagePart(data=DATA.ljust(INLINE_LIMIT * 3 // 4 - 100), media_type="image/png")
    assert inline_problem(content_json([small])) is None
    assert inline_problem(content_json("x" * 2_000_000)) is None
    assert "without an external storage" in (inline_problem(content_json([small, TextPart(text="x" * 100)])) or "")
