"""Workflows of a team that ask people, and the activities that they gate."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow

from assent.workflow import (
    NotApprovedError,
    ask_person,
    execute_gated_activity,
    external_result,
    request_approval,
    run_agent,
)


@dataclass
class Account:
    iban: str
    country: str


@activity.defn
def wire(to: Account, cents: int, ledger: str) -> str:
    """One line in the ledger for each effect."""
    with Path(ledger).open("a") as file:
        file.write(f"{cents} to {to.iban}\n")
    return f"wired {cents} to {to.iban}"


@activity.defn
async def fail(why: str) -> str:
    raise ValueError(why)


@activity.defn
async def boast(size: int) -> str:
    return "x" * size


@workflow.defn
class Payout:
    """Asks what its input says, and returns how that ended."""

    def __init__(self) -> None:
        self._restarts = False

    @workflow.signal
    def restart(self) -> None:
        self._restarts = True

    @workflow.run
    async def run(self, what: str, ledger: str = "") -> str:
        try:
            return str(await getattr(self, what)(ledger))
        except NotApprovedError as error:
            return f"{error.decision.status}: {error.decision.reason or error.decision.error}"

    async def approval(self, _: str) -> str:
        decision = await request_approval(
            "wire_transfer",
            {"to": Account("DE12", "DE"), "cents": 500_000},
            requested_by="clerk",
            approvals=2,
            approvers=["finance", "carol"],
            expires_after=timedelta(days=2),
            reason="invoice 4711",
        )
        return f"{decision.status} by {', '.join(decision.decided_by)} {decision.arguments['cents']}"

    async def plain(self, _: str) -> str:
        decision = await request_approval("wire_transfer", {"cents": 1}, requested_by="clerk")
        return f"{decision.status}: {decision.reason}"

    async def short(self, _: str) -> str:
        decision = await request_approval("wire_transfer", {"cents": 1}, expires_after=timedelta(seconds=1))
        return f"{decision.approved} {decision.status}"

    async def question(self, _: str) -> str:
        answer = await ask_person("Which account?", {"iban": str, "cents": int}, requested_by="clerk")
        return f"{answer.values}"

    async def elsewhere(self, _: str) -> str:
        account = await external_result("open_account", {"country": "DE"}, output_type=Account)
        return f"{account}"

    async def activity(self, ledger: str) -> str:
        return await execute_gated_activity(
            wire,
            [Account("DE12", "DE"), 500, ledger],
            requested_by="clerk",
            start_to_close_timeout=timedelta(seconds=20),
        )

    async def failing(self, _: str) -> str:
        return await execute_gated_activity(fail, ["no money"])

    async def large(self, _: str) -> str:
        return await execute_gated_activity(boast, [300_000])

    async def agent(self, _: str) -> str:
        return (await run_agent("refunds", "Refund 4711.", requested_by="clerk")).content

    async def several(self, _: str) -> str:
        decisions = await asyncio.gather(*(request_approval("wire_transfer", {"cents": n}) for n in range(3)))
        return " ".join(f"{each.arguments['cents']}:{each.status}" for each in decisions)

    async def restarting(self, ledger: str) -> str:
        asking = asyncio.create_task(request_approval("wire_transfer", {"cents": 1}))
        await workflow.wait_condition(lambda: self._restarts or asking.done())
        if self._restarts:
            workflow.continue_as_new(args=["plain", ledger])
        return (await asking).status


@workflow.defn(sandboxed=False)
class UnsandboxedPayout(Payout):
    """Asks everything that there is to ask, at once, outside of the sandbox."""

    @workflow.run
    async def run(self, what: str, ledger: str = "") -> str:
        del what
        every = (self.plain, self.question, self.elsewhere, self.activity, self.agent)
        return " | ".join(await asyncio.gather(*(each(ledger) for each in every)))
