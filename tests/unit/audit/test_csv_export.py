"""Approval records as a table: the columns stay, and no cell is a formula."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.audit.csv_export import COLUMNS, cell, rows
from assent.audit.offline import audit_files
from assent.wire.text import hidden, one_line
from tests.replay import FOLDER
from tests.unit.audit.forged_histories import Forged, read


async def table(name: str) -> list[dict[str, str]]:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows(await audit_files([FOLDER / f"{name}.json"])))
    assert written.getvalue().count("\n") == len(written.getvalue().splitlines())
    return list(csv.DictReader(io.StringIO(written.getvalue())))


def test_the_columns_are_these_in_this_order() -> None:
    assert list(COLUMNS) == [
        "run_id", "id", "agent", "agent_version", "model", "requested_by", "turn", "call_id", "tool", "arguments",
        "arguments_sha256", "arguments_before", "edited_by", "follows", "kind", "approval_type", "gate",
        "policy_version", "note", "needed", "approvers", "created_at", "expires_at", "status", "resolved_at",
        "resolved_by", "reason", "grant", "decided_by_way_of", "decided_identity", "decided_principal", "attribution",
        "sent", "not_counted", "votes", "execution", "tool_runs", "outcome", "started_at", "finished_at", "attempts",
        "worker", "result", "result_size", "result_sha256",
        "opened_execution_id", "opened_event", "resolved_execution_id",
        "resolved_event", "child_run_id", "child_agent", "child_outcome", "handed_over_to",
    ]  # fmt: skip


async def test_each_approval_record_is_one_row() -> None:
    first, second = await table("escalated-and-edited")
    assert (first["status"], first["sent"], first["not_counted"]) == ("superseded", "4", "2")
    assert second["arguments"] == '{"amount":3,"to":"shop"}'
    assert second["arguments_before"] == '{"to": "shop", "amount": 5}'
    assert (second["edited_by"], second["follows"], second["approvers"]) == ("bob", first["id"], '["ann","bob"]')
    assert (second["resolved_by"], second["decided_by_way_of"], second["attribution"]) == (
        "ann",
        "update",
        "unverified",
    )
    assert (second["outcome"], second["attempts"], second["result"]) == ("executed", "1", "sent 3 to shop")
    history = Forged(read("escalated-and-edited"))
    edit, vote = history.sent(by="bob")[-1], history.sent(by="ann")[-1]
    checked = next(
        each for each in history.of("ACTIVITY_TASK_COMPLETED") if int(each["eventId"]) > int(edit["eventId"])
    )
    assert (second["opened_event"], second["resolved_event"]) == (checked["eventId"], vote["eventId"])


async def test_what_silence_decided_names_nobody() -> None:
    [row] = await table("expired")
    assert (row["status"], row["resolved_by"], row["decided_identity"], row["attribution"]) == ("expired", "", "", "")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1", "'=1"])
def test_a_formula_is_text(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize(("text", "written"), [("\t=1", r"\t=1"), ("\r=1", r"\x0d=1"), ("\n=1", r"\n=1")])
def test_tabs_and_line_ends_before_a_formula_are_escapes(text: str, written: str) -> None:
    assert cell(text) == written


@given(st.text())
def test_no_cell_is_active_or_hides_anything_and_the_apostrophe_comes_off(text: str) -> None:
    written = cell(text)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert not any(map(hidden, written))
    assert written.removeprefix("'") == one_line(text) if written.startswith("'") else written == one_line(text)


def test_numbers_stay_numbers_and_nothing_is_an_empty_cell() -> None:
    assert [cell(value) for value in (0, -3, None, "")] == ["0", "-3", "", ""]
