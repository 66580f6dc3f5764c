"""Images and files of a conversation, in the shape that each API takes; its items name bytes by their SHA-256."""

from collections.abc import Mapping

from pydantic import JsonValue

from .errors import CallError, ErrorHandling
from .exchange import JsonObject


def responses_content(content: JsonValue, attachments: Mapping[str, str]) -> JsonValue:
    """The content of a person's message for the Responses API."""
    if not isinstance(content, list):
        return content
    return [_responses_part(part, attachments) if isinstance(part, dict) else part for part in content]


def _responses_part(part: JsonObject, attachments: Mapping[str, str]) -> JsonObject:
    if part.get("type") == "input_image":
        source: JsonObject = {"image_url": _data_url(part, attachments)} if "sha256" in part else part
        return {"type": "input_image", "detail": "auto", **source}
    if "sha256" not in part:
        return part
    return {"type": "input_file", "filename": part.get("filename"), "file_data": _data_url(part, attachments)}


def chat_content(content: list[JsonValue], attachments: Mapping[str, str]) -> JsonValue:
    """The content of a person's message for the Chat Completions API.

    Raises:
        CallError: it has an image or file in a form that this API has no place for. Final.
    """
    return [_chat_part(part, attachments) for part in content if isinstance(part, dict)]


def _chat_part(part: JsonObject, attachments: Mapping[str, str]) -> JsonObject:
    match part.get("type"):
        case "input_image":
            url = _data_url(part, attachments) if "sha256" in part else part.get("image_url")
            if url is None:
                raise _no_place("image by its file id")
            return {"type": "image_url", "image_url": {"url": url}}
        case "input_file":
            if "sha256" in part:
                named: JsonObject = {"filename": part["filename"], "file_data": _data_url(part, attachments)}
                return {"type": "file", "file": named}
            if "file_id" not in part:
                raise _no_place("file by its URL")
            return {"type": "file", "file": {"file_id": part["file_id"]}}
        case _:
            return {"type": "text", "text": part.get("text")}


def _data_url(part: JsonObject, attachments: Mapping[str, str]) -> str:
    return f"data:{part['media_type']};base64,{attachments[str(part['sha256'])]}"


def _no_place(what: str) -> CallError:
    message = f"The Chat Completions API takes no {what}: send its bytes, or use OpenAIResponses."
    return CallError(ErrorHandling("ProviderRejected", message, retry=False))
