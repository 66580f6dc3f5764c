"""People in any workflow: approvals, questions, results from outside, gated activities and agents, from workflow code.

Each call starts a child workflow, a run of Assent, so that the inbox, the CLI, the Web UI, notices and the audit have
it. The worker of the calling workflow needs `assent.worker.AssentPlugin`; so does a worker of *task_queue*, where the
run is served (by default the same).

What is common to all of these: cancelling the caller cancels what waits; so does its continue-as-new. After a reset of
the caller to before the call, the run of before is ended and people are asked again. A run that is cancelled or
terminated by itself raises `ChildWorkflowError`, as any child workflow.
"""

import asyncio
import inspect
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypedDict, TypeVar, Unpack, cast, overload
from weakref import WeakKeyDictionary

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import to_json
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError

from assent.core.sub_agents import child_id
from assent.runtime.converter import PLAIN
from assent.views import web_ui
from assent.wire import messages, protocol, visibility
from assent.wire.budget import Budget
from assent.wire.errors import ConfigurationError, MessageError
from assent.wire.limits import REASON_LIMIT
from assent.wire.parts import Part, content_json, inline_problem
from assent.wire.policy import PermissionPolicy
from assent.wire.proofs import ProofLevel, stricter_level
from assent.wire.protocol import (
    Decision,
    Escalation,
    Gate,
    InputField,
    RunRequest,
    RunResult,
    ToolOptions,
    WorkflowCall,
)
from assent.wire.text import error_text
from assent.workflows import publisher

__all__ = [
    "ActivityTerms",
    "Decision",
    "NotApprovedError",
    "Terms",
    "ask_person",
    "execute_gated_activity",
    "external_result",
    "request_approval",
    "run_agent",
]

T = TypeVar("T")

_calls: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Counter[str]]] = WeakKeyDictionary()
"""How often each name was asked for, by execution of a workflow: each has an event loop of its own."""


class Terms(TypedDict, total=False):
    """Who decides, and until when.

    *requested_by* asks, as a claim: that person may not approve, unless *self_approval*. *approvals* distinct people
    must approve (1 by default); one rejection ends it. *approvers* may decide: names of people, and of groups of the
    plugin (`AssentPlugin(groups=…)`); anybody by default. After *expires_after* it is expired; it waits for ever by
    default. *remind_every* sends notices. *escalate* are pairs of a time and of further people or groups, who may
    decide too once it has waited so long. *proof* is what shows who decided: a `person`'s own key,
    or at least the word of a `service` that signed them in. *reason* is for the approvers. *task_queue* is where the
    run is served; that of the workflow by default.
    """

    requested_by: str
    approvals: int
    approvers: Sequence[str]
    expires_after: timedelta
    remind_every: timedelta
    escalate: Sequence[tuple[timedelta, Sequence[str]]]
    self_approval: bool
    proof: ProofLevel
    reason: str
    task_queue: str


class NotApprovedError(ApplicationError):
    """What a gated call raises that people did not let run: rejected, expired or refused. *decision* has who and why.

    As an `ApplicationError` of type `NotApproved` it fails a workflow that does not catch it.
    """

    def __init__(self, tool: str, decision: Decision) -> None:
        """*tool* is the name of what was asked for."""
        why = decision.error or decision.reason
        message = f"{tool!r} was {decision.status}{f': {why}' if why else ''}"
        super().__init__(message, decision.model_dump(mode="json"), type="NotApproved", non_retryable=True)
        self.decision = decision


async def request_approval(tool: str, arguments: Mapping[str, object], **terms: Unpack[Terms]) -> Decision:
    """Ask people whether something may be done, and wait for their decision; doing it is up to the caller.

    Args:
        tool: what is to be done, in up to 100 letters, digits and `_.:/-`: the inbox knows it by this name.
        arguments: what exactly, as JSON: shown, hashed and bound by the decision.
        terms: who decides, and until when.

    Returns:
        The decision: approved, rejected or expired; with the *arguments* as approved, which a person may have edited.

    Raises:
        ConfigurationError: it is called outside a workflow, or the worker has no `AssentPlugin`.
        MessageError: the name, an argument or a term does not fit.

    In workflow code only.

    Example:
        `decision = await request_approval("deploy", {"target": "prod"}, approvers=["bob"])`
    """
    return await _decision(_call(tool, arguments, "ask", terms), terms)


async def ask_person(question: str, fields: Mapping[str, type[object]], **terms: Unpack[Terms]) -> Decision:
    """Ask people a question, and wait until one of them has filled in the *fields*: names, and the type of each.

    `Decision.values` has what was filled in, which fits the types, as JSON. Otherwise as `request_approval`.

    In workflow code only.

    Example:
        `seat = (await ask_person("Which seat?", {"seat": str})).values`
    """
    inputs = [InputField(name=name, type=_schema(kind)) for name, kind in fields.items()]
    return await _decision(_call("ask_person", {"question": question}, "input", terms, fields=inputs), terms)


async def external_result(
    tool: str, arguments: Mapping[str, object], *, output_type: type[T], **terms: Unpack[Terms]
) -> T:
    """Wait for the result of something that is done elsewhere: a person or a system submits it (`submit_result`).

    *output_type* is what the result must fit. Otherwise as `request_approval`.

    Raises:
        NotApprovedError: it was rejected, or expired.
        ApplicationError: it failed elsewhere: of type `ExternalError`, with what was submitted.
        ConfigurationError, MessageError: as `request_approval`.

    In workflow code only.

    Example:
        `score = await external_result("credit_check", {"customer": "ann"}, output_type=int)`
    """
    output = [InputField(name="output", type=_schema(output_type))]
    decision = await _decision(_call(tool, arguments, "external", terms, fields=output), terms)
    value = _output(tool, decision, "ExternalError")
    try:
        return TypeAdapter(output_type).validate_json(to_json(value))
    except ValidationError as error:  # A validator of the type's own, which no schema says.
        raise ApplicationError(messages.problems(error), type="ExternalError", non_retryable=True) from None


class ActivityTerms(Terms, total=False):
    """Who decides about an activity, and how it then runs.

    *start_to_close_timeout* is how long it may run (10 minutes by default); then a person says whether it happened.
    *heartbeat_timeout* is the longest time between two of its heartbeats; none are expected by default.
    *activity_task_queue* is where it is served; where the run is by default.
    """

    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    activity_task_queue: str


@overload
async def execute_gated_activity(
    activity: Callable[..., Awaitable[T]], args: Sequence[object] = (), **terms: Unpack[ActivityTerms]
) -> T: ...


@overload
async def execute_gated_activity(
    activity: Callable[..., T], args: Sequence[object] = (), **terms: Unpack[ActivityTerms]
) -> T: ...


@overload
async def execute_gated_activity(
    activity: str, args: Sequence[object] = (), **terms: Unpack[ActivityTerms]
) -> object: ...


async def execute_gated_activity(
    activity: str | Callable[..., object], args: Sequence[object] = (), **terms: Unpack[ActivityTerms]
) -> object:
    """Ask people whether an ordinary activity may run, run it at most once with what they approved, return its result.

    People see the arguments by the names of the activity's parameters, and may edit their values. As the activity
    starts, its worker checks again that exactly this was approved. If its worker is lost while it runs, it is not
    started again: a person says whether it happened. An activity that completes asynchronously cannot be gated.

    Args:
        activity: the activity, as for `workflow.execute_activity`; by its name, its result is JSON. Its worker needs
            the plugin, whose `gated_activities` refuses to run it any other way.
        args: its arguments, which must be JSON by the worker's payload converter.
        terms: who decides, until when, and how it then runs.

    Raises:
        NotApprovedError: it was rejected, expired, or refused as it was about to run.
        ApplicationError: it failed: of type `ActivityFailed`, with its error. Or it was executed, and its result does
            not fit the activity's annotation, or has more than 256 KiB: of type `ActivityResult`.
        ConfigurationError, MessageError: as `request_approval`.

    In workflow code only.

    Example:
        `receipt = await execute_gated_activity("wire", ["DE02", 500])`
    """
    name, names, kind = _activity(activity, len(args))
    timeout = terms.get("start_to_close_timeout", timedelta(minutes=10))
    options: dict[str, object] = {"timeout": timeout.total_seconds()}
    options["heartbeat"] = terms.get("heartbeat_timeout", timeout).total_seconds()
    if "activity_task_queue" in terms:
        options["task_queue"] = terms["activity_task_queue"]
    named = dict(zip(names, args, strict=True))
    scheduling = ToolOptions.model_validate(options)
    decision = await _decision(_call(name, named, "ask", terms, activity=True, options=scheduling), terms)
    payload = PLAIN.to_payload(_output(name, decision, "ActivityFailed"))
    try:
        result: object = workflow.payload_converter().from_payloads([payload], None if kind is None else [kind])[0]
    except Exception as error:  # whatever a converter raises: it would fail the workflow task again and again
        message = f"activity {name!r} was executed, and its result cannot be read: {error_text(error, REASON_LIMIT)}"
        raise ApplicationError(message, type="ActivityResult", non_retryable=True) from None
    return result


async def run_agent(
    agent: str,
    input: str | Sequence[Part],
    *,
    requested_by: str | None = None,
    policy: PermissionPolicy | None = None,
    budget: Budget | None = None,
    max_turns: int | None = None,
    max_tool_calls: int | None = None,
    context: Mapping[str, JsonValue] | None = None,
    task_queue: str | None = None,
) -> RunResult:
    """Run an agent on *input* in a child workflow, and return its result; `RunResult.output_as` has it typed.

    The parameters are those of `AgentClient.start`. The bytes of images and files are in the histories of both; all of
    an *input* of parts may be 1.5 MB long as JSON.

    Raises:
        ChildWorkflowError: the run failed, or was cancelled or terminated; its cause says why.
        ConfigurationError: it is called outside a workflow, or the worker has no `AssentPlugin`.
        MessageError: the agent's name or the input does not fit.

    In workflow code only.

    Example:
        `answer = (await run_agent("accounts", "Hello.", task_queue="agents")).content`
    """
    options: dict[str, object] = {"requested_by": requested_by, "policy": policy, "budget": budget}
    options |= {"max_turns": max_turns, "max_tool_calls": max_tool_calls, "context": context}
    set_options = {name: value for name, value in options.items() if value is not None}
    content = content_json(input)
    if (problem := inline_problem(content)) is not None:
        raise MessageError(f"AgentRun: input: {problem}")
    request = RunRequest.model_validate({"agent": agent, "input": content, **set_options})
    return await _run(request, agent, task_queue, attributes=bool(_facts().get("attributes")))


# -- the call ---------------------------------------------------------------------------------------------------------


def _facts() -> Mapping[str, Any]:
    """What the worker of this workflow knows; it influences nothing but what a child workflow is started with."""
    if not workflow.in_workflow():
        raise ConfigurationError("only workflow code can ask people so: elsewhere, start a run with AgentClient")
    facts = cast("Callable[[], Mapping[str, Any]] | None", workflow.extern_functions().get("assent_facts"))
    if facts is None:
        message = "the worker of this workflow has no Assent: give it plugins=[assent.worker.AssentPlugin()]"
        raise ConfigurationError(message)
    return facts()


def _gate(verdict: protocol.Verdict, terms: Terms, more: Mapping[str, object]) -> Gate:
    """What people are asked; only what differs from the defaults is set."""
    fields: dict[str, object] = {"verdict": verdict, "approval_type": "required", **more}
    if "approvals" in terms:
        fields["needed"] = terms["approvals"]
    if "approvers" in terms:
        fields["approvers"] = _people(terms["approvers"])
    if "expires_after" in terms:
        fields["expires_after"] = terms["expires_after"].total_seconds()
    if "remind_every" in terms:
        fields["remind_every"] = terms["remind_every"].total_seconds()
    if "escalate" in terms:
        steps = sorted(terms["escalate"], key=lambda step: step[0])
        fields["escalations"] = [Escalation(after=at.total_seconds(), approvers=_people(names)) for at, names in steps]
    # Who asks may answer a question.
    if terms.get("self_approval", verdict == "input"):
        fields["self_approval"] = True
    if level := stricter_level(terms.get("proof"), cast("ProofLevel | None", _facts().get("proof"))):
        fields["proof"] = level
    if "reason" in terms:
        fields["reason"] = terms["reason"]
    return Gate.model_validate(fields)


def _people(names: Sequence[str]) -> list[str]:
    """The people that these names of people and groups mean, each once."""
    groups: Mapping[str, Sequence[str]] = _facts().get("groups", {})
    return list(dict.fromkeys(person for name in names for person in groups.get(name, [name])))


def _call(
    tool: str,
    arguments: Mapping[str, object],
    verdict: protocol.Verdict,
    terms: Terms,
    *,
    activity: bool = False,
    **more: object,
) -> WorkflowCall:
    facts = _facts()
    fields: dict[str, object] = {"tool": tool, "arguments": _text(arguments), "activity": activity or None}
    known = ("attributes", "notices", "continue_after", "requires_requester")
    fields |= {name: facts.get(name) for name in known}
    set_fields = {name: value for name, value in fields.items() if value}
    try:
        return WorkflowCall.model_validate({**set_fields, "gate": _gate(verdict, terms, more)})
    except ValidationError as error:
        raise MessageError(f"{tool!r} cannot be asked about: {messages.problems(error)}") from None


def _decision(call: WorkflowCall, terms: Terms) -> Awaitable[Decision]:
    """Start asking people; what is returned keeps nothing of the request, as it may wait for a year."""
    fields: dict[str, object] = {"agent": workflow.info().workflow_type[:100], "input": "", "call": call}
    if "requested_by" in terms:
        fields["requested_by"] = terms["requested_by"]
    request = RunRequest.model_validate(fields)
    return _decided(_run(request, call.tool, terms.get("task_queue"), attributes=call.attributes))


async def _decided(run: Awaitable[RunResult]) -> Decision:
    return (await run).output_as(Decision)


def _run(request: RunRequest, name: str, task_queue: str | None, *, attributes: bool) -> Awaitable[RunResult]:
    """Run a child workflow; what is returned waits for its result, and keeps nothing of the request."""
    messages.read_request((request.model_dump(mode="json", exclude_unset=True),))
    info = workflow.info()
    count = _calls.setdefault(asyncio.get_running_loop(), Counter())
    count[name] += 1
    memo = {protocol.MEMO_REQUEST: RawValue(PLAIN.to_payload(visibility.request_memo(request)))}
    # Not a new id after a reset of this execution: the run of before, which may still wait, is then ended.
    start = workflow.start_child_workflow(
        protocol.WORKFLOW,
        RawValue(PLAIN.to_payload(request)),
        id=child_id(info.workflow_id, name, info.original_execution_run_id, count[name]),
        task_queue=task_queue,
        result_type=RawValue,
        id_reuse_policy=WorkflowIDReusePolicy.TERMINATE_IF_RUNNING,
        parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
        cancellation_type=workflow.ChildWorkflowCancellationType.TRY_CANCEL,
        memo=memo,
        search_attributes=publisher.attributes_at_start(request) if attributes else TypedSearchAttributes.empty,
        static_summary=web_ui.request_summary(request),
        static_details=web_ui.request_details(request),
    )
    return _result(start)


async def _result(start: Awaitable[workflow.ChildWorkflowHandle[Any, RawValue]]) -> RunResult:
    raw = await (await start)
    result: RunResult = PLAIN.from_payload(raw.payload, RunResult)
    return result


def _output(tool: str, decision: Decision, failure: str) -> JsonValue:
    if decision.status == "executed" and decision.error is None:
        return decision.output
    if decision.status == "executed":
        message = f"{tool!r} was executed, but {decision.error}"
        raise ApplicationError(message, decision.model_dump(mode="json"), type="ActivityResult", non_retryable=True)
    if decision.status == "failed":
        message = decision.error or f"{tool!r} failed"
        raise ApplicationError(message, decision.model_dump(mode="json"), type=failure, non_retryable=True)
    raise NotApprovedError(tool, decision)


def _text(arguments: Mapping[str, object]) -> str:
    """The arguments as one JSON text, each as the worker's payload converter writes it."""
    payloads = workflow.payload_converter().to_payloads(list(arguments.values()))
    values = {name: _json(name, payload) for name, payload in zip(arguments, payloads, strict=True)}
    return json.dumps(values, ensure_ascii=False)


def _json(name: str, payload: Payload) -> object:
    encoding = payload.metadata.get("encoding", b"")
    if encoding == b"binary/null":
        return None
    if not encoding.startswith(b"json/"):
        message = f"the argument {name!r} is no JSON for the worker's payload converter: it is {encoding.decode()}"
        raise ConfigurationError(message)
    return cast("object", json.loads(payload.data))


def _schema(kind: type[object]) -> dict[str, JsonValue]:
    return cast("dict[str, JsonValue]", TypeAdapter(kind).json_schema())


def _activity(function: str | Callable[..., object], count: int) -> tuple[str, list[str], type[Any] | None]:
    """The type of an activity, the names of *count* arguments of it, and what it returns."""
    if isinstance(function, str):
        return function, [f"argument_{number}" for number in range(1, count + 1)], None
    definition = getattr(function, "__temporal_activity_definition", None)
    name: str | None = getattr(definition, "name", None)
    if name is None:
        message = f"{getattr(function, '__name__', function)!r} is no activity: decorate it with @activity.defn"
        raise ConfigurationError(message)
    parameters = list(inspect.signature(function).parameters)
    if parameters[:1] == ["self"]:
        parameters = parameters[1:]
    if count > len(parameters):
        raise ConfigurationError(f"activity {name!r} takes {len(parameters)} arguments, but gets {count}")
    return name, parameters[:count], getattr(definition, "ret_type", None)
