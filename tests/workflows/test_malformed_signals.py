"""Whatever is sent, the run goes on, and what was sent is kept and shown."""

from __future__ import annotations

import json

import pytest
from pydantic import JsonValue
from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.common import RawValue

from assent.testing import Environment, call
from assent.wire.text import bounded, code
from tests.support import tools
from tests.support.run_probes import task_faults
from tests.workflows.test_waiting_and_cancelling import Waiting, waiting

WHO: dict[str, JsonValue] = {"id": "12345678", "by": "eve"}
SIGNALS = ("approve", "reject", "submit_result", "submit_input", "send_message", "revoke")
MEBIBYTE = "x" * 1_048_576


def raw(text: bytes, encoding: bytes = b"json/plain") -> RawValue:
    """A payload as some other client may make it."""
    return RawValue(Payload(metadata={"encoding": encoding}, data=text))


SHAPES: dict[str, list[object]] = {
    "no input": [],
    "two inputs": [WHO, WHO],
    "text": ["yes"],
    "empty text": [""],
    "nothing": [None],
    "number": [7],
    "list": [["12345678", "eve"]],
    "empty object": [{}],
    "no by": [{"id": "12345678", "content": "x", "reason": "x", "output": 1, "values": {}}],
    "empty by": [{**WHO, "by": ""}],
    "blank by": [{**WHO, "by": " \u00a0 "}],
    "by of another type": [{**WHO, "by": ["eve"]}],
    "by a placeholder": [{**WHO, "by": "YOUR NAME"}],
    "id of another type": [{**WHO, "id": 12345678}],
    "unknown field": [{**WHO, "force": True}],
    "a mebibyte of text": [MEBIBYTE],
    "a mebibyte in by": [{**WHO, "by": MEBIBYTE}],
    "no JSON": [raw(b"{not json")],
    "cut JSON": [raw(b'{"id": "12345678", "by"')],
    "deep JSON": [raw(b"[" * 5_000 + b"]" * 5_000)],
    "bytes": [raw(b"\x00\xff", b"binary/plain")],
    "a byte order mark": [raw(b"\xef\xbb\xbf{}")],
    "no encoding": [raw(b"{}", b"")],
    "compressed": [raw(b"x\x9c\xab\xae\x05", b"binary/zlib")],
    "an object in a text": ['{"id": "12345678", "by": "eve"}'],
    "encrypted": [raw(b"\x00\xff", b"binary/encrypted")],
    "no UTF-8": [raw(b'{"id": "12345678", "by": "\xff"}')],
    "a lone surrogate": [raw(b'{"id": "12345678", "by": "\\ud800"}')],
}


async def shown(it: Waiting, sent: int) -> list[str]:
    """What the details say of the messages that did not count; every one of the *sent* newest must be there."""
    handle = it.client.temporal.get_workflow_handle(it.run.id)
    newest = (await it.run.until_paused()).ignored_messages[-sent:]
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    for attempt in newest:
        assert attempt.detail
        assert code(bounded(attempt.detail, 300)) in metadata.current_details
        assert len(attempt.text) < 1_000
    return [attempt.status for attempt in newest]


async def still_decides(it: Waiting) -> None:
    """After all that, everything that waits can be decided, and the run completes."""
    assert {each.id for each in (await it.agrees()).active_requirements} == {each.id for each in it.waiting}
    assert task_faults(await it.run.history()) == []
    pay, ship, ask = it.waiting
    assert (await it.run.approve(pay, by="bob")).status == "approved"
    assert (await it.run.submit_result(ship, by="warehouse", output="shipped")).status == "executed"
    assert (await it.run.submit_input(ask, by="bob", values={"answer": "yes"})).status == "approved"
    assert (await it.run.result()).content == "done"
    assert tools.ran(it.run.id) == ["pay(bob, 5)"]
    assert (await it.agrees()).grants == []


WAITS = (call("pay", to="bob", amount=5), call("ship", order="1"), call("ask_user", question="Sure?"))


@pytest.mark.parametrize("signal", SIGNALS)
async def test_a_malformed_signal_never_stops_the_run_and_never_vanishes(
    assent_environment: Environment, signal: str
) -> None:
    """Every signal, with every wrong shape of input: kept, shown in the details, and the calls can be decided."""
    shapes = list(SHAPES.values())
    async with waiting(assent_environment, *WAITS) as it:
        handle = it.client.temporal.get_workflow_handle(it.run.id)
        for start in range(0, len(shapes), 8):
            batch = shapes[start : start + 8]
            for arguments in batch:
                await handle.signal(signal, args=arguments)
            assert set(await shown(it, len(batch))) <= {"unreadable", "unknown", "refused"}
        assert len((await it.agrees()).ignored_messages) == len(shapes)
        await still_decides(it)


REMEMBER: dict[str, JsonValue] = {
    "a boolean": True,
    "no": False,
    "text": "forever",
    "a number": 3,
    "a list": [1],
    "no bound": {},
    "a bound of nothing": {"uses": None, "expires_after": None},
    "no uses": {"uses": 0},
    "uses as text": {"uses": "3"},
    "uses as a boolean": {"uses": True},
    "a part of a use": {"uses": 1.5},
    "too many uses": {"uses": 10**30},
    "negative seconds": {"expires_after": -1},
    "too many seconds": {"expires_after": 1e300},
    "unknown field": {"uses": 1, "forever": True},
    "no conditions": {"uses": 1, "arguments": {}},
    "a list of conditions": {"uses": 1, "arguments": ["amount"]},
    "an empty condition": {"uses": 1, "arguments": {"amount": {}}},
    "an unknown operator": {"uses": 1, "arguments": {"amount": {"over": 5}}},
    "a bound that is text": {"uses": 1, "arguments": {"amount": {"at_most": "lots"}}},
    "a glob that is no text": {"uses": 1, "arguments": {"to": {"matches": 5}}},
    "alternatives that are none": {"uses": 1, "arguments": {"to": {"one_of": "bob"}}},
}
ARGUMENTS: dict[str, JsonValue] = {
    "a list": ["bob", 5],
    "text": '{"to": "bob", "amount": 5}',
    "a number": 5,
    "nothing in it": {},
    "one missing": {"to": "bob"},
    "of another type": {"to": "bob", "amount": "five"},
    "one too many": {"to": "bob", "amount": 5, "from": "eve"},
    "a mebibyte": {"to": MEBIBYTE, "amount": 5},
}
NOT_NUMBERS = (
    b'"remember": {"uses": NaN}',
    b'"remember": {"expires_after": NaN}',
    b'"remember": {"expires_after": Infinity}',
    b'"remember": {"expires_after": 1e999}',
    b'"remember": {"uses": 1, "arguments": {"amount": {"at_most": NaN}}}',
    b'"remember": {"uses": 1, "arguments": {"amount": {"at_most": 1e999}}}',
    b'"remember": {"uses": 1, "arguments": {"amount": {"equals": -Infinity}}}',
    b'"arguments": {"to": "bob", "amount": NaN}',
    b'"arguments": {"to": "bob", "amount": 1e999}',
    b'"arguments": {"to": "bob", "amount": ' + b"9" * 400 + b"}",
    b'"remember": {"uses": 1, "arguments": {"amount": {"equals": ' + b"9" * 400 + b"}}}",
    b'"remember": {"uses": 1, "arguments": {"amount": {"at_most": ' + b"9" * 400 + b"}}}",
)


def approvals_of(identity: str) -> dict[str, object]:
    """Approvals of a call that would count but for what comes with them."""
    who: dict[str, JsonValue] = {"id": identity, "by": "bob"}
    found: dict[str, object] = {f"remember {name}": {**who, "remember": each} for name, each in REMEMBER.items()}
    found |= {f"arguments {name}": {**who, "arguments": each} for name, each in ARGUMENTS.items()}
    begin = json.dumps(who).encode()[:-1]
    found |= {each.decode(): raw(begin + b", " + each + b"}") for each in NOT_NUMBERS}
    edited: JsonValue = {"to": "bob", "amount": 4}
    found["edited and remembered"] = {**who, "arguments": edited, "remember": {"uses": 1}}
    found["in the name of who asked"] = {**who, "by": "ALICE", "remember": {"uses": 1}}
    return found


async def test_an_approval_with_a_malformed_grant_or_edit_approves_nothing(assent_environment: Environment) -> None:
    """`approve` with a bad `remember` or bad `arguments` is no plain approval: kept, shown, and nothing more."""
    async with waiting(assent_environment, *WAITS) as it:
        handle = it.client.temporal.get_workflow_handle(it.run.id)
        bodies = approvals_of(it.waiting[0].short_id)
        for index, (name, body) in enumerate(bodies.items(), start=1):
            await handle.signal("approve", body)
            [status] = await shown(it, 1)
            state = await it.run.state()
            assert (len(state.ignored_messages), status in {"unreadable", "refused"}) == (index, True), name
            assert state.active_requirements == it.waiting, name
        assert tools.ran(it.run.id) == []
        await still_decides(it)


async def test_other_signals_that_fit_no_call_are_refused_and_kept(assent_environment: Environment) -> None:
    """Values, results, rejections and revocations that fit nothing: kept, shown, nothing decided."""
    async with waiting(assent_environment, *WAITS) as it:
        handle = it.client.temporal.get_workflow_handle(it.run.id)
        pay, ship, ask = ({"id": each.short_id, "by": "bob"} for each in it.waiting)
        bodies: list[tuple[str, dict[str, object]]] = [
            ("submit_input", {**ask, "values": {}}),
            ("submit_input", {**ask, "values": {"answer": 7}}),
            ("submit_input", {**ask, "values": {"answer": "yes", "question": "Another?"}}),
            ("submit_input", {**ask, "values": ["yes"]}),
            ("submit_input", {**ask, "values": {"answer": MEBIBYTE}}),
            ("submit_input", {**pay, "values": {"amount": 1}}),
            ("submit_result", {**pay, "output": "paid"}),
            ("submit_result", {**ship}),
            ("submit_result", {**ship, "output": MEBIBYTE}),
            ("submit_result", {**ship, "output": "x", "error": "y"}),
            ("submit_result", {**ship, "error": ""}),
            ("approve", {**ship}),
            ("approve", {**ask}),
            ("reject", {**pay, "reason": ""}),
            ("reject", {**pay, "reason": "x" * 20_001}),
            ("revoke", {**pay}),
            ("revoke", {**pay, "id": "ab"}),
            ("send_message", {"content": "", "by": "bob"}),
            ("send_message", {"content": MEBIBYTE, "by": "bob"}),
            ("aprove", {**pay}),
            ("__temporal_approve", {**pay}),
        ]
        for index, (name, body) in enumerate(bodies, start=1):
            await handle.signal(name, body)
            [status] = await shown(it, 1)
            assert status in {"unreadable", "refused", "unknown"}, (name, body)
            assert len((await it.run.state()).ignored_messages) == index, (name, body)
        await still_decides(it)


async def test_the_encoding_of_what_is_no_json_is_named(assent_environment: Environment) -> None:
    async with waiting(assent_environment, *WAITS) as it:
        handle = it.client.temporal.get_workflow_handle(it.run.id)
        expected = {
            "a byte order mark": "5 bytes of json/plain that are no JSON",
            "no encoding": "2 bytes of none that are no JSON",
            "bytes": "2 bytes of binary/plain that are no JSON",
            "compressed": "5 bytes of binary/zlib that are no JSON",
            "an object in a text": "and not JSON within a text",
        }
        for shape in expected:
            await handle.signal("approve", args=SHAPES[shape])
        await shown(it, len(expected))
        details = [each.detail or "" for each in (await it.run.state()).ignored_messages]
        for detail, part in zip(details, expected.values(), strict=True):
            assert part in detail
        await still_decides(it)


@pytest.mark.parametrize("message_type", [b"", b"google.protobuf.Struct"], ids=["no-type", "struct"])
async def test_json_protobuf_of_a_plain_object_is_read(assent_environment: Environment, message_type: bytes) -> None:
    async with waiting(assent_environment, *WAITS) as it:
        handle = it.client.temporal.get_workflow_handle(it.run.id)
        body = json.dumps({"id": it.waiting[0].short_id, "by": "bob", "reason": "no"}).encode()
        metadata = {"encoding": b"json/protobuf"} | ({"messageType": message_type} if message_type else {})
        await handle.signal("reject", RawValue(Payload(metadata=metadata, data=body)))
        state = await it.run.until_paused()
        assert state.ignored_messages == []
        assert (await it.agrees()).requirements[0].status == "rejected"
