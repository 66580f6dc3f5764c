"""The records of child runs and handoffs."""

from __future__ import annotations

from assent.audit.approval import approvals_of
from assent.history.fold import fold
from tests.unit.audit.forged_histories import audited, parsed, read

ASKED, BELOW, HANDED = "asked-an-agent", "asked-an-agent-below", "handed-over"


def test_the_record_of_a_call_has_the_run_in_which_another_agent_answered_it() -> None:
    audit, _ = audited(parsed(read(ASKED)))
    [call] = [each for each in audit.calls if each.tool == "ask_writer"]
    [run] = call.runs
    assert run.child is not None
    assert run.child.answer is not None
    assert (run.child.agent, run.child.outcome, run.child.answer.text) == (
        "writer",
        "answered",
        run.result and run.result.text,
    )
    assert (run.outcome, run.finished_at, call.agent) == ("executed", run.child.finished_at, "boss")
    below, _ = audited(parsed(read(BELOW)))
    assert run.child.usage == below.run.usage
    assert run.child.run_id == below.run.run_id
    assert [each.run_id for each in below.run.parents] == [audit.run.run_id]
    kinds = [parsed(read(ASKED))[each.event_id - 1].WhichOneof("attributes") for each in run.child.events]
    assert kinds == [
        "start_child_workflow_execution_initiated_event_attributes",
        "child_workflow_execution_started_event_attributes",
        "child_workflow_execution_completed_event_attributes",
    ]


def test_records_name_the_agent_by_which_a_call_was_made_before_and_after_a_handoff() -> None:
    audit, _ = audited(parsed(read(HANDED)))
    assert [each.agent for each in audit] == ["host", "sales"]
    assert [each.agent for each in audit.calls] == ["host"]
    assert [each.agent for each in audit.turns] == ["host", "host", "sales", "sales"]
    assert (audit.run.agent, audit.state.agent) == ("host", "sales")
    [handoff] = audit.handoffs
    assert (handoff.from_agent, handoff.to_agent, handoff.tool) == ("host", "sales", "transfer_to_sales")
    [grant] = audit.grants
    assert handoff.grants == [grant.id]
    assert (grant.revoked_at, grant.revoked_by, grant.decisions) == (handoff.at, None, [])
    [call] = audit.calls
    assert [each.handoff for each in call.runs] == ["sales"]


def test_the_short_records_of_a_run_name_the_same_agents() -> None:
    assert [each.agent for each in approvals_of(fold(parsed(read(HANDED))))] == ["host", "sales"]
