"""Calls of the conversation, written such that providers read them: some refuse their own model's words of before.

The record keeps the name and the arguments that the model wrote. What the provider is sent differs where it would
refuse the whole request, and so every later turn of the run: OpenAI and Bedrock check the names in the history, vLLM,
SGLang and llama.cpp parse the arguments. What was wrong with them stands in the output of the call.
"""

import json
from typing import Final

from pydantic import JsonValue

from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError

_NO_ARGUMENTS: Final = "{}"


def raw_arguments(arguments: JsonValue) -> str:
    """*arguments* as text. Some servers send an object, or null where there are none."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def permitted_arguments(arguments: JsonValue) -> str:
    """*arguments*, or `{}` where they are not the JSON object that providers parse."""
    raw = raw_arguments(arguments)
    try:
        # Half of a character, as an escape, is JSON to Python alone.
        parsed = parse_arguments(raw)
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ArgumentsError, UnicodeEncodeError, RecursionError):
        return _NO_ARGUMENTS
    return raw if raw.strip() else _NO_ARGUMENTS
