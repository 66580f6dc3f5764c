"""Abuse cases J: what is too large is a clear error or a marked cut, and the run goes on."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHistory
from temporalio.converter import PayloadCodec
from temporalio.service import RPCError

import assent.workflows.continue_as_new
import assent.workflows.task_size
from assent import (
    Agent,
    MessageError,
    PermissionPolicy,
    Requirement,
    Rule,
    RunFailedError,
    RunHandle,
    RunState,
    ToolContext,
    approval,
    tool,
)
from assent.activities.payload_limits import OUTPUT_LIMIT
from assent.audit.records import Audit
from assent.audit.verifier import Verifier
from assent.client.client import AgentClient
from assent.client.rpc import MESSAGE_LIMIT
from assent.runtime import embedded_server
from assent.runtime.connection import connect
from assent.runtime.payload_codec import VARIABLE
from assent.testing import Conversation, Environment, Reply, call, calls, check_replay, environment, says
from assent.wire.digest import text_digest
from assent.wire.limits import TURN_LIMIT
from tests.support import tools
from tests.support.cli_operator import Operator
from tests.support.run_probes import at_once, task_faults

KIB = 1024
MIB = 1024 * KIB


@tool
async def print_out(context: ToolContext, size: int) -> str:
    """Print so many bytes."""
    tools.note(context, f"print_out({size})")
    return "x" * size


@tool
async def measure(context: ToolContext, text: str) -> int:
    """Measure a text."""
    tools.note(context, f"measure({len(text)})")
    return len(text)


@tool(external_execution=True)
def fetch(order: int) -> str:
    """Fetch something; carried out elsewhere."""
    raise AssertionError(order)


@approval(expires_after=timedelta(hours=1))
@tool(requires_user_input=True, user_input_fields=["note"])
async def file_away(context: ToolContext, text: str, note: str) -> str:
    """File a text away under a note."""
    tools.note(context, f"file_away({len(text)}, {len(note)})")
    return f"{len(text)} and {len(note)}"


TOOLS: list[Callable[..., object]] = [print_out, measure, fetch, file_away]


class Report(BaseModel):
    """A structured answer."""

    words: str


def told(seen: Conversation) -> Reply:
    """Say how much the model was told of its calls, and how the newest ended."""
    outputs = list(seen.tool_outputs.values())
    end = (outputs or [""])[-1][-60:]
    return says(json.dumps({"outputs": len(outputs), "size": sum(map(len, outputs)), "end": end}))


async def ended(client: AgentClient, run: RunHandle, seconds: float = 60) -> Any:
    """What the model was told, once the run has ended, and what it says of itself is what its history tells."""
    content = (await asyncio.wait_for(run.result(), seconds)).content
    live = RunState.model_validate(await client.temporal.get_workflow_handle(run.id).query("state"))
    assert await run.state() == live
    for history in await histories(client, run):
        await check_replay(history)
    return json.loads(content)


async def histories(client: AgentClient, run: RunHandle) -> list[WorkflowHistory]:
    """The histories of a run's executions, once every check of its audit has passed."""
    executions = (await audited(run)).run.executions
    handles = [client.temporal.get_workflow_handle(run.id, run_id=execution) for execution in executions]
    return [await handle.fetch_history() for handle in handles]


async def audited(run: RunHandle) -> Audit:
    """The audit of a run, with every check passed."""
    verifier = Verifier(run.id)
    audit = await run.audit(verifier)
    assert {each.name: each.problems for each in verifier.verification(audit).checks if each.problems} == {}
    return audit


async def test_a_tool_result_of_3_mib_is_cut_and_its_whole_told_by_size_and_digest(
    assent_environment: Environment,
) -> None:
    """A 3 MiB tool result."""
    model = assent_environment.responses(calls(call("print_out", size=3 * MIB)), told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        run = await client.start("j", "Go.")
        said = await ended(client, run)
    assert said["end"].endswith(f"\n[cut here: {OUTPUT_LIMIT} of {3 * MIB} bytes]")
    assert said["size"] < OUTPUT_LIMIT + 100
    assert tools.ran(run.id) == [f"print_out({3 * MIB})"]
    [[ran]] = [record.runs for record in (await audited(run)).calls]
    assert ran.result is not None
    assert (ran.result.size, ran.result.sha256) == (3 * MIB, text_digest("x" * 3 * MIB))


async def test_twenty_results_of_300_kib_are_cut_to_what_one_model_call_carries(
    assent_environment: Environment,
) -> None:
    """20 parallel calls with 300 KiB each, as results."""
    model = assent_environment.responses(calls(*[call("print_out", size=300 * KIB)] * 20), told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        said = await ended(client, await client.start("j", "Go."))
    assert said["outputs"] == 20
    assert said["size"] < TURN_LIMIT + 20 * 60


async def test_what_210_tools_give_at_once_does_not_fill_the_history(assent_environment: Environment) -> None:
    """256 KiB each would be 52 MiB, and at 50 MiB the server stops a run for good."""
    model = assent_environment.responses(calls(*[call("print_out", size=256 * KIB)] * 210), told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        run = await client.start("j", "Go.")
        said = await ended(client, run, 120)
        size = (await run.description()).raw_description.workflow_execution_info.history_size_bytes
    assert said["outputs"] == 210
    assert size < 20 * MIB


async def test_an_answer_with_6_mib_of_arguments_is_not_kept_and_the_model_answers_again(
    assent_environment: Environment,
) -> None:
    """20 parallel calls with 300 KiB each, as arguments."""
    too_many = calls(*[call("measure", text="a" * 300 * KIB)] * 20)
    heard: list[str] = []

    def fewer(seen: Conversation) -> Reply:
        heard.append(seen.user[-1])
        return calls(call("measure", text="a" * 300 * KIB))

    model = assent_environment.responses(too_many, fewer, told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        run = await client.start("j", "Go.")
        said = await ended(client, run)
        result = await run.result()
    assert said == {"outputs": 1, "size": 6, "end": str(300 * KIB)}
    assert (result.turns, result.usage.requests) == (3, 3)  # The answer that was not kept was paid for once.
    assert ["bytes long, with 20 tool calls, and was not kept" in each for each in heard] == [True]


async def test_a_structured_answer_of_3_mib_is_asked_for_again(assent_environment: Environment) -> None:
    """The result of a run is a payload too."""
    steps = [says(json.dumps({"words": "w" * size})) for size in (3 * MIB, 900_000, 10)]
    agent = Agent(name="j", model=assent_environment.responses(*steps), output_type=Report)
    async with assent_environment.serve(agent) as client:
        result = await asyncio.wait_for((await client.start("j", "Go.")).result(), 30)
    assert (result.output, result.turns) == ({"words": "w" * 10}, 3)


async def test_an_external_result_of_3_mib_is_refused_at_the_door(
    assent_environment: Environment, tmp_path: Any
) -> None:
    """A 3 MiB external result, by the client, by the command and by a signal of somebody's own."""
    model = assent_environment.responses(calls(call("fetch", order=1)), told)
    large = "y" * 3 * MIB
    path = tmp_path / "result.json"
    path.write_text(json.dumps(large))
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        run = await client.start("j", "Go.", requested_by="alice")
        [fetched] = (await run.until_paused()).active_requirements
        with pytest.raises(MessageError, match=f"bytes long; the limit is {MESSAGE_LIMIT}"):
            await run.submit_result(fetched, by="shop", output=large)
        with pytest.raises(MessageError, match=f"bytes long; the limit is {MESSAGE_LIMIT}"):
            await run.send("submit_result", {"id": fetched.id, "by": "shop", "output": large})
        handle = client.temporal.get_workflow_handle(run.id)
        with pytest.raises(RPCError, match="Blob data size exceeds limit"):
            await handle.signal("submit_result", {"id": fetched.id, "by": "shop", "output": large})
        words = ("submit-result", run.id, fetched.short_id, "--by", "shop", "--output", f"@{path}")
        ran = await Operator(assent_environment, client).assent(*words)
        assert (ran.code != 0, ran.err.count("\n")) == (True, 1)
        assert (await run.submit_result(fetched, by="shop", output="small")).status == "executed"
        assert (await ended(client, run))["end"] == "small"


async def test_a_prompt_of_5_mib_is_refused_at_the_door(assent_environment: Environment) -> None:
    """A 5 MiB prompt; and one that the server takes fails its run with one clear error."""
    agent = Agent(name="j", model=assent_environment.responses(told))
    async with assent_environment.serve(agent) as client:
        with pytest.raises(MessageError, match="the prompt is 5242882 bytes long; the limit is 1000000"):
            await client.start("j", "p" * 5 * MIB, id="j35-prompt")
        start, queue = client.temporal.start_workflow, client.task_queue
        with pytest.raises(RPCError, match="received message after decompression larger than max 4194304"):
            await start("AgentRun", {"agent": "j", "input": "p" * 5 * MIB}, id="j35-prompt", task_queue=queue)
        handle = await start("AgentRun", {"agent": "j", "input": "p" * 1_500_000}, id="j35-prompt", task_queue=queue)
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
    assert str(failed.value.cause).endswith("the prompt is 1500002 bytes long; the limit is 1000000")


async def test_eight_checks_of_900_kib_are_spread_over_several_workflow_tasks(assent_environment: Environment) -> None:
    """What one workflow task gives to the server; over 4 MiB it would terminate the run."""
    model = assent_environment.responses(calls(call("file_away", text="q" * 900_000)), told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        run = await client.start("j", "Go.")
        [asked] = (await run.until_paused()).active_requirements
        wrong: list[dict[str, JsonValue]] = [
            {"id": asked.id, "by": f"b{number}", "values": {"note": number}} for number in range(7)
        ]
        await asyncio.gather(*(run.send("submit_input", each) for each in wrong))
        assert (await run.submit_input(asked, by="bob", values={"note": "here"})).status == "approved"
        assert (await ended(client, run))["end"] == "900000 and 4"
        assert task_faults(*await histories(client, run)) == []
    assert tools.ran(run.id) == ["file_away(900000, 4)"]


def most_at_once(history: WorkflowHistory) -> int:
    """The most bytes of activity inputs that one workflow task gave."""
    given: Counter[int] = Counter()
    for event in history.events:
        scheduled = event.activity_task_scheduled_event_attributes
        given[scheduled.workflow_task_completed_event_id] += scheduled.input.ByteSize()
    return max(given.values())


async def test_calls_that_each_carry_the_policy_of_the_run_are_spread(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one workflow task gives to the server, when the model makes many calls: here, a fifth of the limit."""
    limit = assent.workflows.task_size.LIMIT // 5
    monkeypatch.setattr(assent.workflows.task_size, "LIMIT", limit)
    rules = tuple(Rule(decision="deny", tool=f"{number:03}" * 20) for number in range(42))
    policy = PermissionPolicy(default="allow", rules=rules)
    wanted = [call("measure", text="a" * 1_800)] * 100
    model = assent_environment.responses(calls(*wanted), told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        run = await client.start("j", "Go.", policy=policy)
        assert (await ended(client, run))["outputs"] == 100
        [history] = await histories(client, run)
    assert limit * 0.9 < most_at_once(history) <= limit
    assert len(tools.ran(run.id)) == 100


async def test_a_run_that_is_cancelled_while_its_checks_are_spread_ends_as_its_history_says(
    assent_environment: Environment,
) -> None:
    model = assent_environment.responses(calls(call("file_away", text="q" * 900_000)), told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        run = await client.start("j", "Go.")
        [asked] = (await run.until_paused()).active_requirements
        bodies: list[dict[str, JsonValue]] = [{"id": asked.id, "by": f"b{n}", "values": {"note": n}} for n in range(20)]
        await at_once(*(run.send("submit_input", each) for each in bodies), run.cancel())
        with pytest.raises(RunFailedError, match="was cancelled"):
            await asyncio.wait_for(run.result(), 30)
        live = RunState.model_validate(await client.temporal.get_workflow_handle(run.id).query("state"))
    state = await run.state()
    # The query tells a decided call of this size in short.
    assert state.model_copy(update={"requirements": live.requirements}) == live
    assert [(each.id, each.status) for each in state.requirements] == [(asked.id, "cancelled")]
    assert [(each.id, each.status) for each in live.requirements] == [(asked.id, "cancelled")]
    for history in await histories(client, run):
        await check_replay(history)


async def test_twenty_large_calls_that_are_filled_in_at_once_all_run(assent_environment: Environment) -> None:
    """Twenty approved in one workflow task, with large arguments and values."""
    wanted = [call("file_away", text="q" * 45_000)] * 20
    model = assent_environment.responses(calls(*wanted), told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS), cached_runs=0) as client:
        run = await client.start("j", "Go.")
        waiting = (await run.until_paused()).active_requirements
        filled: list[dict[str, JsonValue]] = [
            {"id": each.id, "by": "bob", "values": {"note": "n" * 45_000}} for each in waiting
        ]
        await asyncio.gather(*(run.send("submit_input", each) for each in filled))
        assert (await ended(client, run))["outputs"] == 20
    assert tools.ran(run.id) == ["file_away(45000, 45000)"] * 20


async def test_six_results_of_900_kb_that_one_service_delivers_at_once_all_count(
    assent_environment: Environment,
) -> None:
    """Five megabytes in a few workflow tasks, and each sender learns the outcome."""
    wanted = [call("fetch", order=number) for number in range(6)]
    model = assent_environment.responses(calls(*wanted), told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        run = await client.start("j", "Go.")
        waiting = (await run.until_paused()).active_requirements
        minute = timedelta(seconds=60)

        async def deliver(each: Requirement) -> str:
            output = "z" * 900_000
            return (await run.submit_result(each, by="shop", output=output, wait=minute, check=False)).status

        statuses = await asyncio.gather(*map(deliver, waiting))
        assert set(statuses) <= {"executed", "refused"}
        # Those for which there was no room are refused, and count when they are sent again.
        for each, status in zip(waiting, statuses, strict=True):
            if status == "refused":
                assert await deliver(each) == "executed"
        assert (await ended(client, run))["outputs"] == 6


class Swelling(PayloadCodec):
    """A codec that makes six times as much of everything that is not small, as one for people to read might."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._swollen(each) if len(each.data) > 100_000 else each for each in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        swollen = [each.metadata.get("encoding") == b"binary/swollen" for each in payloads]
        return [
            Payload.FromString(each.data[: len(each.data) // 6]) if large else each
            for each, large in zip(payloads, swollen, strict=True)
        ]

    def _swollen(self, payload: Payload) -> Payload:
        return Payload(metadata={"encoding": b"binary/swollen"}, data=payload.SerializeToString() * 6)


async def test_a_codec_that_makes_results_too_large_pays_for_no_model_call_twice_and_runs_no_tool_twice(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the SDK would fail as `PayloadsTooLarge`, and try again."""
    monkeypatch.setenv(VARIABLE, f"{__name__}:Swelling")
    long = says("w" * 700_000)
    model = assent_environment.responses(calls(call("print_out", size=256 * KIB)), long, told)
    async with assent_environment.serve(Agent(name="j", model=model, tools=TOOLS)) as client:
        coded = AgentClient(await connect(assent_environment.server.address), task_queue=client.task_queue)
        run = await coded.start("j", "Go.")
        result = await asyncio.wait_for(run.result(), 30)
        events = (await run.history()).events
    assert (result.turns, result.usage.requests) == (3, 3)
    assert tools.ran(run.id) == [f"print_out({256 * KIB})"]
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED not in {event.event_type for event in events}
    scheduled = [event.activity_task_scheduled_event_attributes for event in events]
    policies = [each.retry_policy.non_retryable_error_types for each in scheduled if each.activity_id]
    assert policies == [["PayloadsTooLarge"]] * 4


async def test_a_run_has_continued_as_new_before_the_server_takes_no_more_signals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default, the server accepts 10,000 in one execution; here, both its limit and the run's are a tenth."""
    most = 10_000 // 10
    assert assent.workflows.continue_as_new.MESSAGES == 8_000
    monkeypatch.setattr(assent.workflows.continue_as_new, "MESSAGES", 8_000 // 10)
    fewer = ("--dynamic-config-value", f"history.maximumSignalsPerExecution={most}")
    flags = embedded_server._FLAGS  # pyright: ignore[reportPrivateUsage] - only this test's server has another limit
    monkeypatch.setattr(embedded_server, "_FLAGS", (*flags, *fewer))
    async with environment() as own:
        agent = Agent(name="j", model=own.responses(calls(call("fetch", order=1)), told), tools=TOOLS)
        async with own.serve(agent) as client:
            await signalled(client, most + 50)


async def signalled(client: AgentClient, times: int) -> None:
    """Send a run so many signals, of which nothing comes; it ends as any other."""
    run = await client.start("j", "Go.")
    [fetched] = (await run.until_paused()).active_requirements
    for _ in range(times // 50):
        # The server fails a workflow task in which 100 arrive, and a run goes on in a moment in which none does.
        await asyncio.gather(*(run.send("nothing", {"number": number}) for number in range(50)))
        await asyncio.sleep(0.02)
    assert (await run.submit_result(fetched, by="shop", output="done")).status == "executed"
    assert (await asyncio.wait_for(run.result(), 60)).content == told_once("done")
    audit = await audited(run)
    assert len(audit.run.executions) > 1
    assert len(audit.messages) == times
    assert (await run.description()).status is WorkflowExecutionStatus.COMPLETED


def told_once(text: str) -> str:
    return json.dumps({"outputs": 1, "size": len(text), "end": text})
