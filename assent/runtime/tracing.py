"""Spans of runs, by OpenTelemetry, in the traces that Temporal's own plugin carries from process to process.

Nothing here does anything where OpenTelemetry is not installed, or the process has no tracer provider. The names are
those of OpenTelemetry's conventions for generative AI; what these do not know begins with `assent.`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from temporalio import workflow
from temporalio.converter import PayloadConverter
from temporalio.worker import Plugin

from assent.agents.models import Model
from assent.core.events import Event, Started
from assent.core.run_state import Run
from assent.wire.parts import content_text
from assent.wire.protocol import Item, Usage
from assent.wire.requirements import Requirement

if TYPE_CHECKING:
    from opentelemetry import context, trace
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
else:
    try:
        from opentelemetry import context, trace
        from opentelemetry.baggage.propagation import W3CBaggagePropagator
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        trace = None

_PLUGIN: Final = "temporalio.contrib.opentelemetry"
_HEADER: Final = "_tracer-data"
"""Where Temporal's plugin writes the trace context in which a workflow is started, as a JSON object."""
_content: Final[ContextVar[bool]] = ContextVar("assent_trace_content", default=False)

_newest: ContextVar[trace.SpanContext | None] = ContextVar("assent_newest_span", default=None)
"""The newest span of this activity: what the SDK logs of a failure comes after it has ended."""

SWITCH: Final = "assent_traces"
"""The extern function that workflow code finds where `is_replay_safe`."""

Attributes = dict[str, str | bool | int | float]


def with_content(*, switched_on: bool) -> None:
    """Have the spans of this activity hold prompts, answers, arguments and results, or not."""
    _content.set(switched_on)


def is_replay_safe() -> bool:
    """Whether workflow code can make spans: the process has Temporal's own tracer provider. Not in workflow code."""
    # A process with such a provider has imported its package, which is slow to import.
    package = sys.modules.get(_PLUGIN)
    return package is not None and isinstance(trace.get_tracer_provider(), package.ReplaySafeTracerProvider)


def plugins() -> list[Plugin]:
    """Return Temporal's own plugin for a worker, where `is_replay_safe`. Not in workflow code."""
    return [sys.modules[_PLUGIN].OpenTelemetryPlugin()] if is_replay_safe() else []


def trace_ids() -> dict[str, str]:
    """Return the ids of the trace and span that a line of a log is about; empty where it is about none."""
    if trace is None:
        return {}
    current = trace.get_current_span().get_span_context()
    span = current if current.is_valid else _newest.get()
    if span is None:
        return {}
    return {"trace_id": trace.format_trace_id(span.trace_id), "span_id": trace.format_span_id(span.span_id)}


# -- in activities ----------------------------------------------------------------------------------------------------


class Operation:
    """A span under way, or none."""

    def __init__(self, span: trace.Span | None = None) -> None:
        self._span = span

    def set(self, attributes: Mapping[str, str | bool | int | float]) -> None:
        """Add *attributes*."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def content(self, name: str, value: Callable[[], str]) -> None:
        """Add an attribute that holds content, if that is switched on."""
        if self._span is not None and self._span.is_recording() and _content.get():
            self._span.set_attribute(name, value())

    def answered(self, model: str, usage: Usage, items: Sequence[Item]) -> None:
        """Add what a model answered."""
        tokens = {"gen_ai.usage.input_tokens": usage.input_tokens, "gen_ai.usage.output_tokens": usage.output_tokens}
        self.set({"gen_ai.response.model": model, **tokens})
        self.content("gen_ai.output.messages", lambda: _messages(items))


@contextmanager
def chat(model: Model, instructions: str | None, items: Sequence[Item], run_id: str) -> Generator[Operation]:
    """The span of one request to a model."""
    attributes: Attributes = {"gen_ai.provider.name": "openai", "gen_ai.request.model": model.id}
    with _operation("chat", model.id, attributes, run_id) as operation:
        if instructions:
            operation.content("gen_ai.system_instructions", lambda: json.dumps([_text(instructions)]))
        operation.content("gen_ai.input.messages", lambda: _messages(items))
        yield operation


@contextmanager
def tool(name: str, agent: str, call_id: str, arguments: str, run_id: str) -> Generator[Operation]:
    """The span of one attempt of a tool."""
    attributes: Attributes = {
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call_id,
        "gen_ai.agent.name": agent,
    }
    with _operation("execute_tool", name, attributes, run_id) as operation:
        operation.content("gen_ai.tool.call.arguments", lambda: arguments)
        yield operation


@contextmanager
def _operation(name: str, what: str, attributes: Attributes, run_id: str) -> Generator[Operation]:
    if trace is None:
        yield Operation()
        return
    attributes = {"gen_ai.operation.name": name, "gen_ai.conversation.id": run_id, **attributes}
    kind = trace.SpanKind.CLIENT if name == "chat" else trace.SpanKind.INTERNAL
    # The words of an error may hold arguments or results: only its type is told.
    with trace.get_tracer("assent").start_as_current_span(
        f"{name} {what}", kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        _newest.set(span.get_span_context())
        try:
            yield Operation(span)
        except BaseException as error:
            span.set_attribute("error.type", getattr(error, "type", None) or type(error).__qualname__)
            span.set_status(trace.StatusCode.ERROR)
            raise


def _messages(items: Sequence[Item]) -> str:
    return json.dumps([_message(each) for each in items], ensure_ascii=False)


def _message(item: Item) -> dict[str, object]:
    match item.get("type"):
        case "function_call":
            part = {"type": "tool_call", "id": item["call_id"], "name": item["name"], "arguments": item["arguments"]}
            return {"role": "assistant", "parts": [part]}
        case "function_call_output":
            part = {"type": "tool_call_response", "id": item["call_id"], "response": item["output"]}
            return {"role": "tool", "parts": [part]}
        case _:
            return {"role": item.get("role", "assistant"), "parts": [_text(content_text(item.get("content")))]}


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "content": text}


# -- in workflow code -------------------------------------------------------------------------------------------------


class RunTrace:
    """The trace of one run. Everything that the run starts belongs to it, also after a message from another trace.

    Spans of workflow code end at once, because a run may wait for a year: `invoke_agent` marks the beginning of the
    run, and all others are below it. The same ids come out of every replay.
    """

    def __init__(self, *, switched_on: bool) -> None:
        """*switched_on*: the worker `is_replay_safe`."""
        self._context: Context | None = _of_start() if switched_on else None

    @contextmanager
    def applied(self) -> Generator[None]:
        """Have what the block starts belong to the run's trace."""
        if self._context is None:
            yield
            return
        token = context.attach(self._context)
        try:
            yield
        finally:
            context.detach(token)

    @contextmanager
    def starting(self, run: Callable[[], Run]) -> Generator[None]:
        """Mark the beginning of the run, which the block brings about."""
        if self._context is None:
            yield
            return
        span = trace.get_tracer("assent").start_span("invoke_agent", self._context)
        self._context = trace.set_span_in_context(span, self._context)
        yield
        span.update_name(f"invoke_agent {run().call_context.agent}")
        span.set_attributes(
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": run().call_context.agent,
                "gen_ai.conversation.id": workflow.info().workflow_id,
            }
        )
        span.end()

    def resume(self) -> None:
        """Have the execution that follows belong to the run's trace too, for as long as the calling task lasts."""
        if self._context is not None:
            context.attach(self._context)

    def record(self, event: Event, before: Run, after: Run) -> None:
        """Mark what *event* requested of people, and what was decided."""
        if self._context is None or after.requirements is before.requirements:
            return
        if isinstance(event, Started) and event.continued:
            return
        known = {each.id: each for each in before.requirements}
        for each in after.requirements:
            if (last := known.get(each.id)) is each:
                continue
            if last is None:
                self._emit_span("approval_request", each, after.call_context.agent, {})
            if each.status != "pending" and (last is None or last.status == "pending"):
                waited = ((each.resolved_at or each.created_at) - each.created_at).total_seconds()
                decided: Attributes = {"assent.decision": each.status, "assent.waited_seconds": waited}
                self._emit_span("approval_decision", each, after.call_context.agent, decided)

    def _emit_span(self, name: str, requirement: Requirement, agent: str, attributes: Attributes) -> None:
        attributes = {
            "gen_ai.agent.name": requirement.agent or agent,
            "gen_ai.conversation.id": workflow.info().workflow_id,
            "gen_ai.tool.name": requirement.tool,
            "gen_ai.tool.call.id": requirement.call_id,
            "assent.requirement.id": requirement.id,
            "assent.requirement.kind": requirement.kind,
            **attributes,
        }
        # The trace of the person's client, if it has one.
        sender, own = trace.get_current_span().get_span_context(), trace.get_current_span(self._context)
        links = [trace.Link(sender)] if sender.is_valid and sender != own.get_span_context() else []
        span = trace.get_tracer("assent").start_span(
            f"{name} {requirement.tool}", self._context, attributes=attributes, links=links
        )
        span.end()


def _of_start() -> Context:
    """The trace context that the workflow was started with. Messages bring others, which are those of their senders."""
    extracted = context.Context()
    if (payload := workflow.info().headers.get(_HEADER)) is not None:
        carrier: dict[str, str] = PayloadConverter.default.from_payload(payload) or {}
        extracted = TraceContextTextMapPropagator().extract(carrier, extracted)
        extracted = W3CBaggagePropagator().extract(carrier, extracted)
    return extracted
