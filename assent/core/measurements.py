"""What is counted of runs: the list of all metrics, and the measurements that one step of a run adds to them."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from assent.core import sub_agents, tool_calls
from assent.core.events import (
    AgentAnswered,
    CheckAnswered,
    Event,
    MessageReceived,
    ModelAnswered,
    Started,
    ToolAnswered,
    ToolLost,
)
from assent.core.run_state import Run, Step
from assent.wire import conversation, protocol
from assent.wire.protocol import COUNTED, RequirementKind, RunResult
from assent.wire.requirements import IgnoredMessage, Requirement


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, kind, the names of its labels, and a description.

    Prometheus appends `_total` to the name of a counter, if the worker's Runtime says so.
    """

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    labels: tuple[str, ...]
    text: str


class Measurement(NamedTuple):
    """A *value* for a metric; *labels* are the values of its labels, in their order."""

    metric: Metric
    value: float
    labels: tuple[str, ...]


RUNS: Final = Metric(
    "assent_runs", "counter", ("agent", "status"), "Runs that started, completed, failed or were cancelled"
)
REQUESTED: Final = Metric(
    "assent_approvals_requested", "counter", ("agent", "tool", "kind"), "Requirements that opened"
)
CLOSED: Final = Metric(
    "assent_approvals_closed", "counter", ("agent", "tool", "kind", "status"), "Requirements that wait no more"
)
DECISIONS: Final = Metric(
    "assent_decisions", "counter", ("agent", "tool", "outcome", "by"), "Decisions, also those that did not count"
)
DECISION_TIME: Final = Metric(
    "assent_decision_seconds",
    "histogram",
    ("agent", "tool", "kind"),
    "Time from the request to the decision, in seconds",
)
TOOL_CALLS: Final = Metric("assent_tool_calls", "counter", ("agent", "tool", "outcome"), "Tool calls by their outcome")
MODEL_CALLS: Final = Metric("assent_model_calls", "counter", ("agent", "outcome"), "Requests to models")
TOKENS: Final = Metric("assent_tokens", "counter", ("agent", "direction"), "Tokens of model calls")
COST: Final = Metric("assent_cost_micros", "counter", ("agent",), "Cost of model calls, in millionths")
IGNORED: Final = Metric(
    "assent_messages_ignored", "counter", ("agent", "message", "status"), "Messages that had no effect"
)
NOTICES_REFUSED: Final = Metric(
    "assent_notices_refused", "counter", ("webhook",), "Notices that a webhook refused for good"
)
OPEN: Final = Metric("assent_runs_open", "gauge", ("status",), "Runs that have not ended, by what they do now")
WAITING: Final = Metric("assent_approvals_waiting", "gauge", ("agent", "tool"), "Requirements that wait now")
OLDEST: Final = Metric(
    "assent_approvals_oldest_seconds",
    "gauge",
    ("agent", "tool"),
    "Age of the oldest requirement that waits, in seconds",
)
METRICS: Final = (
    RUNS, REQUESTED, CLOSED, DECISIONS, DECISION_TIME, TOOL_CALLS, MODEL_CALLS, TOKENS, COST, IGNORED, NOTICES_REFUSED,
    OPEN, WAITING, OLDEST,
)  # fmt: skip

_DECISIONS: Final = frozenset(
    {
        protocol.APPROVE, protocol.REJECT, protocol.SUBMIT_RESULT, protocol.SUBMIT_INPUT, protocol.DECIDE,
        protocol.DELIVER,
    }
)  # fmt: skip
_MESSAGES: Final = _DECISIONS | {protocol.SEND_MESSAGE, protocol.REVOKE, protocol.CLOSE}
_MICROS: Final = 1_000_000


def measurements(before: Run, event: Event, step: Step) -> list[Measurement]:
    """Return what *step*, which *event* caused in the run *before*, adds to the metrics.

    The names of tools in labels are those of tools that exist: a name that a model may have invented is left out.
    """
    if isinstance(event, Started) and event.continued:
        return []  # The execution before has counted it.
    after = step.run
    measured = [*_tool_calls(before, event, after)]
    if isinstance(event, Started):
        measured.append(Measurement(RUNS, 1, (_agent(after), "started")))
    if after.ended and not before.ended:
        measured.append(Measurement(RUNS, 1, (_agent(after), after.status)))
    if after.requirements is not before.requirements:
        measured += _approvals(before, after)
    if isinstance(event, MessageReceived | CheckAnswered):
        measured += _decision(step)
    if after.ignored_messages is not before.ignored_messages:
        measured += [each for message in _new_ignored(before, after) for each in _ignored(message, after)]
    if after.usage is not before.usage and not isinstance(event, AgentAnswered):  # A child run counts its own.
        measured += _usage(before, after)
    return [each for each in measured if each.value > 0 or each.metric is DECISION_TIME]


def zeros(agent: str, tools: Iterable[str], asking: Mapping[str, RequirementKind]) -> list[Measurement]:
    """Return zeros for the counters of an agent: one that begins with 1 has not increased, for Prometheus.

    *asking* has the tools that wait for people, with what they wait for.
    """
    of_agent = {
        RUNS: ("started", "completed", "failed", "cancelled"),
        MODEL_CALLS: ("answered", "failed"),
        TOKENS: ("input", "output"),
    }
    measured = [Measurement(metric, 0, (agent, value)) for metric, values in of_agent.items() for value in values]
    measured.append(Measurement(COST, 0, (agent,)))
    measured += [
        Measurement(TOOL_CALLS, 0, (agent, tool, outcome)) for tool in tools for outcome in ("executed", "failed")
    ]
    measured += [Measurement(REQUESTED, 0, (agent, tool, kind)) for tool, kind in asking.items()]
    for tool, kind in asking.items():
        for status in ("approved", "rejected"):
            measured.append(Measurement(CLOSED, 0, (agent, tool, kind, status)))
            measured.append(Measurement(DECISIONS, 0, (agent, tool, status, "person")))
    return measured


def _agent(run: Run) -> str:
    """Return the agent that the run was started with."""
    return run.request.agent if run.request else ""


# -- requirements and decisions ---------------------------------------------------------------------------------------


def _approvals(before: Run, after: Run) -> Iterator[Measurement]:
    for each in after.requirements[len(before.requirements) :]:
        names = _names(each, after)
        if each.grant is not None:  # It never waited.
            yield Measurement(DECISIONS, 1, (*names, each.status, "grant"))
            continue
        yield Measurement(REQUESTED, 1, (*names, each.kind))
        if each.status != "pending":
            yield from _closed(each, after)
    for known in before.pending:
        now = after.requirement(known.id)
        if now is not None and now.status != "pending":
            yield from _closed(now, after)


def _closed(each: Requirement, run: Run) -> Iterator[Measurement]:
    names = _names(each, run)
    yield Measurement(CLOSED, 1, (*names, each.kind, each.status))
    if each.status in {"approved", "rejected"} and each.resolved_at is not None:
        # An edit does not restart the clock.
        first = (each.edited_from and run.requirement(each.edited_from)) or each
        waited = (each.resolved_at - first.created_at).total_seconds()
        yield Measurement(DECISION_TIME, max(waited, 0.0), (*names, each.kind))


def _names(each: Requirement, run: Run) -> tuple[str, str]:
    return each.agent or _agent(run), each.tool


def _decision(step: Step) -> Iterator[Measurement]:
    result = step.result
    if result is not None and result.status in COUNTED:
        each = step.run.requirement(result.requirement_id)
        if each is not None:
            yield Measurement(DECISIONS, 1, (*_names(each, step.run), result.status, "person"))


def _new_ignored(before: Run, after: Run) -> list[IgnoredMessage]:
    new = after.ignored_dropped + len(after.ignored_messages) - before.ignored_dropped - len(before.ignored_messages)
    return list(after.ignored_messages[-new:])


def _ignored(message: IgnoredMessage, run: Run) -> Iterator[Measurement]:
    each = message.requirement_id and run.requirement(message.requirement_id)
    agent, tool = _names(each, run) if each else (_agent(run), "")
    name = message.name if message.name in _MESSAGES else "other"
    yield Measurement(IGNORED, 1, (agent, name, message.status))
    if name in _DECISIONS:
        yield Measurement(DECISIONS, 1, (agent, tool, message.status, "person"))


# -- calls of tools and models ----------------------------------------------------------------------------------------


def _tool_calls(before: Run, event: Event, after: Run) -> Iterator[Measurement]:
    agent = before.call_context.agent
    match event:
        case ModelAnswered() if after.usage is not before.usage and not (after.ended and not after.calls):
            calls = conversation.tool_calls(event.turn.items)
            invalid = [each.tool for each in calls if tool_calls.gate_of(event.turn, each).verdict == "invalid"]
            denied = len(calls) - len(invalid) - (after.tool_calls - before.tool_calls)
            yield Measurement(TOOL_CALLS, denied, (agent, "", "denied"))
            for tool in invalid:
                yield Measurement(TOOL_CALLS, 1, (agent, tool, "invalid"))
        case ToolAnswered() | ToolLost() | AgentAnswered():
            for position, call in enumerate(before.calls):
                if call.running and _is_about(event, position, call):
                    outcome = _outcome(event, position, call, after)
                    if outcome is not None:
                        yield Measurement(TOOL_CALLS, 1, (agent, call.call.tool, outcome))
        case _:
            return


def _is_about(event: ToolAnswered | ToolLost | AgentAnswered, position: int, call: tool_calls.Call) -> bool:
    if isinstance(event, AgentAnswered):
        return call.child is not None and call.child.run_id == event.run_id
    return position == event.position and call.delegated is None


def _outcome(
    event: ToolAnswered | ToolLost | AgentAnswered, position: int, call: tool_calls.Call, after: Run
) -> str | None:
    """Return the outcome of a call that ran; None if it is not over: it is tried again, or waits for people again."""
    if position < len(after.calls) and after.calls[position].answer is None:
        asked = isinstance(event, ToolLost) and not after.ended and after.calls[position].status == "waiting"
        return "unknown" if asked else None
    match event:
        case ToolAnswered():
            outcome, to = event.outcome, event.outcome.handoff
            misled = to is not None and sub_agents.agent_mismatch(call, to.agent) is not None
            refused = outcome.refused is not None or outcome.delegation is not None or misled
            return "refused" if refused else "failed" if outcome.error is not None else "executed"
        case AgentAnswered():
            return "executed" if isinstance(event.answer, RunResult) else "failed"
        case ToolLost():
            return "failed"


def _usage(before: Run, after: Run) -> Iterator[Measurement]:
    agent, last, now = before.call_context.agent, before.usage, after.usage
    yield Measurement(MODEL_CALLS, now.requests - last.requests, (agent, "answered"))
    yield Measurement(MODEL_CALLS, now.failed - last.failed, (agent, "failed"))
    yield Measurement(TOKENS, now.input_tokens - last.input_tokens, (agent, "input"))
    yield Measurement(TOKENS, now.output_tokens - last.output_tokens, (agent, "output"))
    if math.isfinite(now.cost) and math.isfinite(last.cost):  # The sum of all is right to one millionth.
        yield Measurement(COST, round(now.cost * _MICROS) - round(last.cost * _MICROS), (agent,))
