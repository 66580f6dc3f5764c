"""The words of a model's answer while it is written: the heartbeats of a model call.

Heartbeats are not in the history. What is told is the model's own words and the names of the tools that it begins to
call; never the prompt, never arguments.
"""

from dataclasses import dataclass, field
from typing import Final

from pydantic import Field

from assent.wire.limits import LIVE_NAME_SHOWN, LIVE_TEXT_SHOWN
from assent.wire.protocol import Stored, Usage

CALLS_SHOWN: Final = 32
"""Names of tools that are told."""


class WastedAnswers(Stored):
    """Answers of the model's earlier attempts at one turn that could not be used: how many, and what they used.

    *failure* is the newest failure, *times* how often it came in a row.
    """

    answers: int = 0
    usage: Usage = Usage()
    failure: str = ""
    times: int = 0


class LiveText(Stored):
    """An answer so far. *text* is its end, *left_out* the number of characters before that, *characters* all of them.

    *calls* are the tools that it has begun to call, the newest last. *attempt* is the activity's; the text of a failed
    attempt is no part of the answer. *wasted* is for the next attempt, which counts on from there.
    """

    turn: int
    attempt: int = 1
    text: str = ""
    left_out: int = 0
    characters: int = 0
    calls: list[str] = Field(default_factory=list[str])
    wasted: WastedAnswers = WastedAnswers()

    @property
    def begun(self) -> bool:
        """Whether the model has said anything."""
        return bool(self.characters or self.calls)


@dataclass
class TextSoFar:
    """Collects the words of an answer as they come. To add a few costs the same however many there are."""

    characters: int = 0
    wasted: WastedAnswers = field(default_factory=WastedAnswers)
    _parts: list[str] = field(default_factory=list[str])
    _calls: list[str] = field(default_factory=list[str])
    _place: object = None

    def say(self, words: str, place: object = None) -> None:
        """Add *words*. Those of another *place* are another paragraph, as `conversation.text_of` has it."""
        if not words:
            return
        if place != self._place and self.characters:
            words = f"\n\n{words}"
        self._place = place
        self.characters += len(words)
        self._parts.append(words)

    def call(self, tool: str) -> None:
        """A call of *tool* has begun."""
        self._calls.append(tool if len(tool) <= LIVE_NAME_SHOWN else f"{tool[:LIVE_NAME_SHOWN]}…")

    @property
    def begun(self) -> bool:
        """Whether the model has said anything."""
        return bool(self.characters or self._calls)

    def fail(self, wasted: WastedAnswers) -> None:
        """Forget the words: they are none of an answer. *wasted* counts them."""
        self.characters, self.wasted = 0, wasted
        self._parts, self._calls = [], []

    def snapshot(self, turn: int, attempt: int) -> LiveText | None:
        """What there is to tell of it; None before it has begun."""
        if not self.begun:
            counts = bool(self.wasted.model_fields_set)
            return LiveText(turn=turn, attempt=attempt, wasted=self.wasted) if counts else None
        self._parts = ["".join(self._parts)[-LIVE_TEXT_SHOWN:]]
        # Half of a character, whose other half is still to come, could not be written into a heartbeat.
        text = self._parts[0].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return LiveText(
            turn=turn,
            attempt=attempt,
            text=text,
            left_out=max(0, self.characters - LIVE_TEXT_SHOWN),
            characters=self.characters,
            calls=self._calls[-CALLS_SHOWN:],
            wasted=self.wasted,
        )
