"""The bare side's workflow: ask the model, run the tool, pass its result on; a guarded tool waits for a signal."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from bench.bare_activities import Answer, Call, Delta, call_model
    from bench.task import GUARDED

TIMEOUT: Final = timedelta(minutes=5)


@workflow.defn
class BareRun:
    """Two activities a turn, and nothing else in its history."""

    def __init__(self) -> None:
        """Nothing is approved yet."""
        self._approved = False

    @workflow.run
    async def run(self, prompt: str) -> str:
        """Run to the model's last words."""
        delta = Delta(text=prompt)
        while True:
            answer: Answer = await workflow.execute_activity(call_model, delta, start_to_close_timeout=TIMEOUT)
            if answer.call is None:
                return answer.text
            delta = Delta(text=await self._tool(answer.call), call_id=answer.call.id)

    async def _tool(self, call: Call) -> str:
        if call.tool == GUARDED:
            await workflow.wait_condition(lambda: self._approved)
        result: str = await workflow.execute_activity(
            call.tool, call.arguments, result_type=str, start_to_close_timeout=TIMEOUT
        )
        return result

    @workflow.signal
    def approve(self, by: str) -> None:
        """Let the guarded tool run."""
        self._approved = bool(by)
