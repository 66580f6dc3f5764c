"""What both sides are asked to do, written into the prompt, so that the scripted model needs no memory."""

from __future__ import annotations

import uuid
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

MODEL: Final = "scripted"
WORK: Final = "work"
GUARDED: Final = "guarded"
INSTRUCTIONS: Final = "Do what the prompt asks for."
URL_VARIABLE: Final = "BENCH_MODEL_URL"


class Task(BaseModel):
    """*turns* times a model call and *calls* of *tool*, each answered with *size* bytes; then the model's last words.

    *nonce* makes every prompt another, and with it the scripted model's call ids: it derives them from what it is sent.
    """

    model_config = ConfigDict(frozen=True)

    turns: int
    size: int = 0
    tool: str = WORK
    calls: int = 1
    nonce: str = Field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def prompt(self) -> str:
        """The prompt that asks for it."""
        return self.model_dump_json()


def output(size: int) -> str:
    """What the no-op tool returns: *size* bytes of text that no encoder has to escape."""
    return "x" * size if size else "ok"
