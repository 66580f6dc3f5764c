"""The codec server lets Temporal's Web UI read encrypted payloads, for people who are signed in, and for it alone."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import pytest
from google.protobuf.json_format import MessageToJson
from starlette.types import ASGIApp
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import PayloadCodec

from assent import AgentClient
from assent.web.app import application
from assent.web.settings import WebSettings
from assent.wire.errors import ConfigurationError
from tests.support.encrypting_codec import Encrypting
from tests.web.visitor import ORIGIN, PROXY, Visitor

UI = "https://temporal.example.com"


def page(codec: PayloadCodec | None) -> ASGIApp:
    settings = WebSettings.read(
        url=ORIGIN, trusted_header="X-Forwarded-User", trusted_proxies=[PROXY], codec_origins=[UI]
    )
    temporal = SimpleNamespace(namespace="default", data_converter=SimpleNamespace(payload_codec=codec))
    return application(cast("AgentClient", SimpleNamespace(temporal=temporal)), settings)


async def test_payloads_are_decoded_for_the_web_ui_of_a_person_who_is_signed_in() -> None:
    app, plain = page(Encrypting()), Payload(metadata={"encoding": b"json/plain"}, data=b'{"amount": 1}')
    bob, no_one = Visitor.at(app, "bob"), Visitor.at(app)
    sealed = MessageToJson(Payloads(payloads=await Encrypting().encode([plain])))
    headers = {"origin": UI, "content-type": "application/json", "x-namespace": "default"}
    asked = await no_one.http.options("/decode", headers=headers)
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, UI)
    assert asked.headers["access-control-allow-credentials"] == "true"

    decoded = await bob.http.post("/decode", content=sealed, headers=headers)
    assert decoded.headers["access-control-allow-origin"] == UI
    assert decoded.json() == json.loads(MessageToJson(Payloads(payloads=[plain])))
    encoded = await bob.http.post("/encode", content=decoded.content, headers=headers)
    assert "amount" not in encoded.text
    again = await bob.http.post("/decode", content=encoded.content, headers=headers)
    assert again.json() == decoded.json()

    tampered = sealed.replace('"data": "', '"data": "AAAA')
    for visitor, content, changed, status in (
        (no_one, sealed, {}, 401),
        (bob, sealed, {"origin": "https://evil.example"}, 403),
        (bob, sealed, {"x-namespace": "another"}, 404),
        (bob, "{", {}, 400),
        (bob, "\ufffe", {}, 400),
        (bob, tampered, {}, 400),
    ):
        answer = await visitor.http.post("/decode", content=content.encode(), headers=headers | changed)
        assert answer.status_code == status, answer.text
        assert "amount" not in answer.text
    unknown = await bob.http.post("/decode", content=sealed, headers={"content-type": "application/json"})
    assert unknown.status_code == 403


def test_without_a_codec_there_is_nothing_to_serve() -> None:
    with pytest.raises(ConfigurationError, match="no codec to serve"):
        page(None)
