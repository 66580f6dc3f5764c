"""What both APIs are asked alike, under names of their own: the format of the answer, and whether a tool is called."""

import json
from collections.abc import Set as AbstractSet
from typing import Literal

from .exchange import Question
from .refusals import Refusable


def format_of(question: Question, without: AbstractSet[Refusable]) -> Literal["json_schema", "json_object"] | None:
    """The form of an answer by a schema: the strictest that the provider takes; None: in words, or there is none."""
    # No provider takes a schema of a list, a union or a number.
    if question.output_schema is None or question.output_schema.get("type") != "object":
        return None
    if "json_schema" not in without:
        return "json_schema"
    return None if "json_object" in without else "json_object"


def instructions_of(question: Question, without: AbstractSet[Refusable]) -> str | None:
    """The instructions; with the schema of the answer, where the provider takes none."""
    if question.output_schema is None or format_of(question, without) == "json_schema":
        return question.instructions or None
    schema = json.dumps(question.output_schema, ensure_ascii=False)
    wanted = f"Your final answer is JSON alone, without a code fence, and fits this JSON schema: {schema}"
    return f"{question.instructions}\n\n{wanted}" if question.instructions else wanted


def tool_choice(question: Question) -> str | dict[str, str] | None:
    """Whether the model has to call a tool: a word that both APIs know, or the name of one tool.

    A call is demanded of the first answer to a message alone: demanded of every answer, the run would never end.
    """
    choice = question.model.tool_choice
    if choice in {None, "auto"}:
        return choice
    if not question.items or question.items[-1].get("role") != "user":
        return "auto"
    return "required" if choice == "required" else {"name": str(choice)}
