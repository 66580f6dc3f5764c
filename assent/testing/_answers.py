"""An answer of the scripted model, in the JSON of either API."""

import time
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from assent.testing._reasoning import encrypted, seal
from assent.testing._script import Finish, Reply, Thought

JsonObject = dict[str, JsonValue]

_INCOMPLETE: Final[dict[Finish, str]] = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(frozen=True)
class TurnReply:
    """A reply with what it answers: *mark* names the turn, *size* is the request's in bytes."""

    model: str
    reply: Reply
    thought: Thought | None
    mark: str
    size: int

    @property
    def thoughtful_mark(self) -> str:
        """The mark of ids; it says whether there was reasoning."""
        if self.thought is None:
            return self.mark
        return f"o{self.mark}" if self.thought.sealed else f"r{self.mark}"

    def call_id(self, index: int) -> str:
        """The id of the call number *index*."""
        return self.reply.ids[index] if index < len(self.reply.ids) else f"call_{self.thoughtful_mark}{index}"

    @property
    def tokens(self) -> tuple[int, int, int]:
        """Tokens of the input, of the output, and those of the output that were reasoning; a rough but steady count."""
        length = sum(len(call.arguments) + len(call.name) for call in self.reply.calls) + len(self.reply.text or "")
        reasoning = 64 if self.thought else 0
        return self.size // 4 + 1, length // 4 + 1 + reasoning, reasoning


def response(answered: TurnReply) -> JsonObject:
    """The body of an answer of `/responses`."""
    reason = _INCOMPLETE.get(answered.reply.finish)
    tokens = answered.tokens
    return {
        "id": f"resp_{answered.mark}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if reason else "completed",
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": answered.model,
        "output": [*_reasoning(answered), *_messages(answered), *_calls(answered)],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "usage": {
            "input_tokens": tokens[0],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": tokens[1],
            "output_tokens_details": {"reasoning_tokens": tokens[2]},
            "total_tokens": tokens[0] + tokens[1],
        },
    }


def _reasoning(answered: TurnReply) -> list[JsonValue]:
    if answered.thought is None:
        return []
    summary: list[JsonValue] = []
    if answered.thought.summary:
        summary.append({"type": "summary_text", "text": answered.thought.summary})
    item_id = f"rs_{answered.mark}"
    return [
        {
            "id": item_id,
            "type": "reasoning",
            "summary": summary,
            "encrypted_content": encrypted(item_id, answered.model),
        }
    ]


def _messages(answered: TurnReply) -> list[JsonValue]:
    text = answered.reply.text
    if text is None:
        return []
    part: JsonObject = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    if answered.reply.finish == "refusal":
        part = {"type": "refusal", "refusal": text}
    item: JsonObject = {"id": f"msg_{answered.thoughtful_mark}", "type": "message", "status": "completed"}
    return [{**item, "role": "assistant", "content": [part]}]


def _calls(answered: TurnReply) -> list[JsonValue]:
    return [
        {
            "id": f"fc_{answered.thoughtful_mark}{index}",
            "type": "function_call",
            "status": "completed",
            "call_id": answered.call_id(index),
            "name": call.name,
            "arguments": call.arguments,
        }
        for index, call in enumerate(answered.reply.calls)
    ]


def completion(answered: TurnReply) -> JsonObject:
    """The body of an answer of `/chat/completions`."""
    tokens = answered.tokens
    return {
        "id": f"chatcmpl-{answered.mark}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answered.model,
        "choices": [{"index": 0, "message": _message(answered), "finish_reason": _finish(answered), "logprobs": None}],
        "usage": {
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "total_tokens": tokens[0] + tokens[1],
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": tokens[2], "audio_tokens": 0},
        },
    }


def _finish(answered: TurnReply) -> str:
    finish = answered.reply.finish
    if finish in {"length", "content_filter"}:
        return finish
    return "tool_calls" if answered.reply.calls else "stop"


def _message(answered: TurnReply) -> JsonObject:
    refused = answered.reply.finish == "refusal"
    text = answered.reply.text
    thought = answered.thought is not None and answered.thought.sealed
    message: JsonObject = {
        "role": "assistant",
        "content": None if refused else text,
        "refusal": text if refused else None,
        "annotations": [],
    }
    if answered.reply.calls:
        message["tool_calls"] = [
            {
                "id": answered.call_id(index),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **({"extra_content": {"google": {"thought_signature": seal(answered.mark)}}} if thought else {}),
            }
            for index, call in enumerate(answered.reply.calls)
        ]
    if thought:
        message["reasoning_content"] = seal(answered.mark)
    return message
