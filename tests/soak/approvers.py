"""The people of the soak: they decide by signals, and look at a tool's own log where nobody knows what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

from pydantic import JsonValue

from assent import AgentClient
from assent.audit.approval import Approval
from assent.wire.errors import RunNotFoundError, ServerUnreachableError
from tests.soak.agents import OUTSIDE, read

_PATIENCE: Final = 5.0
"""Seconds after which somebody says it again, because the signal may have been lost with the server."""


@dataclass
class People:
    """Whoever decides. *said* is what they said of calls whose outcome was unknown."""

    client: AgentClient
    ledger: Path
    sent: dict[str, float] = field(default_factory=dict[str, float])
    said: dict[str, str] = field(default_factory=dict[str, str])
    unreachable: Counter[str] = field(default_factory=Counter[str])

    async def deciding(self, done: asyncio.Event) -> None:
        """Decide what waits, until all is done."""
        while not done.is_set():
            try:
                asked = [(each.run_id, each) for each in await self.client.pending() if self._is_due(each)]
                await asyncio.gather(*(self._decide(run_id, each) for run_id, each in asked[:50]))
            except ServerUnreachableError as error:
                self.unreachable[type(error).__name__] += 1
            except RunNotFoundError:
                pass  # It has ended since.
            await asyncio.sleep(0.2)

    def _is_due(self, requirement: Approval) -> bool:
        return monotonic() - self.sent.get(requirement.id, -_PATIENCE) >= _PATIENCE

    async def _decide(self, run_id: str, requirement: Approval) -> None:
        signal, more = self._decision(run_id, requirement)
        body: dict[str, JsonValue] = {"id": requirement.id, "by": "carol", **more}
        await self.client.get_run(run_id).send(signal, body)
        self.sent[requirement.id] = monotonic()

    def _decision(self, run_id: str, requirement: Approval) -> tuple[str, dict[str, JsonValue]]:
        if requirement.kind == "outcome":
            return self._outcome(run_id, requirement)
        if requirement.tool == OUTSIDE:
            return "submit_result", {"output": "handed out"}
        if int(requirement.id[:4], 16) % 10 == 0:
            return "reject", {"reason": "not this one"}
        return "approve", {}

    def _outcome(self, run_id: str, requirement: Approval) -> tuple[str, dict[str, JsonValue]]:
        """What the log shows: that it happened, that it began and nobody knows more, or that it never began."""
        lines = [
            each for each in read(self.ledger) if (each.run_id, each.call_id) == (run_id, requirement.context.call_id)
        ]
        whats = {each.what for each in lines}
        # What was said first counts; it may be said again, because the signal may be lost.
        said = self.said.setdefault(
            requirement.id, "happened" if "ended" in whats else "given up" if whats else "never began"
        )
        if said == "happened":
            return "submit_result", {"output": "the log says that it was done"}
        return ("reject", {"reason": "give it up"}) if said == "given up" else ("approve", {})
