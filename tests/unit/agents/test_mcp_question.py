"""Questions that a server asks in the middle of a call: what people see, what the server gets back, what is refused."""

from __future__ import annotations

from typing import Any, cast

import pytest

from assent.agents.mcp_question import ROOTS, Question, answers_of, question_of, responses_to
from assent.wire.protocol import ServerQuestion

FORM = {
    "type": "object",
    "properties": {
        "room": {"type": "string", "description": "Which room", "pattern": "(a+)+$"},
        "seats": {"type": "integer"},
    },
    "required": ["room"],
}


def asks(method: str = "elicitation/create", *, state: str = "sealed", **params: Any) -> dict[str, Any]:
    return {"inputRequests": {"q1": {"method": method, "params": params}}, "requestState": state}


def asked(**params: Any) -> Question:
    found = question_of(asks(**params))
    assert isinstance(found, Question)
    return found


def response(question: ServerQuestion, values: dict[str, Any]) -> dict[str, Any] | None:
    return responses_to(question, answers_of(question, values))


def test_a_form_is_fields_without_the_servers_patterns() -> None:
    found = asked(message="Where?", requestedSchema=FORM)
    assert found.words == "Where?"
    assert [(each.name, each.type, each.description, each.required) for each in found.fields] == [
        ("room", {"type": "string"}, "Which room", True),
        ("seats", {"type": "integer"}, None, False),
    ]
    assert ([each.key for each in found.stored.requests], found.stored.state) == (["q1"], "sealed")
    answer = response(found.stored, {"room": "a", "seats": 3})
    assert answer == {"q1": {"action": "accept", "content": {"room": "a", "seats": 3}}}


def test_a_field_has_no_reference_that_could_take_a_workers_time() -> None:
    evil = {"properties": {"a": {"type": "string", "$ref": "#/odd", "odd": {"pattern": "(a+)+$"}, "uniqueItems": True}}}
    [field] = asked(message="Where?", requestedSchema=evil).fields
    assert field.type == {"type": "string", "odd": {"pattern": "(a+)+$"}}


def test_a_url_is_shown_and_the_person_says_when_it_is_done() -> None:
    found = asked(mode="url", message="Sign in, please.", url="https://bank.example/sign-in")
    assert found.words == "Sign in, please. Open https://bank.example/sign-in"
    [field] = found.fields
    assert (field.name, field.type) == ("done", {"const": True})
    assert response(found.stored, {"done": True}) == {"q1": {"action": "accept"}}
    form = asked(message="Done?", requestedSchema={"properties": {"done": {"type": "boolean"}}})
    assert response(form.stored, {"done": True}) == {"q1": {"action": "accept", "content": {"done": True}}}


def test_only_an_equal_question_has_the_same_digest() -> None:
    def digest(**given: Any) -> str:
        [request] = asked(**given).stored.requests
        return request.digest

    first = digest(message="Where?", requestedSchema=FORM)
    assert digest(message="Where?", requestedSchema=FORM, state="other") == first
    assert digest(message="Where to?", requestedSchema=FORM) != first
    assert digest(message="Where?", requestedSchema=FORM | {"required": []}) != first


def several(*texts: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    params = [{"message": each, "requestedSchema": schema} for each in texts]
    requests = {f"q{at}": {"method": "elicitation/create", "params": each} for at, each in enumerate(params)}
    return {"inputRequests": {**requests, "folders": {"method": "roots/list"}}, "requestState": "sealed"}


def test_several_questions_are_one_form_and_an_equal_one_is_asked_once() -> None:
    found = question_of(several("Who?", "For whom?", "Who?"), roots=True)
    assert isinstance(found, Question)
    assert found.words == "1. Who? 2. For whom?"
    assert [each.name for each in found.fields] == ["1.name", "2.name"]
    answers = answers_of(found.stored, {"1.name": "ann", "2.name": "bob"})
    assert responses_to(found.stored, answers) is None  # The folders are the operator's, and not a person's.
    answers[ROOTS] = {"roots": []}
    responses = responses_to(found.stored, answers)
    names = {key: {"action": "accept", "content": {"name": name}} for key, name in (("q0", "ann"), ("q1", "bob"))}
    assert responses == {**names, "q2": names["q0"], "folders": {"roots": []}}


def test_answers_of_before_are_kept_and_a_new_one_replaces_an_old_one() -> None:
    first = asked(message="Where?", requestedSchema=FORM).stored
    second = asked(message="When?", requestedSchema=FORM).stored
    both = answers_of(second.model_copy(update={"earlier": answers_of(first, {"room": "a"})}), {"room": "b"})
    contents = [cast("dict[str, Any]", each)["content"]["room"] for each in both.values()]
    assert contents == ["a", "b"]
    again = answers_of(first.model_copy(update={"earlier": both}), {"room": "c"})
    assert [cast("dict[str, Any]", each)["content"]["room"] for each in again.values()] == ["c", "b"]


def test_a_question_for_which_a_call_was_ended_says_what_an_answer_does() -> None:
    again = "Your answer makes the call again from its start: what it did before it asked, it may do twice.)"
    request = asks(message="Where?", requestedSchema=FORM)
    ended = question_of(request, held="no room was given")
    refused = question_of(request, held="")
    assert isinstance(ended, Question)
    assert isinstance(refused, Question)
    assert (
        ended.words
        == f"Where? (It held the call while it asked; that call was ended, with: 'no room was given'. {again}"
    )
    assert (refused.words, refused.stored.held) == (f"Where? ({again}", True)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (asks("sampling/createMessage"), "it asks for an answer of a model (sampling), which servers do not get"),
        (asks("roots/list"), "it asks for folders, which it gets only with MCPServer(roots=[…])"),
        (asks("something/else"), "it asks for what is not known here"),
        (
            asks(mode="url", message="Sign in.", url="javascript:alert(1)"),
            "it asks to open what is no page of the web: javascript:alert(1)",
        ),
        ({}, "it asks for nothing"),
        ({"inputRequests": {"a": {}, "b": {}}}, "it asks for what is not known here"),
        (asks(), "it asks a question without words"),
        (asks(message="Where?"), "it asks a question without fields"),
        (asks(message="Where?", requestedSchema=FORM, state="x" * 40_000), "its question has 40,2"),
        (
            asks(message="Where?", requestedSchema={"properties": {"a": {"type": "nothing"}}}),
            "it asks a question, but a schema of it is none: ",
        ),
    ],
)
def test_what_no_person_can_answer_is_refused_in_one_line(given: dict[str, Any], why: str) -> None:
    found = question_of(given)
    assert isinstance(found, str)
    assert found.startswith(why)
