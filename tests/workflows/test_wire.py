"""The wire: what people type by hand reaches the run, and nothing that they mistype stops it or vanishes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowUpdateFailedError
from temporalio.common import RawValue

from assent import Agent, RunHandle, RunState
from assent.audit.approval import Approval
from assent.client.client import AgentClient
from assent.runtime.embedded_server import temporal_binary
from assent.testing import Approved, Environment, call, calls, drive, says
from tests.support import tools
from tests.support.run_probes import task_faults
from tests.support.visibility import soon


@dataclass(frozen=True)
class Waiting:
    """A run that waits for one payment."""

    client: AgentClient
    run: RunHandle
    state: RunState

    @property
    def id(self) -> str:
        return self.state.active_requirements[0].short_id


@asynccontextmanager
async def waiting(running: Environment, *, requested_by: str | None = "alice") -> AsyncGenerator[Waiting]:
    model = running.responses(calls(call("pay", to="bob", amount=5)), lambda seen: says(f"told: {seen.last_output}"))
    async with running.serve(Agent(name="payer", model=model, tools=tools.ALL)) as client:
        run = await client.start("payer", "Pay Bob.", requested_by=requested_by)
        yield Waiting(client, run, await run.until_paused())


async def temporal(running: Environment, *arguments: str) -> str:
    """Run the real `temporal` command, as an operator does."""
    process = await asyncio.create_subprocess_exec(
        temporal_binary(), *arguments, "--address", running.server.address,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_an_operator_approves_with_the_temporal_command(assent_environment: Environment) -> None:
    async with waiting(assent_environment) as it:
        body = json.dumps({"id": it.id, "by": "carol"})
        await temporal(
            assent_environment, "workflow", "signal", "--workflow-id", it.run.id, "--name", "approve", "--input", body
        )
        assert (await it.run.result()).content == "told: paid 5 to bob"
        assert tools.ran(it.run.id) == ["pay(bob, 5)"]
        [record] = await it.run.audit()
        assert (record.resolved_by, record.votes[0].channel) == ("carol", "signal")


async def test_the_documented_query_lists_what_waits_and_no_run_that_was_terminated(
    assent_environment: Environment,
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "wire.md").read_text()
    [documented] = re.findall(r'temporal workflow list --query "(.*)"', page)
    async with waiting(assent_environment) as it:
        ended = await it.client.start("payer", "Pay Bob.")
        await ended.until_paused()

        async def listed(query: str) -> set[str]:
            ours = f"({query}) AND WorkflowId IN ('{it.run.id}', '{ended.id}')"
            return {each.id async for each in it.client.temporal.list_workflows(ours)}

        both = {it.run.id, ended.id}
        assert await soon(lambda: listed(documented), lambda found: found == both) == both
        await temporal(assent_environment, "workflow", "terminate", "--workflow-id", ended.id)
        await soon(lambda: listed("ExecutionStatus = 'Terminated'"))
        assert await listed("AssentPending > 0") == both  # It keeps the attribute.
        assert await listed(documented) == {it.run.id}


async def test_an_operator_rejects_with_an_update_and_is_answered(assent_environment: Environment) -> None:
    async with waiting(assent_environment) as it:
        body = json.dumps({"id": it.id, "by": "carol", "verdict": "reject", "reason": "too much"})
        output = await temporal(
            assent_environment, "workflow", "update", "execute", "--workflow-id", it.run.id, "--name", "decide",
            "--input", body,
        )  # fmt: skip
        assert "status:rejected" in output
        assert (await it.run.result()).content == "told: Rejected: too much"
        assert tools.ran(it.run.id) == []


BAD: Sequence[tuple[str, list[object]]] = [
    ("approve", []),
    ("approve", [{"id": "12345678", "by": "x"}, {"id": "12345678", "by": "x"}]),
    ("approve", ["yes"]),
    ("approve", [None]),
    ("approve", [7]),
    ("approve", [["12345678", "x"]]),
    ("approve", [{}]),
    ("approve", [{"id": "12345678"}]),
    ("approve", [{"by": "x"}]),
    ("approve", [{"id": "12345678", "by": ""}]),
    ("approve", [{"id": "12345678", "by": "   "}]),
    ("approve", [{"id": 12345678, "by": "x"}]),
    ("approve", [{"id": "12345678", "by": "x", "extra": 1}]),
    ("approve", [{"id": "123", "by": "x"}]),
    ("approve", [{"id": "ffffffffffff", "by": "x"}]),
    ("reject", [{"id": "12345678", "by": "x"}]),
    ("reject", [{"id": "12345678", "by": "x", "reason": None}]),
    ("submit_result", [{"id": "12345678", "by": "x"}]),
    ("submit_input", [{"id": "12345678", "by": "x", "values": "no"}]),
    ("send_message", [{"by": "x"}]),
    ("aprove", [{"id": "12345678", "by": "x"}]),
    ("", [{"id": "12345678", "by": "x"}]),
    ("approve", ["x" * 1_000_000]),
    ("approve", [RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{not json"))]),
    ("approve", [RawValue(Payload(metadata={"encoding": b"binary/plain"}, data=b"\x00\xff"))]),
    ("approve", [RawValue(Payload(metadata={"encoding": b"binary/encrypted"}, data=b"\x00\xff"))]),
    ("approve", [RawValue(Payload(metadata={}, data=b"{}"))]),
    ("approve", [RawValue(Payload(metadata={"encoding": b"json/protobuf", "messageType": b"no.Such"}, data=b"{}"))]),
]


async def test_no_malformed_signal_stops_a_run_or_vanishes(assent_environment: Environment) -> None:
    async with waiting(assent_environment) as it:
        handle = it.client.temporal.get_workflow_handle(it.run.id)
        for name, arguments in BAD:
            await handle.signal(name or "nameless", args=arguments)
        state = RunState.model_validate(await handle.query("state"))
        assert len(state.ignored_messages) == len(BAD)
        assert all(attempt.status in {"unreadable", "unknown"} for attempt in state.ignored_messages)
        assert all("\n" not in attempt.detail and attempt.detail for attempt in state.ignored_messages)
        assert (await it.run.state()).ignored_messages == state.ignored_messages
        metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        assert "Messages that did not count" in metadata.current_details
        assert "aprove" in metadata.current_details
        assert "... and" not in metadata.current_details
        done = await drive(it.run, lambda _: Approved(), by="carol")
        assert done.status == "completed"
        assert tools.ran(it.run.id) == ["pay(bob, 5)"]


async def test_malformed_updates_are_told_to_the_sender_and_change_nothing(assent_environment: Environment) -> None:
    async with waiting(assent_environment) as it:
        handle = it.client.temporal.get_workflow_handle(it.run.id)
        who = {"id": it.id, "by": "x"}
        bodies: list[list[object]] = [
            [],
            [1, 2],
            ["x"],
            [{"id": it.id}],
            [who],
            [{**who, "verdict": "maybe"}],
            [{**who, "id": "abcdef12", "verdict": "approve"}],
            [{**who, "verdict": "reject"}],
        ]
        for body in bodies:
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update("decide", args=body)
        assert task_faults(await it.run.history()) == []
        assert (await drive(it.run, lambda _: Approved())).status == "completed"


async def test_a_malformed_start_fails_with_one_line(assent_environment: Environment) -> None:
    async with waiting(assent_environment) as it:
        starts: list[list[object]] = [[], ["hello"], [{"agent": "payer"}], [{"agent": "payer", "input": " "}]]
        for index, arguments in enumerate(starts):
            handle = await it.client.temporal.start_workflow(
                "AgentRun", args=arguments, id=f"{it.run.id}-bad-{index}", task_queue=it.client.task_queue
            )
            state = await it.client.get_run(handle.id).until_paused()
            assert state.status == "failed"
            assert state.error is not None
            assert state.error.startswith("InvalidRunRequest: AgentRun")
            assert "\n" not in state.error
        await drive(it.run, lambda _: Approved())


async def named(client: AgentClient, run_id: str) -> list[Approval]:
    return [run for run in await client.pending(agent="payer") if run.run_id == run_id]


async def test_a_run_started_by_hand_is_found_in_the_inbox(assent_environment: Environment) -> None:
    async with waiting(assent_environment) as it:
        body = json.dumps({"agent": "payer", "input": "Pay.", "requested_by": "dave"})
        run_id = f"{it.run.id}-by-hand"
        await temporal(
            assent_environment, "workflow", "start", "--type", "AgentRun", "--task-queue", it.client.task_queue,
            "--workflow-id", run_id, "--input", body,
        )  # fmt: skip
        await it.client.get_run(run_id).until_paused()
        [found] = await soon(lambda: named(it.client, run_id))
        assert (found.agent, found.requested_by, found.tool) == ("payer", "dave", "pay")
        assert json.loads(found.arguments or "") == {"to": "bob", "amount": 5}
        for run in (it.run, it.client.get_run(run_id)):
            await drive(run, lambda _: Approved())
        assert not await soon(lambda: named(it.client, run_id), lambda found: not found)


async def test_handlers_are_described_and_what_waits_is_in_the_details(assent_environment: Environment) -> None:
    async with waiting(assent_environment) as it:
        output = await temporal(assent_environment, "workflow", "metadata", "--workflow-id", it.run.id, "-o", "json")
        [metadata] = json.loads(output)["queryResult"]
        definition = metadata["definition"]
        described = {
            each["name"]: each.get("description") for each in definition["signalDefinitions"] if "name" in each
        }
        assert {"approve", "reject", "submit_result", "submit_input", "send_message", "revoke"} <= set(described)
        assert all(described.values())
        assert {each["name"] for each in definition["updateDefinitions"] if each.get("description")} == {
            "decide",
            "deliver",
        }
        details = metadata["currentDetails"]
        assert "temporal workflow signal" in details
        assert '"amount"' in details
        assert it.id in details
        await drive(it.run, lambda _: Approved())


async def test_every_activity_has_a_summary(assent_environment: Environment) -> None:
    async with waiting(assent_environment) as it:
        await drive(it.run, lambda _: Approved())
        scheduled = [
            event.user_metadata.summary.data.decode()
            for event in (await it.run.history()).events
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        ]
        assert scheduled[0] == '"turn 1"'
        assert "amount" in scheduled[1]
        assert len(scheduled) == 3


async def test_an_external_result_arrives_as_a_signal(assent_environment: Environment) -> None:
    model = assent_environment.chat(
        calls(call("ship", order="17"), call("ship", order="18")), lambda seen: says(json.dumps(seen.tool_outputs))
    )
    async with assent_environment.serve(Agent(name="shop", model=model, tools=tools.ALL)) as client:
        run = await client.start("shop", "Ship them.")
        state = await run.until_paused()
        first, second = state.active_requirements
        assert first.needs_external_execution
        assert (await run.approve(first, by="x", check=False)).status == "refused"
        await run.send("submit_result", {"id": first.short_id, "by": "warehouse", "output": {"tracking": "ab"}})
        paused = await run.until_paused()
        assert [attempt.status for attempt in paused.ignored_messages] == ["refused", "refused"]
        assert "string" in paused.ignored_messages[1].detail
        assert [each.id for each in paused.active_requirements] == [first.id, second.id]
        right = {"output": "tracking ab", "evidence": "ticket 7"}
        await run.send("submit_result", {"id": first.short_id, "by": "warehouse", **right})
        assert (await run.submit_result(second, by="warehouse", error="lost")).status == "failed"
        assert (await run.submit_result(second, by="warehouse", output="found", check=False)).status in {
            "late",
            "duplicate",
        }
        content = (await run.result()).content
        assert '"tracking ab"' in content
        assert "Error: lost" in content


async def test_a_rejected_external_run_goes_on(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("ship", order="17")), lambda seen: says(str(seen.last_output)))
    async with assent_environment.serve(Agent(name="shop", model=model, tools=tools.ALL)) as client:
        run = await client.start("shop", "Ship it.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.reject(requirement, by="x", reason="out of stock")
        late = await run.submit_result(requirement, by="warehouse", output="shipped", check=False)
        assert late.status == "late"
        assert (await run.result()).content == "Rejected: out of stock"


async def test_a_message_is_read_with_the_next_turn(assent_environment: Environment) -> None:
    model = assent_environment.chat(calls(call("pay", to="bob", amount=5)), lambda seen: says(" | ".join(seen.user)))
    async with assent_environment.serve(Agent(name="payer", model=model, tools=tools.ALL)) as client:
        run = await client.start("payer", "Pay Bob.")
        await run.until_paused()
        await run.send_message("And say hello.", by="alice")
        state = await drive(run, lambda _: Approved())
        assert state.content == "Pay Bob. | And say hello."
