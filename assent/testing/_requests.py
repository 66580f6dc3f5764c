"""What a request has to be: the checks of real providers that protect their users and cost little.

Both APIs are read into one form, the items of a Responses input.

| refused | by | reported in |
|---|---|---|
| a parameter, an item's field or type that the API does not have | OpenAI | its API reference |
| a call without its output, an output without its call | OpenAI | its API reference |
| the name of a tool, or of a call in the history, with other characters, empty or too long | OpenAI; Bedrock | NousResearch/hermes-agent#51944; mastra-ai/mastra#13632, anomalyco/opencode#48750 |
| the id of a call with over 64 characters, over 40 by the Chat Completions API | OpenAI | openai/codex#14355, vercel/ai#5171 |
| arguments of a call in the history that are not a JSON object | vLLM, SGLang, llama.cpp | vllm-project/vllm#43995, sgl-project/sglang#28035, ggml-org/llama.cpp#25583 |
| reasoning of another model, or no more to be read (`invalid_encrypted_content`) | OpenAI | openai/codex#8119, openai/codex#17541 |
| an item without the reasoning that its id names | OpenAI | openai/openai-agents-python#2063 |
| a message without the `reasoning_content` that it had, a call without its `thought_signature` | DeepSeek; Gemini | earendil-works/pi#3636; langchain-ai/langchain#34166 |
| a field of a message that the server does not know | Groq, Mistral | crewAIInc/crewAI#5878 |
| an array with positions and no `items`, look-around in a pattern, an output that is no object | OpenAI | openai/openai-agents-python#302, pydantic/pydantic-ai#5508, pydantic/pydantic#13630 |
| `content: null` beside tool calls, with status 500 | llama-cpp-python's server | tried, 0.3.36 |
| an image or file of another role than `user` | OpenAI | openai/openai-node#1030, OpenHands/OpenHands#7700 |
| a part without source, an image's data URL without media type, of another one, or empty | OpenAI | langchain-ai/langchainjs#9512; Alibaba-NLP/OmniSearch#3, CherryHQ/cherry-studio#14608, anomalyco/opencode#23983 |
| `file_data` without a file name, over the Responses API | OpenAI | laravel/ai#321 |
| a file that is no PDF, or by URL, over the Chat Completions API | OpenAI | openai/openai-dotnet#613, pydantic/pydantic-ai#4445; its guide to file inputs |
| more than 50 MB of images and files | OpenAI | its guides to images and file inputs |
"""  # noqa: E501 - a table row is one line

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from assent.testing._reasoning import check_chat_reasoning, check_reasoning, mark_of
from assent.wire.protocol import Item

JsonObject = dict[str, JsonValue]


_CHAT_PARTS: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"text"}),
    "image_url": frozenset({"url", "detail"}),
    "file": frozenset({"file_data", "file_id", "filename"}),
}
"""What stands in a content part under the name of its type."""
_DATA_URL: Final = re.compile("(?:data:([^;,]*);base64,)?(.*)", re.DOTALL)
_BASE64: Final = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_IMAGE: Final = "an image MIME type (e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU=')"
_FILE: Final = "an application/pdf MIME type (e.g. 'data:application/pdf;base64,SGVsbG8sIFdvcmxkIQ==')"
_ATTACHED: Final = 50_000_000
"""Bytes of all images and files of a request."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMMON: Final = _words(
    "model metadata parallel_tool_calls prompt_cache_key prompt_cache_options prompt_cache_retention safety_identifier "
    "service_tier store stream stream_options temperature tool_choice tools top_logprobs top_p user moderation"
)
_RESPONSES: Final = _COMMON | _words(
    "background context_management conversation include input instructions max_output_tokens max_tool_calls "
    "previous_response_id prompt reasoning text truncation"
)
_CHAT: Final = _COMMON | _words(
    "messages audio frequency_penalty logit_bias logprobs max_completion_tokens max_tokens modalities n prediction "
    "presence_penalty reasoning_effort response_format seed stop verbosity web_search_options"
)
_ITEM_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "message": frozenset({"type", "role", "content", "id", "status", "phase"}),
    "function_call": frozenset({"type", "id", "call_id", "name", "arguments", "status"}),
    "function_call_output": frozenset({"type", "id", "call_id", "output", "status"}),
    "reasoning": frozenset({"type", "id", "summary", "content", "encrypted_content", "status"}),
}
_ITEM_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "reasoning": ("id", "summary"),
}
_PART_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "output_text": _words("type text annotations logprobs"),
    "refusal": _words("type refusal"),
    "input_text": _words("type text prompt_cache_breakpoint"),
    "input_image": _words("type detail file_id image_url prompt_cache_breakpoint"),
    "input_file": _words("type detail file_data file_id file_url filename prompt_cache_breakpoint"),
}
_MESSAGE_FIELDS: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal"})
_ID_LENGTH: Final = 64
_CHAT_ID_LENGTH: Final = 40
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_UNSUPPORTED: Final = ("previous_response_id", "conversation", "background", "prompt")


class BadRequestError(Exception):
    """A request that the real API would refuse too. *status* is the HTTP status, *error* OpenAI's error object."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.error: JsonObject = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


@dataclass(frozen=True)
class CheckedRequest:
    """A request of either API, checked, as the items of a Responses input.

    *stream* is whether the answer is to come as a stream, *usage* whether its tokens are wanted in one.
    """

    model: str
    instructions: str | None
    items: list[Item]
    tools: list[str]
    stream: bool = False
    usage: bool = False


def read_responses(body: JsonObject) -> CheckedRequest:
    """The request to `/responses` in *body*.

    Raises:
        BadRequestError: the real API would refuse it.
    """
    _check_parameters(body, _RESPONSES)
    text = body.get("input")
    items: list[Item] = [{"role": "user", "content": text}] if isinstance(text, str) else objects(text, "input")
    for index, item in enumerate(items):
        _check_item(item, f"input[{index}]")
    _check_pairs(items)
    _check_attached(items)
    if problem := check_reasoning(items, _model(body)):
        raise BadRequestError(problem[0], param="input", code=problem[1])
    text = body.get("text")
    _check_format(text.get("format") if isinstance(text, dict) else None, "text.format")
    tools = [_tool_name(tool, f"tools[{index}]") for index, tool in enumerate(objects(body.get("tools", []), "tools"))]
    stream, _ = _stream(body, "include_obfuscation")
    return CheckedRequest(_model(body), _string(body.get("instructions")), items, tools, stream)


def read_chat(body: JsonObject) -> CheckedRequest:
    """The request to `/chat/completions` in *body*.

    Raises:
        BadRequestError: the real API would refuse it.
    """
    _check_parameters(body, _CHAT)
    if "parallel_tool_calls" in body and not body.get("tools"):
        message = "Invalid value for 'parallel_tool_calls': only allowed when 'tools' are specified."
        raise BadRequestError(message, param="parallel_tool_calls")
    messages = objects(body.get("messages"), "messages")
    if not messages:
        raise BadRequestError("Invalid 'messages': empty array.", param="messages", code="empty_array")
    _check_tool_messages(messages)
    items = [item for index, message in enumerate(messages) for item in _items(message, f"messages[{index}]")]
    _check_pairs(items)
    _check_attached(items)
    _check_response_format(body.get("response_format"))
    tools = objects(body.get("tools", []), "tools")
    names = [_tool_name(_function(tool, f"tools[{n}]"), f"tools[{n}].function") for n, tool in enumerate(tools)]
    system = [str(message.get("content")) for message in messages if message.get("role") in {"system", "developer"}]
    stream, options = _stream(body, "include_obfuscation", "include_usage")
    usage = options.get("include_usage") is True
    return CheckedRequest(_model(body), "\n\n".join(system) or None, items, names, stream, usage)


def objects(value: JsonValue, param: str) -> list[JsonObject]:
    """*value* as a list of objects.

    Raises:
        BadRequestError: it is something else.
    """
    if value is None:
        raise BadRequestError(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else None
    if entries is None or not isinstance(value, list) or len(entries) != len(value):
        raise BadRequestError(f"Invalid type for '{param}': expected an array of objects.", param=param)
    return entries


def _string(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _need(value: Mapping[str, JsonValue], keys: Iterable[str], where: str) -> None:
    for key in keys:
        if key not in value:
            param = f"{where}.{key}" if where else key
            message = f"Missing required parameter: '{param}'."
            raise BadRequestError(message, param=param, code="missing_required_parameter")


def _model(body: JsonObject) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequestError("you must provide a model parameter", param="model", code="missing_required_parameter")
    return model


def _check_parameters(body: JsonObject, known: frozenset[str]) -> None:
    _model(body)
    for name in body.keys() - known:
        raise BadRequestError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    for name in _UNSUPPORTED:
        if body.get(name):
            raise BadRequestError(f"The scripted server does not support '{name}'.", param=name)


def _stream(body: JsonObject, *known: str) -> tuple[bool, JsonObject]:
    """Whether the answer is to be streamed, and how."""
    stream, options = body.get("stream") is True, body.get("stream_options")
    if options is None:
        return stream, {}
    if not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise BadRequestError(message, param="stream_options")
    if not isinstance(options, dict):
        raise BadRequestError("Invalid type for 'stream_options': expected an object.", param="stream_options")
    for name in options.keys() - set(known):
        param = f"stream_options.{name}"
        raise BadRequestError(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    return stream, options


def _check_item(item: Item, where: str) -> None:
    kind = item.get("type", "message")
    if not isinstance(kind, str) or kind not in _ITEM_FIELDS:
        raise BadRequestError(f"Invalid value: '{kind}'.", param=f"{where}.type", code="invalid_value")
    _check_fields(item, _ITEM_FIELDS[kind], where)
    _need(item, _ITEM_NEEDS[kind], where)
    if "call_id" in item:
        _check_length(item["call_id"], f"{where}.call_id", _ID_LENGTH)
    if kind == "function_call":
        _check_past_call(item, where)
    content = item.get("content")
    if kind == "message" and isinstance(content, list):
        _check_parts(content, assistant=item["role"] == "assistant", where=where)


def _check_length(value: JsonValue, param: str, limit: int) -> None:
    if isinstance(value, str) and len(value) > limit:
        wanted = f"Expected a string with maximum length {limit}, but got a string with length {len(value)} instead."
        message = f"Invalid '{param}': string too long. {wanted}"
        raise BadRequestError(message, param=param, code="string_above_max_length")


def _check_parts(parts: Sequence[JsonValue], *, assistant: bool, where: str) -> None:
    known = {"output_text", "refusal"} if assistant else {"input_text", "input_image", "input_file"}
    for index, part in enumerate(parts):
        place = f"{where}.content[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str) or kind not in known:
            message = f"Invalid value: '{kind}'. Supported values are: {sorted(known)}."
            raise BadRequestError(message, param=f"{place}.type")
        _check_fields(part, _PART_FIELDS[kind], place)
        if kind == "input_text":
            _need(part, ["text"], place)
        elif kind == "input_image":
            _check_image(part, "image_url", place)
        elif kind == "input_file":
            _check_file(part, place)


def _check_fields(value: JsonObject, known: frozenset[str], where: str) -> None:
    for name in value.keys() - known:
        raise BadRequestError(
            f"Unknown parameter: '{where}.{name}'.", param=f"{where}.{name}", code="unknown_parameter"
        )


def _check_image(value: JsonObject, key: str, where: str) -> None:
    if value.get("file_id") is None:
        _need(value, [key], where)
    if (url := value.get(key)) is not None and not str(url).startswith(("https://", "http://")):
        _check_data(url, f"Invalid '{where}.{key}'", f"{where}.{key}", _IMAGE, _IMAGES)


def _check_file(part: JsonObject, where: str) -> None:
    if not {"file_data", "file_id", "file_url"} & part.keys() or ("file_data" in part and not part.get("filename")):
        raise BadRequestError(f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter")
    if "file_data" in part:
        _check_data(part["file_data"], f"Invalid '{where}.file_data'", f"{where}.file_data", _FILE, None)


def _check_data(value: JsonValue, invalid: str, param: str, wanted: str, kinds: frozenset[str] | None) -> None:
    """Check a data URL of one of the media types; of any of them without *kinds*."""
    match = _DATA_URL.fullmatch(str(value))
    kind, data = match.groups() if match else (None, "")
    if kind is None:
        problem = "got a value without the 'data:' prefix"
    elif not kind or (kinds is not None and kind not in kinds):
        problem = f"got unsupported MIME type '{kind}'"
    elif not data:
        problem = "got empty base64-encoded bytes"
    elif not _BASE64.fullmatch(data):
        problem = "got an invalid base64-encoded value"
    else:
        return
    message = f"{invalid}. Expected a base64-encoded data URL with {wanted}, but {problem}."
    raise BadRequestError(message, param=param, code="invalid_value")


def _check_attached(items: Iterable[Item]) -> None:
    """All images and files together are not too large."""
    contents = [content for item in items if isinstance(content := item.get("content"), list)]
    parts = [part for content in contents for part in content if isinstance(part, dict)]
    urls = [str(part.get(name)) for part in parts for name in ("image_url", "file_data") if name in part]
    size = sum(len(url) * 3 // 4 for url in urls if url.startswith("data:"))
    if size > _ATTACHED:
        message = f"The images and files of the request have {size} bytes; the limit is {_ATTACHED}."
        raise BadRequestError(message, param="input", code="request_too_large")


def _check_pairs(items: Iterable[Item]) -> None:
    """Every call has exactly one output, after it, and every output its call."""
    waiting: set[str] = set()
    seen: set[str] = set()
    for item in items:
        call_id = str(item.get("call_id"))
        if item.get("type") == "function_call":
            if call_id in seen:
                raise BadRequestError(f"Duplicate function call with call_id {call_id}.", param="input")
            seen.add(call_id)
            waiting.add(call_id)
        elif item.get("type") == "function_call_output":
            if call_id not in waiting:
                message = f"No tool call found for function call output with call_id {call_id}."
                raise BadRequestError(message, param="input")
            waiting.remove(call_id)
    for call_id in waiting:
        raise BadRequestError(f"No tool output found for function call {call_id}.", param="input")


def _check_tool_messages(messages: Sequence[JsonObject]) -> None:
    """Messages of the role `tool` stand right behind the `tool_calls` that they answer, and answer them all."""
    waiting: set[str] = set()
    for index, message in enumerate(messages):
        if message.get("role") == "tool":
            call_id = str(message.get("tool_call_id"))
            if call_id not in waiting:
                text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                raise BadRequestError(f"Invalid parameter: {text}", param=f"messages.[{index}].role")
            waiting.remove(call_id)
            continue
        _check_answered(waiting, index)
        calls = message.get("tool_calls")
        waiting = {str(call.get("id")) for call in objects(calls, "tool_calls")} if calls else set[str]()
    _check_answered(waiting, len(messages))


def _check_answered(waiting: set[str], index: int) -> None:
    if waiting:
        raise BadRequestError(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: " + ", ".join(sorted(waiting)),
            param=f"messages.[{index}].role",
        )


def _items(message: JsonObject, where: str) -> list[Item]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        _need(message, ("tool_call_id", "content"), where)
        _check_length(message["tool_call_id"], f"{where}.tool_call_id", _CHAT_ID_LENGTH)
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": content}]
    if role not in {"system", "developer", "user", "assistant"}:
        raise BadRequestError(f"Invalid value: '{role}'.", param=f"{where}.role", code="invalid_value")
    raw_calls = objects(message["tool_calls"], f"{where}.tool_calls") if "tool_calls" in message else []
    calls = [_call(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(raw_calls)]
    if content is None:
        status = 500 if calls else 400
        message_ = f"Invalid value for '{where}.content': expected a string, got null."
        raise BadRequestError(message_, param=where, status=status)
    if problem := check_chat_reasoning(message):
        raise BadRequestError(problem, param=where)
    thought = any(mark_of(call.get("id")) for call in raw_calls)
    for name in message.keys() - _MESSAGE_FIELDS - ({"reasoning_content"} if thought else set[str]()):
        raise BadRequestError(f"property '{where}.{name}' is unsupported", param=f"{where}.{name}")
    if isinstance(content, list):
        content = [_chat_part(part, str(role), where, index) for index, part in enumerate(objects(content, where))]
    if role in {"system", "developer"}:
        return []
    items: list[Item] = [{"role": role, "content": content}] if content else []
    return [*items, *calls]


def _chat_part(part: JsonObject, role: str, message: str, index: int) -> JsonValue:
    """A content part of a chat message, as the Responses API has it."""
    where, kind = f"{message}.content[{index}]", part.get("type")
    if not isinstance(kind, str) or kind not in _CHAT_PARTS:
        wanted = f"Supported values are: {sorted(_CHAT_PARTS)}."
        raise BadRequestError(f"Invalid value: '{kind}'. {wanted}", param=f"{where}.type", code="invalid_value")
    _check_fields(part, frozenset({"type", kind, "prompt_cache_breakpoint"}), where)
    _need(part, [kind], where)
    if kind == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
    if role != "user":
        what = "Image URLs are" if kind == "image_url" else "Files are"
        problem = (
            f"{what} only allowed for messages with role 'user', but this message with role '{role}' contains one."
        )
        raise BadRequestError(f"Invalid '{message}'. {problem}", param=message, code="invalid_value")
    inner, place = part[kind], f"{where}.{kind}"
    if not isinstance(inner, dict):
        raise BadRequestError(f"Invalid type for '{place}': expected an object.", param=place)
    _check_fields(inner, _CHAT_PARTS[kind], place)
    if kind == "image_url":
        _check_image(inner, "url", place)
        return {"type": "input_image", "image_url": inner["url"]}
    if "file_data" in inner:
        param = f"{place}.file_data"
        _check_data(inner["file_data"], f"Invalid file data: '{param}'", param, _FILE, frozenset({"application/pdf"}))
    else:
        _need(inner, ["file_id"], place)
    return {"type": "input_file", **inner}


def _call(call: JsonObject, where: str) -> Item:
    _need(call, ("id", "type"), where)
    _check_length(call["id"], f"{where}.id", _CHAT_ID_LENGTH)
    function = _function(call, where)
    _need(function, ("name", "arguments"), f"{where}.function")
    _check_past_call(function, f"{where}.function")
    named: Item = {"name": function["name"], "arguments": function["arguments"]}
    return {"type": "function_call", "call_id": call["id"], **named}


def _check_past_call(function: JsonObject, where: str) -> None:
    """The name and the arguments of a call in the history."""
    _check_name(function["name"], where)
    arguments, param = function["arguments"], f"{where}.arguments"
    if not isinstance(arguments, str):
        raise BadRequestError(f"Invalid type for '{param}': expected a string.", param=param)
    try:
        value: object = json.loads(arguments, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"Failed to parse tool call arguments as JSON: {error}", param=param) from error
    if not isinstance(value, dict):
        raise BadRequestError("Tool call arguments must be a JSON object.", param=param)


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _check_name(name: JsonValue, where: str) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    wanted = "Expected a string that matches the pattern '^[a-zA-Z0-9_-]{1,64}$'."
    raise BadRequestError(f"Invalid '{where}.name': string does not match pattern. {wanted}", param=f"{where}.name")


def _function(entry: JsonObject, where: str) -> JsonObject:
    function = entry.get("function")
    if entry.get("type") != "function" or not isinstance(function, dict):
        message = f"Missing required parameter: '{where}.function'."
        raise BadRequestError(message, param=f"{where}.function", code="missing_required_parameter")
    return function


def _tool_name(tool: JsonObject, where: str) -> str:
    _need(tool, ("name",), where)
    name, parameters = _check_name(tool["name"], where), tool.get("parameters")
    if parameters is not None and (not isinstance(parameters, dict) or parameters.get("type") != "object"):
        message = f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'."
        raise BadRequestError(message, param=f"{where}.parameters", code="invalid_function_parameters")
    if problem := _schema_problem(parameters):
        message = f"Invalid schema for function '{name}': {problem}"
        raise BadRequestError(message, param=f"{where}.parameters", code="invalid_function_parameters")
    return name


def _schema_problem(schema: JsonValue) -> str | None:
    """What is wrong with a schema, strict or not."""
    if isinstance(schema, list):
        return next(filter(None, map(_schema_problem, schema)), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict) and "prefixItems" in schema:
        return "array schema missing items."
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and re.search(r"\(\?<?[=!]", pattern):
        return "regex lookaround is not supported."
    return next(filter(None, map(_schema_problem, schema.values())), None)


def _check_response_format(response_format: JsonValue) -> None:
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        inner = response_format.get("json_schema")
        _need(response_format, ("json_schema",), "response_format")
        _check_format({"type": "json_schema", **inner} if isinstance(inner, dict) else None, "response_format")


def _check_format(text_format: JsonValue, where: str) -> None:
    if not isinstance(text_format, dict) or text_format.get("type") != "json_schema":
        return
    _need(text_format, ("name", "schema"), where)
    name, schema = _check_name(text_format["name"], where), text_format["schema"]
    problem = _schema_problem(schema)
    if problem or not isinstance(schema, dict) or schema.get("type") != "object":
        message = f"Invalid schema for response_format '{name}': {problem or 'schema must be of type object.'}"
        raise BadRequestError(message, param=where, code="invalid_json_schema")
    if text_format.get("strict") is True and not is_strict(schema):
        message = f"Invalid schema for response_format '{name}': objects must be closed and require every property."
        raise BadRequestError(message, param=where, code="invalid_json_schema")


def is_strict(schema: JsonValue) -> bool:
    """Whether every object in *schema* is closed and requires all of its properties, as `strict: true` demands."""
    if isinstance(schema, list):
        return all(is_strict(entry) for entry in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        properties, required = schema.get("properties"), schema.get("required")
        names = set(properties) if isinstance(properties, dict) else set[str]()
        if (
            schema.get("additionalProperties") is not False
            or set(required if isinstance(required, list) else []) != names
        ):
            return False
    return all(is_strict(value) for value in schema.values())
