"""Agents of other frameworks, each under its own Temporal plugin in an environment of its own, behind our gates.

A prompt is the transfers to make, as JSON: the scripted model looks the invoice up and then makes these calls.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from temporalio.client import WorkflowHandle

from assent import AgentClient, DecisionError, DecisionResult, Requirement, RequirementNotFoundError, RunHandle
from assent.testing import Conversation, Environment, Reply, call, calls, says
from tests.e2e.processes import ROOT, Running, start
from tests.support.visibility import soon

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(180)]

ASKER: Final = "Zo\u00e9 Fink"
LOOK_ALIKES: Final = (
    ASKER,
    "ZO\u00c9 FINK",
    f"\t {ASKER} \n",
    "Zoe\u0301 Fink",
    "\uff3a\uff4f\u00e9 \uff26\uff49\uff4e\uff4b",
)
FRAMEWORKS: Final = {
    "openai_agents": "OpenAIAgentsPayer",
    "pydantic_ai": "PydanticAIPayer",
    "langgraph": "LangGraphPayer",
}


@dataclass(frozen=True)
class Payment:
    """One run of a framework's agent, and the run of Assent in which each of its transfers waits."""

    workflow: WorkflowHandle[object, str]
    waiting: list[tuple[RunHandle, Requirement]]

    async def told(self) -> list[str]:
        """What the model was told of its transfers, in the order of its calls."""
        outputs: list[str] = json.loads(await asyncio.wait_for(self.workflow.result(), 60))
        assert outputs[0] == "Invoice 4711: 500000 cents to DE02120300000000202051."
        return outputs[1:]


@dataclass(frozen=True)
class Payer:
    """What serves one framework's agent, and the file in which its transfers are lines."""

    client: AgentClient
    framework: str
    ledger: Path
    variables: dict[str, str]

    @asynccontextmanager
    async def worker(self, **more: str) -> AsyncGenerator[Running]:
        python = ROOT / f".venv-integrations-{self.framework}" / "bin" / "python"
        assert python.exists(), f"{python} is missing: `make test-integrations` makes it"
        module = f"examples.integrations.{self.framework}.worker"
        worker = await start(str(python), "-m", module, self.client.task_queue, env={**self.variables, **more})
        try:
            await worker.until("Serving")
            yield worker
        finally:
            await worker.end(signal.SIGTERM)

    async def asked(self, *transfers: tuple[str, int], by: str = "clerk") -> Payment:
        """Start the agent, which makes these transfers side by side; each waits."""
        handle: WorkflowHandle[object, str] = await self.client.temporal.start_workflow(
            FRAMEWORKS[self.framework],
            args=[json.dumps(transfers), by],
            id=f"payer-{uuid.uuid4().hex[:8]}",
            task_queue=self.client.task_queue,
            result_type=str,
        )
        runs: list[RunHandle] = []
        async with asyncio.timeout(60):
            async for event in handle.fetch_history_events(wait_new_event=True):
                if event.HasField("child_workflow_execution_started_event_attributes"):
                    child = event.child_workflow_execution_started_event_attributes.workflow_execution
                    runs.append(self.client.get_run(child.workflow_id))
                    if len(runs) == len(transfers):
                        break
            waiting = [(run, (await run.until_paused()).active_requirements[0]) for run in runs]
        order: list[object] = [{"to": to, "cents": cents} for to, cents in transfers]
        return Payment(handle, sorted(waiting, key=lambda each: order.index(each[1].tool_args or {})))

    def sent(self, iban: str) -> list[str]:
        """The transfers to *iban* that really ran."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [line for line in lines if line.startswith(f"{iban} ")]


def account() -> str:
    return f"DE{uuid.uuid4().int % 10**20:020}"


def model(seen: Conversation) -> Reply:
    """Look up, transfer what the prompt says, and tell what came of it."""
    if seen.turn == 0:
        return calls(call("look_up_invoice", number="4711"))
    if seen.turn == 1:
        return calls(*(call("wire_transfer", to=to, cents=cents) for to, cents in json.loads(seen.user[0])))
    return says(json.dumps(list(seen.tool_outputs.values())))


def of(environment: Environment, framework: str, folder: Path) -> Payer:
    environment.models.script(f"scripted-{framework}", model)
    variables = {
        "TEMPORAL_ADDRESS": environment.server.address,
        "OPENAI_BASE_URL": environment.models.url,
        "OPENAI_API_KEY": "none",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "MODEL": f"scripted-{framework}",
        "LEDGER": str(folder / "ledger"),
        "PATH": os.environ["PATH"],
    }
    queue = f"{framework}-{uuid.uuid4().hex[:8]}"
    return Payer(environment.client(queue), framework, folder / "ledger", variables)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=FRAMEWORKS)
async def payer(
    request: pytest.FixtureRequest, assent_environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Payer]:
    """One worker of each framework serves the tests of this module."""
    served = of(assent_environment, request.param, tmp_path_factory.mktemp(request.param))
    async with served.worker():
        yield served


async def test_five_concurrent_approvals_run_the_transfer_once(payer: Payer) -> None:
    iban = account()
    payment = await payer.asked((iban, 1))
    [(run, requirement)] = payment.waiting
    assert payer.sent(iban) == []
    answers = await asyncio.gather(*(run.approve(requirement, by=f"person {n}", check=False) for n in range(5)))
    assert Counter(each.status for each in answers)["approved"] >= 1
    assert await payment.told() == [f"sent 1 cents to {iban}"]
    assert payer.sent(iban) == [f"{iban} 1"]
    verification = await run.verify()
    assert verification.ok, verification


async def test_what_is_rejected_never_runs_though_it_is_confirmed_late(payer: Payer) -> None:
    iban, other = account(), account()
    payment = await payer.asked((iban, 1), (other, 1))
    (run, requirement), (twin, second) = payment.waiting
    await run.reject(requirement, by="bob", reason="not ours")
    with pytest.raises(DecisionError):
        await run.approve(requirement, by="bob")
    await twin.approve(second, by="bob")
    assert await payment.told() == ["'wire_transfer' was rejected: not ours", f"sent 1 cents to {other}"]
    assert (payer.sent(iban), payer.sent(other)) == ([], [f"{other} 1"])


async def test_only_the_approved_arguments_of_the_approved_call_run(payer: Payer) -> None:
    """Neither the model's other call, nor its twin, nor what a person changed it from."""
    iban, mallory = account(), account()
    payment = await payer.asked((iban, 1), (mallory, 1_000_000))
    (run, requirement), (other, second) = payment.waiting
    with pytest.raises((DecisionError, RequirementNotFoundError)):
        await other.approve(requirement, by="bob")
    await run.approve(requirement, by="bob")
    await soon(lambda: asyncio.to_thread(payer.sent, iban))
    assert (payer.sent(iban), payer.sent(mallory)) == ([f"{iban} 1"], [])
    await other.approve(second, by="bob", arguments={"to": iban, "cents": 2})
    assert await payment.told() == [f"sent 1 cents to {iban}", f"sent 2 cents to {iban}"]
    assert (payer.sent(iban), payer.sent(mallory)) == ([f"{iban} 1", f"{iban} 2"], [])
    for each in (run, other):
        verification = await each.verify()
        assert verification.ok, verification


async def test_the_twin_of_an_approved_call_waits(payer: Payer) -> None:
    iban = account()
    payment = await payer.asked((iban, 1), (iban, 1))
    (run, requirement), (twin, second) = payment.waiting
    assert requirement.id != second.id
    await run.approve(requirement, by="bob")
    await soon(lambda: asyncio.to_thread(payer.sent, iban))
    assert [each.id for each in (await twin.state()).active_requirements] == [second.id]
    await twin.reject(second, by="bob", reason="once is enough")
    assert sorted(await payment.told()) == ["'wire_transfer' was rejected: once is enough", f"sent 1 cents to {iban}"]
    assert payer.sent(iban) == [f"{iban} 1"]


async def test_a_repeated_approval_is_one_decision(payer: Payer) -> None:
    """A signal three times, and an update with one id three times."""
    iban, other = account(), account()
    payment = await payer.asked((iban, 1), (other, 1))
    (run, requirement), (second, updated) = payment.waiting
    for _ in range(3):
        await run.send("approve", {"id": requirement.id, "by": "bob"})
    handle, body = payer.client.temporal.get_workflow_handle(second.id), {"id": updated.id, "by": "bob"}
    name = f"click-{uuid.uuid4().hex}"
    answers = await asyncio.gather(
        *(handle.execute_update("decide", {**body, "verdict": "approve"}, id=name) for _ in range(3))
    )
    assert [DecisionResult.model_validate(each).status for each in answers] == ["approved"] * 3
    assert answers[0] == answers[1] == answers[2]
    assert await payment.told() == [f"sent 1 cents to {iban}", f"sent 1 cents to {other}"]
    assert (payer.sent(iban), payer.sent(other)) == ([f"{iban} 1"], [f"{other} 1"])


async def test_fifty_people_approving_at_once_is_one_transfer(payer: Payer) -> None:
    iban = account()
    payment = await payer.asked((iban, 1))
    [(run, requirement)] = payment.waiting
    await asyncio.gather(*(run.send("approve", {"id": requirement.id, "by": f"person {n}"}) for n in range(50)))
    assert await payment.told() == [f"sent 1 cents to {iban}"]
    assert payer.sent(iban) == [f"{iban} 1"]
    state = await run.state()
    assert Counter(each.status for each in state.ignored_messages) == {"duplicate": 49}
    people = {str(each.by) for each in state.ignored_messages} | {str(state.requirements[0].resolved_by)}
    assert people == {f"person {n}" for n in range(50)}


async def test_who_asked_the_agent_cannot_approve_its_transfer(payer: Payer) -> None:
    """Under no spelling of the name."""
    iban = account()
    payment = await payer.asked((iban, 1), by=ASKER)
    [(run, requirement)] = payment.waiting
    answers = [await run.approve(requirement, by=name, check=False) for name in LOOK_ALIKES]
    assert [each.status for each in answers] == ["refused"] * len(LOOK_ALIKES)
    assert payer.sent(iban) == []
    await run.reject(requirement, by="bob", reason="no")
    assert await payment.told() == ["'wire_transfer' was rejected: no"]
    assert payer.sent(iban) == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_kill_inside_the_approved_transfer_is_put_to_a_person(
    assent_environment: Environment, framework: str, tmp_path: Path
) -> None:
    """At most once: the next worker takes the agent up again, and a person says what came of the transfer."""
    payer, iban = of(assent_environment, framework, tmp_path), account()
    async with payer.worker(BANK_SECONDS="60") as first:
        payment = await payer.asked((iban, 1))
        [(run, requirement)] = payment.waiting
        await run.approve(requirement, by="bob")
        await soon(lambda: asyncio.to_thread(payer.sent, iban))
        await first.end(signal.SIGKILL)
    async with payer.worker():
        state = await asyncio.wait_for(run.until_paused(), 60)
        lost, outcome = state.requirements
        assert (lost.id, lost.status, lost.execution) == (requirement.id, "approved", "unknown")
        assert (outcome.kind, outcome.status) == ("outcome", "pending")
        assert payer.sent(iban) == [f"{iban} 1"]
        await run.submit_result(outcome, by="carol", output="the bank has it")
        assert await payment.told() == ["the bank has it"]
        assert payer.sent(iban) == [f"{iban} 1"]
