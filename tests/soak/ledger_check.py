"""What the runs of the soak came to: their histories held against what the tools themselves wrote down."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from assent import AgentClient
from assent.audit.audit_tree import audits
from assent.audit.observer import AuditObserver
from assent.audit.records import ApprovalRecord, Audit
from assent.testing import check_replay
from tests.soak.agents import AGAIN, HAND_OVER, ONCE, Line, Plan


@dataclass
class Accounts:
    """The ledger's lines, and what was counted."""

    lines: Sequence[Line]
    counts: Counter[str] = field(default_factory=Counter[str])

    async def check(self, client: AgentClient, run_id: str, plan: Plan, *, replayed: bool) -> None:
        """Check one run, which has ended, and those below it."""

        async def read(name: str, observer: AuditObserver | None) -> Audit:
            return await client.get_run(name).audit(observer)

        async for each in audits(read, run_id, verify=True):
            assert each.audit is not None, (each.run_id, "its history is gone")
            assert each.verification is not None
            assert each.verification.ok, (each.run_id, each.verification)
            await self._check(client, each.audit, plan if each.run_id == run_id else None)
            if replayed:
                await check_replay(await client.get_run(each.run_id).history())

    async def _check(self, client: AgentClient, audit: Audit, plan: Plan | None) -> None:
        run = client.get_run(audit.run.run_id)
        own: Plan = json.loads((await run.state()).input)
        assert plan is None or plan == own
        calls = [name for turn in own for name in turn]
        told = json.loads((await run.result()).content)
        assert len(told) == len(calls), (run.id, own, told)
        self._compare(run.id, audit, [name for name in calls if isinstance(name, str)])
        assert [each.outcome for each in audit.children] == ["answered"] * (len(calls) - self._tools(calls))
        executions = len(audit.run.executions)
        found = {"runs": plan is not None, "below": plan is None, "calls": len(calls), "executions": executions}
        self.counts.update(found | {"continued": executions > 1, "handed over": HAND_OVER in calls})

    @staticmethod
    def _tools(calls: Sequence[str | Plan]) -> int:
        return sum(isinstance(name, str) for name in calls)

    def _compare(self, run_id: str, audit: Audit, calls: Sequence[str]) -> None:
        mine = [line for line in self.lines if line.run_id == run_id]
        gated = [record for record in audit if record.tool_name in {*ONCE, "settle"}]
        self._at_most_once_for_each_approval([line for line in mine if line.tool in ONCE], gated)
        for record in gated:
            self._as_decided(record, [line for line in mine if line.call_id == record.context.call_id])
        looked = {line.call_id for line in mine if line.tool == "look_up" and line.what == "ended"}
        assert len(looked) == calls.count("look_up"), (run_id, "an ungated call never ran to its end")
        self.counts["began again"] += sum(line.attempt > 1 and line.what == "began" for line in mine)
        for line in mine:
            self.counts[f"{line.what}: {'once' if line.tool in ONCE else 'again'}"] += 1
        assert {line.tool for line in mine} <= {*ONCE, *AGAIN}

    def _at_most_once_for_each_approval(self, lines: Sequence[Line], records: Sequence[ApprovalRecord]) -> None:
        approved = {record.id for record in records if record.status == "approved"}
        begun: dict[str, int] = defaultdict(int)
        for line in lines:
            assert line.requirement_id in approved, (line, "it ran without an approval")
            assert line.attempt == 1, (line, "it was tried again")
            begun[line.requirement_id] += line.what == "began"
        assert all(times == 1 for times in begun.values()), begun

    def _as_decided(self, record: ApprovalRecord, lines: Sequence[Line]) -> None:
        own = Counter(line.what for line in lines if line.requirement_id == record.id)
        self.counts[f"{record.kind}: {record.status}, {record.execution or 'not run'}"] += 1
        assert record.status in {"approved", "rejected"}, record
        if record.status == "rejected":
            assert own == Counter(), (record, "it was rejected and ran")
        elif record.tool_name == "settle":
            assert record.kind == "confirmation", (record, "an idempotent call is not put to a person again")
            assert (record.execution, own["ended"] >= 1) == ("executed", True), (record, own)
        elif record.execution == "executed" and record.runs:
            assert own == Counter(began=1, ended=1), (record, own)
        else:
            assert record.execution in {"unknown", "executed"}, record
