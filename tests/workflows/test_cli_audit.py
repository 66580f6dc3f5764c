"""`assent audit` as auditors use it: real processes, on a real server, on files with none, and on bundles."""

from __future__ import annotations

import base64
import copy
import csv
import io
import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assent import Agent, RunHandle, approval, ask_user, tool
from assent.client.client import AgentClient
from assent.runtime.embedded_server import free_port
from assent.testing import Answered, Approved, Environment, Rejected, Reply, call, calls, drive, says
from assent.testing.approver import Delivered, Ruling
from tests.support import tools
from tests.support.cli_operator import Operator, Ran
from tests.workflows.test_wire import temporal

ODD = '=HYPERLINK("http://x") \u202e'


@approval(type="audit")
@tool(requires_confirmation=True)
def wipe(target: str) -> str:
    """Wipe it."""
    return f"wiped {target}"


class Offline(Operator):
    """Somebody with the `assent` command where no server answers."""

    def variables(self, columns: int | None) -> dict[str, str]:
        return {**super().variables(columns), "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}"}


@dataclass(frozen=True)
class Auditor:
    """An auditor of one run: with the server, and without one."""

    environment: Environment
    client: AgentClient
    run: RunHandle
    online: Operator
    offline: Operator

    async def shown(self, folder: Path) -> list[str]:
        """The history as the real `temporal` command writes it, a file for each execution: `--file` options."""
        wanted = (await self.run.description()).run_id
        options: list[str] = []
        while wanted:
            text = await temporal(
                self.environment, "workflow", "show", "--workflow-id", self.run.id, "--run-id", wanted,
                "--output", "json",
            )  # fmt: skip
            path = folder / f"{wanted}.json"
            path.write_text(text)
            options += ["--file", str(path)]
            begun = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
            wanted = begun.get("continuedExecutionRunId", "")
        return options


@asynccontextmanager
async def auditing(environment: Environment, *steps: Reply, continue_after: int = 0) -> AsyncGenerator[Auditor]:
    """A run whose model makes these calls, paused or over, and its auditor."""
    name = f"a-{uuid.uuid4().hex[:6]}"
    agent = Agent(name=name, model=environment.responses(*steps, says("Done.")), tools=[*tools.ALL, wipe, ask_user])
    async with environment.serve(agent, continue_after=continue_after) as client:
        run = await client.start(name, "Do it.", requested_by="alice")
        await run.until_paused()
        yield Auditor(environment, client, run, Operator(environment, client), Offline(environment, client))


def lines(ran: Ran) -> list[Any]:
    return [json.loads(line) for line in ran.out.splitlines()]


def unfolded(ran: Ran) -> str:
    """What was printed, with the folding of lines undone."""
    return " ".join(ran.out.split())


Expected = tuple[str | None, str, str | None]
YES_OR_NO = call("ask_user", question="Sure?", choices=["yes", "no"])
KINDS: dict[str, tuple[Reply, Ruling, Expected]] = {
    "required": (calls(call("pay", to="bob", amount=5)), Approved(), ("required", "approved", "executed")),
    "plain": (calls(call("restart", service="db")), Rejected("not now"), (None, "rejected", None)),
    "audit": (calls(call("wipe", target="disk")), Approved("yes"), ("audit", "approved", "executed")),
    "external": (calls(call("ship", order="17")), Delivered("sent"), ("required", "approved", "executed")),
    "input": (calls(YES_OR_NO), Answered({"answer": "no"}), (None, "approved", "executed")),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_run_is_audited_live_from_a_file_and_from_a_bundle(
    assent_environment: Environment, tmp_path: Path, kind: str
) -> None:
    step, ruling, expected = KINDS[kind]
    async with auditing(assent_environment, calls(call("look_up", key="k")), step) as it:
        await drive(it.run, lambda _: ruling, by="bob")
        live = await it.online.assent("audit", it.run.id, "--json", "--verify")
        assert (live.code, live.err) == (0, "")
        *records, verification = lines(live)
        assert [each["record"] for each in records] == ["run", "approval", "call", "turn", "turn", "turn"]
        run, approval_, looked_up, *_ = records
        assert (run["run_id"], run["requested_by"], run["status"]) == (it.run.id, "alice", "completed")
        found = approval_["approval_type"], approval_["status"], approval_["execution"]
        assert found == expected
        assert approval_["decisions"][0]["by"] == "bob"
        assert looked_up["runs"][0]["outcome"] == "executed"
        assert (verification["record"], verification["ok"], verification["complete"]) == ("verification", True, True)

        files = await it.shown(tmp_path)
        read = await it.offline.assent("audit", *files, "--json", "--verify")
        assert (read.code, read.err) == (0, "")
        assert lines(read) == lines(live)

        bundle = tmp_path / "run.zip"
        made = await it.online.assent("audit", "export", it.run.id, "--bundle", str(bundle), "--json")
        assert (made.code, made.json["chainHead"]) == (0, verification["head"])
        checked = await it.offline.assent("audit", "verify", str(bundle), "--json")
        assert (checked.code, checked.json["ok"], checked.err) == (0, True, "")
        assert {each["name"]: each["ok"] for each in checked.json["checks"]} == {
            "file": True, "statement": True, "digests": True, "events": True, "records": True, "verification": True,
            "signature": None,
        }  # fmt: skip


# -- what is printed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 140])
async def test_an_auditor_sees_who_sent_what_what_ran_and_where_it_is_written(
    assent_environment: Environment, columns: int
) -> None:
    steps = (
        calls(call("pay", to="bob", amount=5), call("look_up", key=f"k{'x' * 200}")),
        calls(call("ship", order="17")),
    )
    async with auditing(assent_environment, *steps) as it:
        [pay] = (await it.run.until_paused()).active_requirements
        await it.run.send("approve", {"id": pay.id, "by": "alice"})
        await it.run.send("approve", {"id": pay.id})
        await it.run.send("aprove", {"by": f"mal{ODD}"})
        await it.run.send_message("Hurry.", by="alice")
        await it.run.approve(pay, by="ann", reason="fine", arguments={"to": "bob", "amount": 3})
        await drive(it.run, lambda each: Delivered("sent") if each.kind == "external" else Approved(), by="bob")
        ran = await it.online.assent("audit", it.run.id, "--verify", columns=columns)
        records = lines(await it.online.assent("audit", it.run.id, "--json"))
    assert (ran.code, ran.err) == (0, "")
    first, edited, shipped = (each for each in records if each["record"] == "approval")
    seen = unfolded(ran)
    for part in (
        f"run {it.run.id}",
        "status completed",
        f"model {records[0]['models'][0]}",
        "requester alice, identity ",
        "3 turns, 3 tool calls",
        f"{first['id'][:8]} pay: confirmation, superseded",
        f"id {first['id']}",
        'arguments │ {"to": "bob", "amount": 5}',
        f"sha256 {first['arguments_sha256']}",
        f"gate ask, policy {first['context']['policy_version']}, agent version",
        "sent approve by alice, ignored: refused",
        "'alice' asked for this run and may not approve",
        "why │ fine",
        'before │ {"to": "bob", "amount": 5}',
        f"edited by ann; it follows {first['id'][:8]}",
        "executed │ paid 3 to bob",
        f"13 bytes sha256 {edited['runs'][0]['result']['sha256']}",
        "executed, attempt 1, took",
        f"on worker {edited['runs'][0]['worker']}",
        f"events opened by event {edited['opened']['event_id']}, resolved by event {edited['resolved']['event_id']}",
        f"{shipped['id'][:8]} ship: external, approved",
        "sent approve, ignored: unreadable",
        r'sent aprove by mal=HYPERLINK("http://x") \u{202e}',
        "sent send_message by alice, recorded",
        "calls that needed no approval (--json has them whole):",
        'look_up({"',
        "→ executed",
        "ok decisions: each call had the decisions that its gate needed, about the bytes that ran",
        "unverified names: ",
        "chain head ",
        "not proven - that the server's database was not changed",
        "verdict every check passed, as far as a history can show",
    ):
        assert part in seen, part
    assert "\u202e" not in ran.out
    assert "… (+" in ran.out
    ours = [line for line in ran.out.splitlines() if "│" not in line]
    assert [line for line in ours if len(line) > columns] == []


async def test_a_call_of_type_audit_has_no_record_until_it_is_decided(assent_environment: Environment) -> None:
    async with auditing(assent_environment, calls(call("wipe", target="disk"))) as it:
        [waiting] = (await it.run.until_paused()).active_requirements
        shown = await it.online.assent("audit", it.run.id, "--verify")
        assert (shown.code, waiting.short_id in shown.out) == (0, False)
        assert "no records: no call of the run was decided or is pending" in shown.out
        assert [each["record"] for each in lines(await it.online.assent("audit", it.run.id, "--json"))] == [
            "run",
            "turn",
        ]
        assert (await it.online.assent("audit", it.run.id, "--csv")).out.count("\n") == 1
        await it.run.approve(waiting, by="bob")
        assert (await it.online.assent("audit", it.run.id, "--csv")).out.count("\n") == 2


async def test_the_table_is_inert_and_one_row_for_each_approval(assent_environment: Environment) -> None:
    async with auditing(assent_environment, calls(call("ship", order="1"), call("restart", service="db"))) as it:
        ship, restart = (await it.run.until_paused()).active_requirements
        await it.run.submit_result(ship, by=ODD, output=f"{ODD}\nsecond line")
        await it.run.reject(restart, by="-2+3", reason="@SUM(A1)\tno")
        ran = await it.online.assent("audit", it.run.id, "--csv")
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 3)
    shipped, restarted = csv.DictReader(io.StringIO(ran.out))
    assert shipped["resolved_by"] == r"""'=HYPERLINK("http://x") \u{202e}"""
    assert shipped["result"] == r"""'=HYPERLINK("http://x") \u{202e}\nsecond line"""
    assert (restarted["resolved_by"], restarted["reason"]) == ("'-2+3", r"'@SUM(A1)\tno")


# -- over several executions ------------------------------------------------------------------------------------------


async def test_a_run_that_continued_as_new_is_audited_as_one_wherever_it_is_read(
    assent_environment: Environment, tmp_path: Path
) -> None:
    steps = [calls(call("look_up", key="a")), calls(call("pay", to="bob", amount=5)), calls(call("look_up", key="c"))]
    async with auditing(assent_environment, *steps, continue_after=5) as it:
        await drive(it.run, lambda _: Approved(), by="bob")
        live = await it.online.assent("audit", it.run.id, "--json", "--verify")
        files = await it.shown(tmp_path)
        backwards = await it.offline.assent("audit", *files, "--json", "--verify")
        assert (live.code, backwards.code) == (0, 0)
        run, *_, verification = lines(live)
        assert len(run["executions"]) >= 3
        assert verification["complete"]
        assert {each["name"]: each["verdict"] for each in verification["checks"]}["continued"] == "ok"
        assert lines(backwards) == lines(live)
        printed = await it.offline.assent("audit", *files, it.run.id, columns=100)
        for number, execution in enumerate(run["executions"], 1):
            assert f"execution  {number}: {execution}" in printed.out
        assert "cited as EXECUTION:EVENT" in printed.out

        first = files.index(next(each for each in files if run["executions"][0] in each))
        lacking = files[: first - 1] + files[first + 1 :]
        read = await it.offline.assent("audit", *lacking, "--verify")
        assert (read.code, "INCOMPLETE" in read.err) == (0, True)
        assert f"MISSING    execution {run['executions'][0]} is gone" in read.out
        assert "INCOMPLETE: a part of the history is missing" in unfolded(read)
        assert "INCOMPLETE" in (await it.offline.assent("audit", *lacking, "--csv")).err

        last = files.index(next(each for each in files if run["executions"][-1] in each))
        unfinished = await it.offline.assent("audit", *files[: last - 1], *files[last + 1 :], "--verify")
        assert (unfinished.code, "INCOMPLETE" in unfinished.err) == (0, True)

        bundle = str(tmp_path / "run.zip")
        made = await it.offline.assent("audit", "export", *lacking, "--bundle", bundle, "--json")
        assert (made.code, made.json["complete"], "INCOMPLETE" in made.err) == (0, False, True)
        checked = await it.offline.assent("audit", "verify", bundle)
        assert (checked.code, "INCOMPLETE" in checked.err) == (0, True)
        assert "ok         records: " in checked.out

        with_all = await it.online.assent("audit", "export", it.run.id, "--bundle", bundle, "--force", "--json")
        assert with_all.json["chainHead"] == verification["head"]
        whole = await it.offline.assent("audit", "verify", bundle)
        assert (whole.code, whole.err) == (0, "")


# -- what must not pass -----------------------------------------------------------------------------------------------


def forged(text: str) -> Iterator[str]:
    """A history without one of its events, one in which other arguments ran, and one in which another person voted."""
    history = json.loads(text)
    yield json.dumps({"events": [each for each in history["events"] if each["eventId"] != "9"]})
    for kind, was, now in (
        ("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED", b'\\"amount\\": 5', b'\\"amount\\": 6'),
        ("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED", b'"bob"', b'"eve"'),
    ):
        changed = copy.deepcopy(history)
        replaced = [_replace(event, was, now) for event in changed["events"] if event["eventType"] == kind]
        assert any(replaced), kind
        yield json.dumps(changed)


def _replace(event: Any, was: bytes, now: bytes) -> bool:
    """Whether a payload of the event had *was*; it has *now* instead."""
    text = json.dumps(event)
    for data in re.findall(r'"data": "([^"]*)"', text):
        found = base64.b64decode(data)
        if was in found:
            event |= json.loads(text.replace(data, base64.b64encode(found.replace(was, now)).decode()))
            return True
    return False


def make_keys(folder: Path, *names: str) -> None:
    """Keys as the documentation says to make them."""
    openssl = shutil.which("openssl") or pytest.skip("openssl is not on this machine")
    for name in names:
        for line in ("genpkey -algorithm ed25519 -out {0}.pem", "pkey -in {0}.pem -pubout -out {0}.pub"):
            command = [openssl, *line.format(name).split()]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)


async def test_a_history_that_was_changed_does_not_pass(assent_environment: Environment, tmp_path: Path) -> None:
    async with auditing(assent_environment, calls(call("pay", to="bob", amount=5))) as it:
        await drive(it.run, lambda _: Approved(), by="bob")
        history = (await it.run.history()).to_json()
    for number, changed in enumerate(forged(history)):
        path = tmp_path / f"changed-{number}.json"
        path.write_text(changed)
        ran = await it.offline.assent("audit", "--file", str(path), "--verify", "--json")
        assert (ran.code, "NOT VERIFIED" in ran.err, ran.err.count("\n")) == (1, True, 1), number
        assert lines(ran)[-1]["ok"] is False
        shown = await it.offline.assent("audit", "--file", str(path), "--verify")
        assert (shown.code, "verdict NOT VERIFIED" in unfolded(shown)) == (1, True)


async def test_a_signed_bundle_is_checked_with_its_key_and_one_changed_byte_fails_it(
    assent_environment: Environment, tmp_path: Path
) -> None:
    make_keys(tmp_path, "ours", "other")
    bundle = tmp_path / "run.zip"
    async with auditing(assent_environment, calls(call("pay", to="bob", amount=5))) as it:
        await drive(it.run, lambda _: Approved(), by="bob")
        export = ("audit", "export", it.run.id, "--bundle", str(bundle))
        made = await it.online.assent(*export, "--key", str(tmp_path / "ours.pem"))
        assert (made.code, made.err, "signed     by the key " in made.out) == (0, "", True)
        again = await it.online.assent(*export)
        assert (again.code, again.out, again.err.count("\n")) == (2, "", 1)
        assert "exists already" in again.err
        assert (await it.online.assent(*export, "--force")).code == 0
        assert (await it.online.assent(*export, "--force", "--key", str(tmp_path / "ours.pem"))).code == 0
        # This server authenticates no sender, so that "bob" may be anybody.
        for more in ((), ("--tree",)):
            named = await it.online.assent("audit", it.run.id, "--verify", *more)
            last = " ".join(unfolded(named).split())
            assert named.code == 0
            assert last.endswith("UNVERIFIED: the names of who decided, which are claims")
            required = await it.online.assent("audit", it.run.id, "--verify", "--require-names", *more)
            assert (required.code, "UNVERIFIED: the names" in required.err) == (1, True)
    required = await it.offline.assent("audit", "verify", str(bundle), "--require-names")
    assert (required.code, "UNVERIFIED: the names" in required.err) == (1, True)
    verify = ("audit", "verify", str(bundle))
    good = await it.offline.assent(*verify, "--key", str(tmp_path / "ours.pub"))
    assert (good.code, good.err) == (0, "")
    assert "ok         signature: signed by the key" in good.out
    assert "the findings are what the events give" in unfolded(good)
    wrong = await it.offline.assent(*verify, "--key", str(tmp_path / "other.pub"), "--json")
    assert (wrong.code, wrong.json["ok"], "NOT VERIFIED" in wrong.err) == (1, False, True)
    data = bundle.read_bytes()
    for at in (data.index(b"approve") + 1, len(data) // 2, len(data) - 3):
        bundle.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        changed = await it.offline.assent(*verify)
        assert (changed.code, "FAILED" in changed.out, "NOT VERIFIED" in changed.err) == (1, True, True), at


async def test_wrong_words_are_one_line_and_a_run_may_have_any_name(
    assent_environment: Environment, tmp_path: Path
) -> None:
    async with auditing(assent_environment, calls(call("look_up", key="k"))) as it:
        await it.run.result()
        [_, name] = await it.shown(tmp_path)
        file = ("--file", name)
        (tmp_path / "no.json").write_text("{}")
        os.mkfifo(tmp_path / "waits.json")
        (tmp_path / "endless.json").symlink_to("/dev/zero")
        with (tmp_path / "large.json").open("wb") as large:
            large.truncate(1 << 40)  # it has holes, and takes no room
        for code, words, said in (
            (2, ("audit",), "name a RUN, or files with --file"),
            (2, ("audit", it.run.id, "--json", "--csv"), "give one"),
            (2, ("audit", it.run.id, "--require-names"), "give both"),
            (2, ("audit", it.run.id, "more"), "unexpected extra argument"),
            (2, ("audit", "export", it.run.id), "Missing option '--bundle'"),
            (3, ("audit", "no-such-run"), "there is no run 'no-such-run'"),
            (3, ("audit", "records", "verify"), "there is no run 'verify'"),
            (3, ("audit", "another", *file), f"it is of run '{it.run.id}', not 'another'"),
            (3, ("audit", "--file", str(tmp_path / "none.json")), "it cannot be read"),
            (3, ("audit", "--file", str(tmp_path / "no.json")), "it is not a history"),
            (3, ("audit", "--file", str(tmp_path / "waits.json")), "it is no regular file"),
            (3, ("audit", "--file", str(tmp_path / "endless.json")), "it is no regular file"),
            (3, ("audit", "--file", str(tmp_path / "large.json")), "it has 1099511627776 bytes"),
            (3, ("audit", *file, *file), "are of the same execution"),
            (2, ("audit", "verify", str(tmp_path / "none.zip")), "cannot be read"),
        ):
            ran = await it.online.assent(*words)
            assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1), words
            assert said in ran.err, words
        assert (await it.offline.assent("audit", *file, it.run.id)).code == 0
        for words in (("audit", "--help"), ("audit", "records", "--help"), ("audit", it.run.id, "--help")):
            helped = await it.offline.assent(*words, columns=100)
            assert (helped.code, "audit" in helped.out) == (0, True)
        everything = (await it.offline.assent("audit", "--help", columns=100)).out
        for word in ("export", "verify", "records", "--file", "--csv", "--bundle", "--key"):
            assert word in everything, word
