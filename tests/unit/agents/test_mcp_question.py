"""Questions that a server asks in the middle of a call: what people see, what the server gets back, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from assent.agents.mcp_question import Question, question_of, response

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


def test_a_form_is_fields_without_the_servers_patterns() -> None:
    found = asked(message="Where?", requestedSchema=FORM)
    assert found.words == "Where?"
    assert [(each.name, each.type, each.description, each.required) for each in found.fields] == [
        ("room", {"type": "string"}, "Which room", True),
        ("seats", {"type": "integer"}, None, False),
    ]
    assert (found.stored.key, found.stored.state) == ("q1", "sealed")
    answer = response(found.stored, {"room": "a", "seats": 3})
    assert answer == {"q1": {"action": "accept", "content": {"room": "a", "seats": 3}}}


def test_a_url_is_shown_and_the_person_says_when_it_is_done() -> None:
    found = asked(mode="url", message="Sign in, please.", url="https://bank.example/sign-in")
    assert found.words == "Sign in, please. Open https://bank.example/sign-in"
    [field] = found.fields
    assert (field.name, field.type) == ("done", {"const": True})
    assert response(found.stored, {"done": True}) == {"q1": {"action": "accept"}}
    form = asked(message="Done?", requestedSchema={"properties": {"done": {"type": "boolean"}}})
    assert response(form.stored, {"done": True}) == {"q1": {"action": "accept", "content": {"done": True}}}


def test_only_an_equal_question_has_the_same_digest() -> None:
    first = asked(message="Where?", requestedSchema=FORM).stored.digest
    assert asked(message="Where?", requestedSchema=FORM, state="other").stored.digest == first
    assert asked(message="Where to?", requestedSchema=FORM).stored.digest != first
    assert asked(message="Where?", requestedSchema=FORM | {"required": []}).stored.digest != first


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (asks("sampling/createMessage"), "it asks for an answer of a model, which it does not get"),
        (asks("roots/list"), "it asks for folders, which it does not get"),
        (asks("something/else"), "it asks for what is not known here"),
        ({"requestState": "sealed"}, "it asks for nothing, or for several things at once"),
        ({"inputRequests": {"a": {}, "b": {}}}, "it asks for nothing, or for several things at once"),
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
