"""What a scripted model does: the steps, and the conversation that a step may look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import JsonValue

from assent.wire.conversation import text_of
from assent.wire.protocol import Item

Finish = Literal["stop", "length", "content_filter", "refusal"]


@dataclass(frozen=True)
class Conversation:
    """What a step that is a function gets to see: the request, in the same form whichever API it came over.

    *turn* is how many answers of the model are in it already. *tools* are the names of the tools on offer.
    """

    model: str
    instructions: str | None
    items: Sequence[Item]
    tools: Sequence[str]
    turn: int

    @cached_property
    def user(self) -> list[str]:
        """What people said, oldest first."""
        return [_plain(item.get("content")) for item in self.items if item.get("role") == "user"]

    @cached_property
    def tool_outputs(self) -> dict[str, str]:
        """The results of the tool calls by call id, in the order of the conversation."""
        outputs = (item for item in self.items if item.get("type") == "function_call_output")
        return {str(item.get("call_id")): _plain(item.get("output")) for item in outputs}

    @property
    def last_output(self) -> str | None:
        """The newest tool output; None when there is none."""
        return next(reversed(self.tool_outputs.values()), None)


@dataclass(frozen=True)
class Call:
    """One tool call of a scripted answer. *arguments* are the raw text."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """An answer of the model. Made by `says` and `calls`."""

    text: str | None = None
    calls: tuple[Call, ...] = ()
    ids: tuple[str, ...] = ()
    finish: Finish = "stop"
    delay: float = 0.0


@dataclass(frozen=True)
class Failure:
    """A status that is no answer. Made by `fails`."""

    status: int
    body: JsonValue
    headers: Mapping[str, str]
    times: int | None


@dataclass(frozen=True)
class Hang:
    """Silence before whatever comes next. Made by `hangs`."""

    seconds: float
    times: int | None


@dataclass(frozen=True)
class BreakOff:
    """The first half of the answer that comes next. Made by `breaks_off`."""

    times: int | None


@dataclass(frozen=True)
class Garble:
    """Status 200 with a body of anything. Made by `garbles`."""

    body: str
    content_type: str
    times: int | None


@dataclass(frozen=True)
class Thought:
    """A reasoning item in front of the answer that comes next. Made by `thinks`."""

    summary: str
    sealed: bool = False


@dataclass(frozen=True)
class Alteration:
    """The answer that comes next, changed. Made by `alters`."""

    change: Callable[[dict[str, JsonValue]], None]
    times: int | None


PlainStep = Reply | Failure | Hang | BreakOff | Garble | Thought | Alteration
Step = PlainStep | Callable[[Conversation], "PlainStep | Sequence[PlainStep]"]
"""One step of a script. A function may answer a sequence: what goes before an answer, and the answer."""


def call(tool: str, /, *, raw: str | None = None, **arguments: JsonValue) -> Call:
    """One tool call, for `calls`. *raw* is the text of the arguments exactly, valid JSON or not.

    Example:
        `step = calls(call("deploy", target="prod"))`
    """
    return Call(tool, json.dumps(arguments, ensure_ascii=False) if raw is None else raw)


def calls(*tool_calls: Call, text: str | None = None, ids: Sequence[str] = (), delay: float = 0.0) -> Reply:
    """An answer that calls tools, side by side, perhaps with *text* before them.

    *ids* are call ids to use instead of unique ones, as some compatible servers send `call_0` on every turn. *delay*
    is seconds before each word, where the answer is asked for as a stream.

    Example:
        `step = calls(call("deploy", target="prod"), call("deploy", target="test"))`
    """
    return Reply(text=text, calls=tool_calls, ids=tuple(ids), delay=delay)


def says(text: str | Mapping[str, JsonValue], *, finish: Finish = "stop", delay: float = 0.0) -> Reply:
    """An answer in words; a mapping is said as JSON. *finish* is why the answer ends there.

    *delay* is seconds before each word, where the answer is asked for as a stream.

    Example:
        `model = running.responses(says("Done."))`
    """
    output = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
    return Reply(text=output, finish=finish, delay=delay)


def fails(
    status: int = 500,
    *,
    retry_after: float | None = None,
    times: int | None = 1,
    message: str | None = None,
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: JsonValue = None,
) -> Failure:
    """Fail with *status* the first *times* (None: every time) this point of a conversation is reached, then continue.

    *retry_after* is seconds; a fraction is sent as `retry-after-ms` too, as the real API does. *body* is the whole JSON
    of the error, for other envelopes than OpenAI's.

    Example:
        `model = running.responses(fails(429, retry_after=1), says("Done."))`
    """
    text = message or f"A scripted failure with status {status}."
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error: dict[str, JsonValue] = {"message": text, "type": kind, "param": param, "code": code}
    envelope: JsonValue = {"error": error} if body is None else body
    return Failure(status, envelope, {**_retry_headers(retry_after), **(headers or {})}, times)


def hangs(seconds: float, *, times: int | None = 1) -> Hang:
    """Be silent for *seconds*, then continue with the next step: a slow answer, or a timeout of the client.

    Example:
        `model = running.responses(hangs(5), says("Done."))`
    """
    return Hang(seconds, times)


def breaks_off(*, times: int | None = 1) -> BreakOff:
    """Send half of the answer that comes next, streamed or not, and close the connection.

    Example:
        `model = running.responses(breaks_off(), says("Done."))`
    """
    return BreakOff(times)


def garbles(
    body: str = "<html>Bad gateway</html>", *, content_type: str = "text/html", times: int | None = 1
) -> Garble:
    """Answer with status 200 and a *body* that is no answer.

    Example:
        `model = running.responses(garbles(), says("Done."))`
    """
    return Garble(body, content_type, times)


def alters(change: Callable[[dict[str, JsonValue]], None], *, times: int | None = None) -> Alteration:
    """Let *change* alter the JSON of the answer that comes next, as a compatible server would have it.

    The JSON is that of the API in use, without a stream; a stream is made of it then.

    Example:
        `model = running.responses(alters(lambda answer: answer.pop("usage")), says("Done."))`
    """
    return Alteration(change, times)


def thinks(summary: str = "", *, sealed: bool = False) -> Thought:
    """Put a reasoning item in front of the answer that comes next.

    The Responses API then demands it back, with its encrypted content, on every later turn. Over the Chat Completions
    API nothing of it is seen; where it is *sealed*, calls come with `reasoning_content` and a signature, and are
    demanded back with both, as DeepSeek and Gemini do.

    Example:
        `model = running.responses(thinks("Which city?"), says("Done."))`
    """
    return Thought(summary, sealed)


@dataclass
class Script:
    """The steps of one model, sorted by the answer that they lead up to."""

    slots: list[list[Step]] = field(default_factory=list[list[Step]])
    endless: bool = False

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Script:
        """The script made of *steps*: each answer or function ends one slot. A lone function answers every turn."""
        script = cls(endless=len(steps) == 1 and callable(steps[0]))
        slot: list[Step] = []
        for step in steps:
            slot.append(step)
            if isinstance(step, Reply) or callable(step):
                script.slots.append(slot)
                slot = []
        if slot:
            script.slots.append(slot)
        return script

    def at(self, turn: int) -> list[Step] | None:
        """The steps for the answer number *turn*, from 0; None when the script has run out."""
        if self.endless:
            return self.slots[0]
        return self.slots[turn] if turn < len(self.slots) else None


def turns_of(items: Sequence[Item]) -> int:
    """How many answers of the model are among *items*; whatever comes in one piece is one answer."""
    mine = [item.get("role") == "assistant" or item.get("type") in {"function_call", "reasoning"} for item in items]
    return sum(now and not before for before, now in zip([False, *mine], mine, strict=False))


def _retry_headers(seconds: float | None) -> dict[str, str]:
    if seconds is None:
        return {}
    exact = {} if seconds == int(seconds) else {"retry-after-ms": f"{seconds * 1000:g}"}
    return {"retry-after": f"{seconds:g}", **exact}


def _plain(content: JsonValue) -> str:
    return content if isinstance(content, str) else text_of([{"role": "assistant", "content": content}])
