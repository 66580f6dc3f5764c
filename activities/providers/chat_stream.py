"""The chunks of a streamed completion, put together to the completion."""

from dataclasses import dataclass

from pydantic import JsonValue

from assent.wire.live_text import TextSoFar

from .errors import unreadable
from .exchange import JsonObject
from .metadata import calls_in, mapping, mappings, text_or_empty
from .opaque import call_fields, join_fragments, message_fields


@dataclass
class _Call:
    """A call as far as it has come."""

    index: JsonValue = None
    id: str | None = None
    name: str = ""
    arguments: JsonValue = None
    opaque: JsonValue = None


class Chunks:
    """The chunks of one stream.

    The answer is complete once a chunk has a finish reason; after that the stream has the tokens used. Some servers
    give no reason: then it is complete if the stream has the tokens used, and says `[DONE]`.
    """

    def __init__(self, so_far: TextSoFar) -> None:
        """The words go to *so_far* too, as they come."""
        self._so_far = so_far
        self._content: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[_Call] = []
        self._opaque: JsonValue = None
        self._model = ""
        self._usage: JsonValue = None
        self._finish_reason: str | None = None

    def read(self, event: object) -> bool:
        """Take in a chunk. Never True: the stream itself says when it ends.

        Raises:
            CallError: it is no chunk.
        """
        chunk = mapping(event)
        if not chunk:
            raise unreadable(f"The provider's stream has a chunk that is not one: {str(event)[:500]}")
        self._model = text_or_empty(chunk.get("model")) or self._model
        self._usage = chunk.get("usage") or self._usage
        for choice in mappings(chunk.get("choices")):
            # Some servers count in text.
            if str(choice.get("index") or 0) == "0":
                self._finish_reason = text_or_empty(choice.get("finish_reason")) or self._finish_reason
                self._add(mapping(choice.get("delta", choice.get("message"))))
        return False

    def whole(self, *, done: bool) -> object | None:
        """The completion, as it would be without a stream; None when it is not whole."""
        if not self._finish_reason and not (done and self._usage):
            return None
        calls: list[JsonValue] = [_tool_call(call) for call in self._calls]
        message: JsonObject = {
            **mapping(self._opaque),
            "content": "".join(self._content),
            "refusal": "".join(self._refusal) or None,
            "tool_calls": calls,
        }
        choice: JsonObject = {"message": message, "finish_reason": self._finish_reason}
        return {"choices": [choice], "model": self._model, "usage": self._usage}

    def _add(self, delta: JsonObject) -> None:
        text, refusal = _text(delta.get("content")), text_or_empty(delta.get("refusal"))
        self._content.append(text)
        self._refusal.append(refusal)
        self._so_far.say(text or refusal)
        self._opaque = join_fragments(self._opaque, message_fields(delta))
        for call in calls_in(delta.get("tool_calls")):
            self._add_call(call, mapping(call.get("function")))

    def _add_call(self, part: JsonObject, function: JsonObject) -> None:
        part_id, name = text_or_empty(part.get("id")), text_or_empty(function.get("name"))
        call = self._call_of(part.get("index"), part_id, name)
        call.id = call.id or part_id
        if name and name != call.name:
            if not call.name:
                self._so_far.call(name)
            call.name += name
        call.arguments = _joined(call.arguments, function.get("arguments"))
        call.opaque = join_fragments(call.opaque, call_fields(part))

    def _call_of(self, index: JsonValue, part_id: str, name: str) -> _Call:
        """The call that a part continues, or a new one. Some servers give no index, or the same to every call."""
        for call in reversed(self._calls):
            same_id = part_id in {"", call.id}
            if same_id if index is None else (index == call.index and (same_id or not name)):
                return call
        self._calls.append(_Call(index=index))
        return self._calls[-1]


def _tool_call(call: _Call) -> JsonObject:
    opaque = mapping(call.opaque)
    function: JsonObject = {**mapping(opaque.get("function")), "name": call.name, "arguments": call.arguments}
    return {**opaque, "id": call.id, "function": function}


def _joined(before: JsonValue, more: JsonValue) -> JsonValue:
    if more is None or more == "":
        return before if before is not None else more
    # Some servers send the arguments as an object, and at once.
    return before + more if isinstance(before, str) and isinstance(more, str) else more


def _text(content: JsonValue) -> str:
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "".join(part for part in parts if isinstance(part, str))
