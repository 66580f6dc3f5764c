"""Each public method and function has an example in its docstring, and the example runs on a real server."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import ScheduleSpec
from temporalio.worker import Worker

import assent
import assent.testing
from assent import Agent, AgentClient, Approval, OpenAIResponses, Remember, RunHandle, approval, tool
from assent.testing import Environment, call, calls, says
from assent.worker import AssentPlugin
from assent.workflow import ask_person, execute_gated_activity, external_result, request_approval, run_agent
from tests.support.page_programs import execute

OF_WORKFLOWS = (ask_person, execute_gated_activity, external_result, request_approval, run_agent)
WITHOUT = {
    # What Assent calls itself, with what users give it. Public by place, of no use to them.
    "Agent": {"tool", "policy_version", "gatekeeper"},
    "Audit": {"records"},
    "Condition": {"holds"},
    "Grant": {"is_active"},
    "MCPServer": {"missing", "environment", "has", "gated", "folders", "declared"},
    "Rule": {"matches"},
    "Tool": {"validate", "named_values", "input_fields", "validate_input", "result_field", "result_problem", "render"},
    "Webhook": {"is_subscribed"},
    "ModelServer": {"script", "start", "stop", "in_thread"},  # docs/guides/testing.md shows it
}


def is_documented(name: str, value: object) -> bool:
    return not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod))


def public() -> dict[str, str]:
    """The docstring of each public function and method, by its name."""
    found = {f"workflow.{each.__name__}": each.__doc__ or "" for each in OF_WORKFLOWS}
    found["worker.AssentPlugin"] = AssentPlugin.__doc__ or ""
    for module in (assent, assent.testing):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                found[name] = value.__doc__ or ""
            elif inspect.isclass(value):
                methods = [each for each, it in vars(value).items() if is_documented(each, it)]
                for each in methods:
                    if each in WITHOUT.get(name, ()):
                        continue
                    found[f"{name}.{each}"] = getattr(value, each).__doc__ or ""
    return found


def example(docstring: str) -> str:
    """The program of the section `Example:`; empty if there is none."""
    section = re.search(r"^Example:\n((?:    .*\n|\n)+)", inspect.cleandoc(docstring) + "\n", re.MULTILINE)
    if section is None:
        return ""
    fenced = re.findall(r"```python\n(.*?)```", dedent(section[1]), re.DOTALL)
    return "\n".join(fenced or re.findall(r"^`(.*)`$", dedent(section[1]), re.MULTILINE))


PUBLIC = {name: example(docstring) for name, docstring in public().items()}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_public_function_and_method_has_an_example(name: str) -> None:
    assert PUBLIC[name]


@approval
@tool(requires_confirmation=True)
def deploy(target: str) -> str:
    """Deploy to a target."""
    return f"deployed to {target}"


@tool(external_execution=True)
def credit_check(customer: str) -> dict[str, int]:
    """Ask the bureau about a customer."""
    raise NotImplementedError


@tool(requires_user_input=True, user_input_fields=["seat"])
def book(seat: str) -> str:
    """Book a seat."""
    return seat


@activity.defn
async def wire(iban: str, cents: int) -> str:
    return f"{iban} has {cents}"


@workflow.defn(sandboxed=False)
class Caller:
    """A workflow whose code is an example."""

    @workflow.run
    async def run(self, program: str) -> None:
        await execute(program, {each.__name__: each for each in OF_WORKFLOWS})


DENIES = assent.PermissionPolicy.of(deny=["drop_*"])


async def paused(client: AgentClient, agent: str) -> tuple[RunHandle, Approval]:
    run = await client.start(agent, "Do it.", requested_by="alice")
    await run.until_paused()
    [waiting] = await run.pending()
    return run, waiting


async def granted(client: AgentClient) -> tuple[RunHandle, Any]:
    """A run that has a grant, and still waits: the grants of a run end with it."""
    run, waiting = await paused(client, "twice")
    await run.approve(waiting, by="bob", remember=Remember(uses=3))
    return run, (await run.state()).grants[0]


async def given(program: str, running: Environment, client: AgentClient, agent: Agent) -> dict[str, Any]:
    """What an example may name without making it."""
    names = {**vars(assent.testing), **{name: getattr(assent, name) for name in assent.__all__}}
    names |= {"client": client, "running": running, "agent": agent, "policy": DENIES}
    names |= {"ScheduleSpec": ScheduleSpec, "datetime": datetime, "timedelta": timedelta, "UTC": UTC, "Path": Path}
    names |= {"Worker": Worker, "AssentPlugin": AssentPlugin}
    makers: Mapping[tuple[str, ...], Callable[[], Awaitable[object]]] = {
        ("run", "requirement"): lambda: paused(client, "deployer"),
        ("external", "order"): lambda: paused(client, "loans"),
        ("asking", "question"): lambda: paused(client, "travel"),
        ("granted", "grant"): lambda: granted(client),
        ("conversation",): lambda: client.start("accounts", conversation=True, requested_by="alice"),
        ("finished",): lambda: client.start("accounts", "Hello.", requested_by="alice"),
    }
    used = {node.id for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Name)}
    for wanted, make in makers.items():
        if used & set(wanted):
            made = await make()
            names |= dict(zip(wanted, made if isinstance(made, tuple) else (made,), strict=True))
    return names


@pytest.mark.timeout(120)
async def test_the_examples_run(
    assent_environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEMPORAL_ADDRESS", assent_environment.server.address)
    monkeypatch.setenv("OPENAI_BASE_URL", assent_environment.models.url)
    (tmp_path / "policy.toml").write_text('default = "ask"\n')
    scripts = {
        "deployer": [calls(call("deploy", target="prod")), says("Out.")],
        "twice": [calls(call("deploy", target="prod")), calls(call("credit_check", customer="ann"))],
        "loans": [calls(call("credit_check", customer="ann")), says("Checked.")],
        "travel": [calls(call("book")), says("Booked.")],
        "accounts": [says("Hello."), says("Bye.")],
    }
    tools: dict[str, list[Callable[..., object]]] = {
        "deployer": [deploy],
        "twice": [deploy, credit_check],
        "loans": [credit_check],
        "travel": [book],
        "accounts": [],
    }
    agents = [
        Agent(name=name, model=assent_environment.responses(*answers), tools=tools[name])
        for name, answers in scripts.items()
    ]
    async with assent_environment.serve(*agents) as client:
        clerk = Agent(name="clerk", model=OpenAIResponses("gpt-5-mini"))
        for name, program in PUBLIC.items():
            if not name.startswith("workflow."):
                names = await given(program, assent_environment, client, clerk)
                try:
                    await execute(program, names)
                except Exception as error:
                    error.add_note(f"the example of {name}: {program}")
                    raise
        plugin = AssentPlugin(gated_activities=["wire"])
        async with Worker(
            client.temporal, task_queue="callers", workflows=[Caller], activities=[wire], plugins=[plugin]
        ):
            for name, program in PUBLIC.items():
                if name.startswith("workflow."):
                    await answered(client, name, program.replace('"agents"', repr(client.task_queue)))


async def answered(client: AgentClient, name: str, program: str) -> None:
    """Run an example in a workflow, and decide what it asks."""
    handle = await client.temporal.start_workflow(Caller.run, program, id=name, task_queue="callers")
    while (await handle.describe()).close_time is None:
        for waiting in await client.pending(agent="Caller"):
            run = client.get_run(waiting.run_id)
            if waiting.kind == "input":
                await run.submit_input(waiting, by="bob", values={"seat": "window"}, check=False)
            elif waiting.kind == "external":
                await run.submit_result(waiting, by="bob", output=610, check=False)
            else:
                await run.approve(waiting, by="bob", check=False)
    await handle.result()
