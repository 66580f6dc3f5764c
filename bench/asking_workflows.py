"""A workflow that asks a person by `request_approval`, and one that does so by a bare child workflow with a signal."""

from __future__ import annotations

from temporalio import workflow

from assent.workflow import request_approval


@workflow.defn
class Asking:
    """Waits for an approval."""

    @workflow.run
    async def run(self) -> str:
        """Return how it was decided."""
        return (
            await request_approval("wire", {"to": "DE02120300000000202051", "cents": 500}, requested_by="al")
        ).status


@workflow.defn
class AskingForProof:
    """Waits for an approval that proves who decided."""

    @workflow.run
    async def run(self) -> str:
        """Return how it was decided."""
        arguments = {"to": "DE02120300000000202051", "cents": 500}
        return (await request_approval("wire", arguments, requested_by="al", proof="service")).status


@workflow.defn
class BareAsking:
    """Waits for a child that waits for a signal."""

    @workflow.run
    async def run(self) -> str:
        """Return what the child returns."""
        return await workflow.execute_child_workflow(BareQuestion.run, id=f"{workflow.info().workflow_id}.wire")


@workflow.defn
class BareQuestion:
    """Waits for a signal."""

    def __init__(self) -> None:
        """Nothing is approved yet."""
        self._by = ""

    @workflow.run
    async def run(self) -> str:
        """Return once it is approved."""
        await workflow.wait_condition(lambda: bool(self._by))
        return "approved"

    @workflow.signal
    def approve(self, by: str) -> None:
        """Let it end."""
        self._by = by
