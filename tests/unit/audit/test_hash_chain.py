"""Every change of a line changes the head of the hash chain."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assent.audit.hash_chain import HashChain, execution_line, missing_line
from assent.wire.digest import canonical
from assent.wire.errors import BundleError

# Few characters, so that a shifted boundary is likely; hex digits, so that a line can look like a head.
lines = st.binary(max_size=70).map(lambda data: data.replace(b"\n", b"")) | st.text('a0",[]{}', max_size=4).map(
    str.encode
)
histories = st.lists(lines, min_size=1, max_size=6)
run_ids = st.text('a",[]\\\n', max_size=4)


def head(history: list[bytes], run_id: str = "w") -> str:
    chain = HashChain(run_id)
    for line in history:
        chain.extend(line)
    return chain.head


def test_the_chain_is_what_its_documentation_says() -> None:
    first = hashlib.sha256(b'["assent.chain.v1","w"]').hexdigest()
    second = hashlib.sha256(first.encode() + b'\n{"execution":"r"}').hexdigest()
    third = hashlib.sha256(second.encode() + b'\n{"eventId":"1"}').hexdigest()
    chain = HashChain("w")
    assert (chain.head, chain.length) == (first, 0)
    chain.extend(execution_line("r"))
    assert (chain.head, chain.length) == (second, 1)
    chain.extend(canonical({"eventId": "1"}))
    assert (chain.head, chain.length) == (third, 2)


@given(histories, st.data())
def test_a_removed_line_changes_the_head(history: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(history) - 1))
    assert head(history[:at] + history[at + 1 :]) != head(history)


@given(histories, st.data())
def test_an_added_line_changes_the_head(history: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(history)))
    assert head([*history[:at], data.draw(lines), *history[at:]]) != head(history)


@given(histories, st.data())
def test_another_order_changes_the_head(history: list[bytes], data: st.DataObject) -> None:
    other = data.draw(st.permutations(history))
    assume(other != history)
    assert head(other) != head(history)


@given(histories, st.data())
def test_an_edited_line_changes_the_head(history: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(history) - 1))
    edited = data.draw(lines)
    assume(edited != history[at])
    assert head([*history[:at], edited, *history[at + 1 :]]) != head(history)


@given(histories, st.data())
def test_bytes_cannot_move_between_lines(history: list[bytes], data: st.DataObject) -> None:
    text = b"".join(history)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    other = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assume(other != history)
    assert head(other) != head(history)


@given(run_ids, run_ids, histories)
def test_the_same_events_of_another_run_have_another_head(one: str, other: str, history: list[bytes]) -> None:
    assume(one != other)
    assert head(history, one) != head(history, other)


def test_a_line_that_holds_a_line_feed_is_refused() -> None:
    chain = HashChain("w")
    before = chain.head
    with pytest.raises(BundleError, match=r"^line 1 of the chain holds a line feed: give the canonical JSON of one"):
        chain.extend(b'{"eventId":"1"}\n{"eventId":"2"}')
    assert (chain.head, chain.length) == (before, 0)


def test_a_missing_execution_does_not_look_like_one_that_is_there() -> None:
    assert json.loads(execution_line("r")) == {"execution": "r"}
    assert json.loads(missing_line("r")) == {"missing": "r"}
    assert head([execution_line("r")]) != head([missing_line("r")])
