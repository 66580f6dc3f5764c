"""The data converter: payloads whose encoding nobody knows."""

from __future__ import annotations

import pytest
from temporalio.api.common.v1 import Payload

from assent.runtime.converter import PLAIN, decoded
from assent.wire.messages import Undecodable

ENCODINGS = [b"", b"binary/unknown", b"\xdbM\xba\xfb]\xfev", b"json/plain\xff", b"\x00"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_payload_of_an_unknown_encoding_is_refused_where_a_type_is_declared(encoding: bytes) -> None:
    with pytest.raises(KeyError):
        PLAIN.from_payload(Payload(metadata={"encoding": encoding}, data=b"{}"), dict)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_payload_of_an_unknown_encoding_arrives_where_none_is(encoding: bytes) -> None:
    (value,) = PLAIN.from_payloads([Payload(metadata={"encoding": encoding}, data=b"{}")])
    (told,) = decoded([value])
    assert told == Undecodable(encoding.decode("utf-8", "replace") or "none", 2)
