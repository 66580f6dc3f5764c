"""Traces: one of a run, from the request that started it to its end, whatever comes between."""

from __future__ import annotations

import json
import logging
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.types import EventDict
from temporalio.client import Client
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, create_tracer_provider
from temporalio.worker import Worker

from assent import Agent, AgentClient, tool
from assent.runtime.logs import add_trace
from assent.testing import Environment, call, calls, fails, says
from assent.worker import AssentPlugin
from tests.support.otlp_receiver import Receiver, receiving
from tests.workflows.test_continue_as_new import executions


@tool
def look_up(key: str) -> str:
    """Look something up."""
    logging.getLogger("shop").warning("looks up")
    if key == "secret-key":
        message = "secret-error"
        raise ValueError(message)
    return f"secret-{key}"


@tool(requires_confirmation=True)
async def refund(order: str) -> str:
    """Refund an order, in a span of the team's own."""
    with trace.get_tracer("shop").start_as_current_span("book"):
        return f"refunded {order}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A collector to which the process exports over HTTP while the test runs."""
    with receiving() as found:
        yield found


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> InMemorySpanExporter:
    """What the process exports while the test runs."""
    provider, found = create_tracer_provider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(found))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(receiver.url)))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return found


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[EventDict]:
    """The lines that the worker's log gets while the test runs."""
    found: list[EventDict] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(add_trace(None, "", {"event": record.getMessage()}))

    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, Keeping()])
    return found


def ids(span: ReadableSpan) -> trace.SpanContext:
    found: trace.SpanContext | None = span.context
    assert found is not None
    return found


def tree(spans: list[ReadableSpan]) -> list[str]:
    """The spans as an indented list, children in the order in which they began. One without its parent is missing."""

    def lines(parent: int | None, depth: int) -> Iterator[str]:
        for each in sorted(spans, key=lambda span: span.start_time or 0):
            if (each.parent.span_id if each.parent else None) == parent:
                yield "  " * depth + each.name.replace(
                    str((each.attributes or {}).get("gen_ai.request.model")), "model"
                )
                yield from lines(ids(each).span_id, depth + 1)

    return list(lines(None, 0))


async def test_one_trace_over_pause_restart_child_run_and_new_executions(
    assent_environment: Environment, exporter: InMemorySpanExporter, receiver: Receiver
) -> None:
    """Every step replays the run: nothing is doubled. No prompt, argument, result or words of an error is exported."""
    clerk = Agent(name="clerk", model=assent_environment.chat(says("secret-answer")), instructions="secret-prompt")
    script = assent_environment.responses(
        calls(call("look_up", key="secret-key")),
        calls(call("refund", order="secret-order")),
        calls(call("ask_clerk", input="secret-question")),
        says("secret-end"),
    )
    agent = Agent(name="refunds", model=script, tools=[look_up, refund, clerk.as_tool()])
    client = await Client.connect(assent_environment.server.address, plugins=[OpenTelemetryPlugin()])
    agents = AgentClient(client, task_queue=f"traced-{uuid.uuid4().hex[:8]}")

    def worker() -> Worker:
        plugin = AssentPlugin([agent], continue_after=8)
        return Worker(client, task_queue=agents.task_queue, plugins=[plugin], max_cached_workflows=0)

    async with worker():
        with trace.get_tracer("web").start_as_current_span("POST /refunds"):
            run = await agents.start("refunds", "secret-input")
        state = await run.until_paused()
    async with worker():
        with trace.get_tracer("web").start_as_current_span("POST /decisions"):
            await run.approve(state.requirements[0], by="ann")
        await run.result()
    spans = list(exporter.get_finished_spans())
    assert tree(spans) == [
        "POST /refunds",
        "  invoke_agent refunds",
        "    chat model",
        "    execute_tool look_up",
        "    chat model",
        "    approval_request refund",
        "    approval_decision refund",
        "    execute_tool refund",
        "      book",
        "    chat model",
        "    execute_tool ask_clerk",
        "    invoke_agent clerk",
        "      chat model",
        "    chat model",
        "POST /decisions",
    ]
    assert len(await executions(agents, run)) > 2
    assert len({ids(each).span_id for each in spans}) == len(spans)
    assert sorted(Counter(ids(each).trace_id for each in spans).values()) == [1, len(spans) - 1]
    received = Counter((each.trace_id.hex(), each.span_id.hex()) for each in receiver.spans)
    assert received == Counter((f"{ids(each).trace_id:032x}", f"{ids(each).span_id:016x}") for each in spans)
    by_name = {each.name: each for each in spans}
    [link] = by_name["approval_decision refund"].links
    assert link.context.span_id == ids(by_name["POST /decisions"]).span_id
    decided = by_name["approval_decision refund"].attributes or {}
    assert (decided["assent.decision"], decided["gen_ai.agent.name"]) == ("approved", "refunds")
    failed = by_name["execute_tool look_up"]
    assert (failed.attributes or {})["error.type"] == "ValueError"
    answered = by_name[f"chat {script.id}"].attributes or {}
    assert answered["gen_ai.conversation.id"] == run.id
    assert isinstance(answered["gen_ai.usage.input_tokens"], int)
    assert answered["gen_ai.usage.input_tokens"] > 0
    assert "secret" not in "".join(each.to_json() for each in spans)


async def test_content_is_exported_only_when_switched_on(
    assent_environment: Environment, exporter: InMemorySpanExporter, lines: list[EventDict]
) -> None:
    """The order of the plugins does not matter; a run that was started outside a trace begins one.

    Lines of the log have the ids of the trace, also that of a failure, which comes after its span.
    """
    script = assent_environment.chat(fails(500), calls(call("look_up", key="k")), says("the end"))
    agent = Agent(name="reads", model=script, tools=[look_up], instructions="Be brief.")
    client = await Client.connect(assent_environment.server.address)
    agents = AgentClient(client, task_queue=f"traced-{uuid.uuid4().hex[:8]}")
    plugins = [AssentPlugin([agent], trace_content=True), OpenTelemetryPlugin()]
    async with Worker(client, task_queue=agents.task_queue, plugins=plugins):
        await (await agents.start("reads", "Look k up.")).result()
    spans = list(exporter.get_finished_spans())
    assert tree(spans) == [
        "invoke_agent reads", "  chat model", "  chat model", "  execute_tool look_up", "  chat model",
    ]  # fmt: skip
    named = {f"{ids(each).span_id:016x}": each.name for each in spans}
    logged = {str(line["event"])[:8]: line for line in lines if "trace_id" in line}
    assert {line["trace_id"] for line in logged.values()} == {f"{ids(spans[0]).trace_id:032x}"}
    assert named[logged["looks up"]["span_id"]] == "execute_tool look_up"
    assert named[logged["Completi"]["span_id"]] == f"chat {script.id}"
    ran = next(each for each in spans if each.name == "execute_tool look_up").attributes or {}
    assert json.loads(str(ran["gen_ai.tool.call.arguments"])) == {"key": "k"}
    assert ran["gen_ai.tool.call.result"] == "secret-k"
    last = max(spans, key=lambda each: each.start_time or 0).attributes or {}
    assert json.loads(str(last["gen_ai.system_instructions"])) == [{"type": "text", "content": "Be brief."}]
    heard = json.loads(str(last["gen_ai.input.messages"]))
    assert [each["role"] for each in heard] == ["user", "assistant", "tool"]
    assert heard[2]["parts"][0]["response"] == "secret-k"
    said = [{"role": "assistant", "parts": [{"type": "text", "content": "the end"}]}]
    assert json.loads(str(last["gen_ai.output.messages"])) == said
