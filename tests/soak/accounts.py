"""What the runs of the soak came to: their histories held against what the tools themselves wrote down."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from assent import RunHandle
from assent.audit import ApprovalRecord, Audit
from assent.testing import check_replay
from assent.verification import Verifier
from tests.soak.tools import AGAIN, ONCE, Line, Plan


@dataclass
class Accounts:
    """The ledger's lines, and what was counted."""

    lines: Sequence[Line]
    counts: Counter[str] = field(default_factory=Counter[str])

    async def check(self, run: RunHandle, plan: Plan, *, replayed: bool) -> None:
        """Check one run, which has ended."""
        result = await run.result()
        verifier = Verifier(run.id)
        audit = await run.audit(verifier)
        verification = verifier.verification(audit)
        assert verification.ok, (run.id, verification)
        calls = [name for turn in plan for name in turn]
        told = json.loads(result.content)
        assert len(told) == len(calls), (run.id, plan, told)
        self._compare(run.id, audit, calls)
        if replayed:
            await check_replay(await run.history())
        executions = len(audit.run.executions)
        self.counts.update({"runs": 1, "calls": len(calls), "executions": executions, "continued": executions > 1})

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
