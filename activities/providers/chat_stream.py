"""The chunks of a streamed completion, put together to the completion."""

from __future__ import annotations

from pydantic import BaseModel, JsonValue, ValidationError

from assent.wire.live_text import TextSoFar

from .errors import unreadable
from .exchange import JsonObject


class _Function(BaseModel):
    name: str | None = None
    arguments: JsonValue = None


class _Call(BaseModel):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(BaseModel):
    content: JsonValue = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(BaseModel):
    """As much of a chunk as is read."""

    choices: list[_Choice] | None = None
    model: str | None = None
    usage: JsonValue = None


class Chunks:
    """The chunks of one stream.

    The answer is complete once a chunk has a finish reason; after that the stream has the tokens used.
    """

    def __init__(self, so_far: TextSoFar) -> None:
        """The words go to *so_far* too, as they come."""
        self._so_far = so_far
        self._content: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[_Call] = []
        self._model = ""
        self._usage: JsonValue = None
        self._finish_reason: str | None = None

    def read(self, event: object) -> bool:
        """Take in a chunk. Never True: the stream itself says when it ends.

        Raises:
            CallError: it is no chunk.
        """
        try:
            chunk = _Chunk.model_validate(event)
        except ValidationError as error:
            raise unreadable(f"A chunk of the provider's stream is none: {str(event)[:500]}") from error
        self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices or ():
            if choice.index == 0:
                self._finish_reason = choice.finish_reason or self._finish_reason
                self._add(choice.delta or _Delta())
        return False

    def whole(self) -> object | None:
        """The completion, as it would be without a stream; None when no chunk said why it ends."""
        if self._finish_reason is None:
            return None
        message: JsonObject = {
            "content": "".join(self._content),
            "refusal": "".join(self._refusal) or None,
            "tool_calls": [call.model_dump(exclude_none=True) for call in self._calls],
        }
        choice: JsonObject = {"message": message, "finish_reason": self._finish_reason}
        return {"choices": [choice], "model": self._model, "usage": self._usage}

    def _add(self, delta: _Delta) -> None:
        words = _words(delta.content)
        self._content.append(words)
        self._refusal.append(delta.refusal or "")
        self._so_far.say(words or delta.refusal or "")
        for call in delta.tool_calls or ():
            self._add_call(call)

    def _add_call(self, part: _Call) -> None:
        call = self._call_of(part)
        function, more = call.function or _Function(), part.function or _Function()
        call.id = call.id or part.id
        if more.name and more.name != function.name:
            if not function.name:
                self._so_far.call(more.name)
            function.name = (function.name or "") + more.name
        function.arguments = _joined(function.arguments, more.arguments)
        call.function = function

    def _call_of(self, part: _Call) -> _Call:
        """The call that *part* continues, or a new one. Some servers give no index, or the same to every call."""
        name = part.function.name if part.function else None
        for call in reversed(self._calls):
            same_id = part.id is None or part.id in {"", call.id}
            if same_id if part.index is None else (part.index == call.index and (same_id or not name)):
                return call
        self._calls.append(_Call(index=part.index))
        return self._calls[-1]


def _joined(before: JsonValue, more: JsonValue) -> JsonValue:
    if more is None or more == "":
        return before if before is not None else more
    # Some servers send the arguments as an object, and at once.
    return before + more if isinstance(before, str) and isinstance(more, str) else more


def _words(content: JsonValue) -> str:
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "".join(part for part in parts if isinstance(part, str))
