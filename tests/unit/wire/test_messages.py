"""Reading what people type: read, or refused with one line that names the problem."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.wire.errors import MessageError
from assent.wire.limits import MESSAGE_SHOWN
from assent.wire.messages import (
    Approve,
    Message,
    Reject,
    Remember,
    Revoke,
    SendMessage,
    SubmitInput,
    SubmitResult,
    Undecodable,
    read,
    read_request,
    shown,
)
from assent.wire.protocol import RunRequest
from tests.unit.strategies import HOSTILE, MEBIBYTE, json_values, message_names, texts

LINE = 1_000
ID: dict[str, object] = {"id": "abcdef", "by": "bob"}
FITTING: dict[str, dict[str, object]] = {
    "approve": ID,
    "reject": {**ID, "reason": "no"},
    "submit_result": {**ID, "output": 1},
    "submit_input": {**ID, "values": {}},
    "send_message": {"content": "hi", "by": "bob"},
    "revoke": ID,
    "decide": {**ID, "verdict": "approve"},
    "deliver": {**ID, "output": 1},
}
NAMES = sorted(FITTING)


def problem(name: str, *arguments: object) -> str:
    """The one line with which a message is refused."""
    with pytest.raises(MessageError) as caught:
        read(name, arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) <= LINE
    return line


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("approve", ID, Approve(id="abcdef", by="bob")),
        ("approve", {**ID, "reason": "ok"}, Approve(id="abcdef", by="bob", reason="ok")),
        ("reject", {**ID, "reason": "no"}, Reject(id="abcdef", by="bob", reason="no")),
        ("submit_result", {**ID, "output": None}, SubmitResult(id="abcdef", by="bob", output=None)),
        ("submit_result", {**ID, "error": "x"}, SubmitResult(id="abcdef", by="bob", error="x")),
        ("submit_input", {**ID, "values": {"a": 1}}, SubmitInput(id="abcdef", by="bob", values={"a": 1})),
        ("send_message", {"content": " hi ", "by": " bob "}, SendMessage(content="hi", by="bob")),
        ("decide", {**ID, "verdict": "approve", "reason": "ok"}, Approve(id="abcdef", by="bob", reason="ok")),
        ("decide", {**ID, "verdict": "reject", "reason": "no"}, Reject(id="abcdef", by="bob", reason="no")),
        ("deliver", {**ID, "output": [1]}, SubmitResult(id="abcdef", by="bob", output=[1])),
        ("approve", {**ID, "arguments": {"a": 1}}, Approve(id="abcdef", by="bob", arguments={"a": 1})),
        ("approve", {**ID, "remember": {"uses": 2}}, Approve(id="abcdef", by="bob", remember=Remember(uses=2))),
        (
            "submit_result",
            {**ID, "output": 1, "evidence": "T-1"},
            SubmitResult(id="abcdef", by="bob", output=1, evidence="T-1"),
        ),
        ("revoke", ID, Revoke(id="abcdef", by="bob")),
        ("decide", {**ID, "verdict": "revoke", "reason": "ok"}, Revoke(id="abcdef", by="bob", reason="ok")),
        ("deliver", {**ID, "values": {}}, SubmitInput(id="abcdef", by="bob", values={})),
    ],
)
def test_a_message_that_fits_is_read(name: str, body: dict[str, object], message: Message) -> None:
    assert read(name, [body]) == message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 2, 3])
def test_no_input_or_two_inputs_yield_one_line(name: str, count: int) -> None:
    line = problem(name, *[FITTING[name]] * count)
    assert line.startswith(f"{name} takes one JSON input, not {count}: {{")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [None, "text", 1, 1.5, True, [], [{}], b"bytes", Undecodable("binary/null", 3)])
def test_an_input_that_is_no_object_yields_one_line(name: str, body: object) -> None:
    found = problem(name, body)
    assert found.startswith(f"{name} takes a JSON object")
    assert ": {" in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name in NAMES for field in FITTING[name] if field != "output"]
)
@pytest.mark.parametrize("value", ["MISSING", None, 7, ["x"], True, "", "  "])
def test_a_missing_empty_or_mistyped_field_is_named(name: str, field: str, value: object) -> None:
    body = {key: item for key, item in FITTING[name].items() if key != field or value != "MISSING"}
    if value != "MISSING":
        body[field] = value
    line = problem(name, body)
    assert field in line
    assert "{" in line, "it shows what to send instead"


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_field_is_named(name: str) -> None:
    assert "approver: Extra inputs are not permitted" in problem(name, {**FITTING[name], "approver": "bob"})


@pytest.mark.parametrize("body", [ID, {**ID, "error": None}])
@pytest.mark.parametrize("name", ["submit_result", "deliver"])
def test_a_result_without_output_or_error_is_refused(name: str, body: dict[str, object]) -> None:
    assert "an output or an error is missing" in problem(name, body)


@pytest.mark.parametrize("reason", [{}, {"reason": None}, {"reason": ""}, {"reason": "  "}])
def test_a_rejection_needs_a_reason(reason: dict[str, object]) -> None:
    assert "reason" in problem("reject", {**ID, **reason})
    assert "a rejection needs a reason" in problem("decide", {**ID, "verdict": "reject", **reason})


@pytest.mark.parametrize(
    ("verdict", "more", "line"),
    [
        ("reject", {"arguments": {}}, "arguments go with the verdict approve, not reject"),
        ("revoke", {"arguments": {}}, "arguments go with the verdict approve, not revoke"),
        ("revoke", {"remember": {"uses": 1}}, "remember goes with the verdict approve or reject, not revoke"),
        ("reject", {"remember": {}}, "give a limit"),
    ],
)
def test_only_an_approval_is_edited_and_only_a_decision_remembered(
    verdict: str, more: dict[str, object], line: str
) -> None:
    assert line in problem("decide", {**ID, "verdict": verdict, "reason": "no", **more})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), [-float("inf")], {"a": {"b": float("nan")}}])
def test_numbers_that_json_does_not_have_are_refused(number: object) -> None:
    assert "output" in problem("submit_result", {**ID, "output": number})
    assert "values" in problem("submit_input", {**ID, "values": {"x": number}})


@pytest.mark.parametrize("name", ["", "Approve", "aprove", "state", "__temporal_x", "a\nb"])
def test_a_misspelt_name_lists_those_there_are(name: str) -> None:
    assert "there are: approve, close, decide, deliver, reject" in problem(name, ID)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_field_name_stays_in_its_line(name: str, text: str) -> None:
    problem(name, {**FITTING[name], text: 1})
    problem("approve", {**ID, "proof": {"kind": text}})


def test_a_mebibyte_of_text_yields_a_short_line() -> None:
    problem("approve", {**ID, MEBIBYTE: 1})
    problem("approve", {**ID, "by": MEBIBYTE})
    problem("approve", {**ID, "id": MEBIBYTE})
    problem("approve", MEBIBYTE)


@given(message_names, st.lists(json_values | st.dictionaries(texts, json_values), max_size=2))
def test_any_json_is_read_or_refused_with_one_line(name: str, arguments: list[object]) -> None:
    try:
        read(name, arguments)
    except MessageError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("depth", [150, 250, 300, 900])
def test_deep_nesting_is_read_or_refused(depth: int) -> None:
    value: object = 1
    for _ in range(depth):
        value = [value]
    try:
        read("submit_result", [{**ID, "output": value}])
    except MessageError as error:
        assert len(str(error)) <= LINE  # noqa: PT017


def test_a_request_is_read_and_unknown_fields_of_later_versions_are_ignored() -> None:
    body = {"agent": "a", "input": "x", "requested_by": "alice", "max_turns": 3, "later": 1}
    assert read_request((body,)) == RunRequest(agent="a", input="x", requested_by="alice", max_turns=3)


def in_context(context: object) -> tuple[object, ...]:
    return ({"agent": "a", "input": "x", "context": context},)


def test_a_context_up_to_the_limit_is_kept_as_it_is() -> None:
    for context in ({}, {"a": "x" * 16_376}, {"a": [None, True, 1, 0.5, {"ä": ["\u202e"]}]}):
        assert read_request(in_context(context)).context == context
    for depth in (250, 300, 900):  # deeper than what pydantic reads
        value: object = 1
        for _ in range(depth):
            value = [value]
        with pytest.raises(MessageError, match=r"^AgentRun: context") as caught:
            read_request(in_context({"a": value}))
        assert len(str(caught.value)) <= 2 * LINE


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "takes one JSON object"),
        (({"agent": "a", "input": "x"}, 1), "takes one JSON object"),
        (("text",), "takes one JSON object"),
        (({"input": "x"},), "agent"),
        (({"agent": "a"},), "input"),
        (({"agent": "a", "input": " \n"},), "the prompt is empty"),
        (({"agent": "a", "input": "x", "max_turns": 0},), "max_turns"),
        (({"agent": "a", "input": "x", "requested_by": 7},), "requested_by"),
        (({"agent": "a", "input": "x\ud83d"},), "input: the prompt has half a character"),
        (in_context([1]), "context: Input should be a valid dictionary"),
        (in_context("{}"), "context: Input should be a valid dictionary"),
        (in_context({1: 1}), "context.1"),
        (in_context({"a": object()}), "context.a: input was not a valid JSON value"),
        (in_context({"a": [float("nan")]}), "context: a number in it is not finite"),
        (in_context({"a": json.loads("1e999")}), "context: a number in it is not finite"),
        (in_context({"a": 10**400}), "context.a: an integer in it has more than 308 digits"),
        (in_context({"a": "\ud800"}), "context: a text in it has half a character"),
        (
            in_context({"a": [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}),
            "context: 21 objects and lists are nested",
        ),
        (in_context({"a": "x" * 16_377}), "context: it is 16385 bytes long; the limit is 16384"),
    ],
)
def test_a_request_that_does_not_fit_yields_one_line(arguments: tuple[object, ...], problem: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_request(arguments)
    line = str(caught.value)
    assert problem in line
    assert "\n" not in line


def test_what_arrived_is_shown_bounded_and_the_rest_is_counted() -> None:
    assert shown([{"a": 1}, "x"]) == "{'a': 1}, 'x'"
    long = shown(["x" * 1_000])
    assert len(long) < MESSAGE_SHOWN + 40
    assert long.endswith("… (+702 characters)")
