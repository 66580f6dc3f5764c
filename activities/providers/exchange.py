"""What the model is asked, and what it answered, in one form for both APIs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from assent.agents.models import Model
from assent.wire.conversation import text_of
from assent.wire.protocol import Item, Usage

JsonObject = dict[str, JsonValue]
"""A JSON object: a schema, or the body of a request."""


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the model sees it. *parameters* is the JSON schema of an object."""

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True)
class Question:
    """One call of a model. *items* are the whole conversation, oldest first; *attachments* the bytes that it names.

    *output_schema* is the JSON schema that the final answer has to fit, *output_name* what the provider calls it
    (letters, digits, `_` and `-`).
    """

    model: Model
    instructions: str | None
    items: Sequence[Item]
    tools: Sequence[ToolSpec] = ()
    output_schema: JsonObject | None = None
    output_name: str = "output"
    attachments: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Answer:
    """What the model answered: *items* to put behind the conversation, and the words among them as *text*."""

    items: list[Item]
    usage: Usage
    model: str
    text: str | None


def without_surrogates(answer: Answer) -> Answer:
    """*answer*, such that it can be written to a history: no half of a character is left in it.

    JSON may hold one, escaped, and a stream may put the other half into its next event: such are joined. One that
    is alone becomes U+FFFD; the result of the call could not be kept otherwise, and the call would be paid for again.
    """
    written = json.dumps(answer.items, ensure_ascii=False)
    try:
        written.encode()
    except UnicodeEncodeError:
        items: list[Item] = json.loads(written.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        return replace(answer, items=items, text=text_of(items) or None)
    return answer
