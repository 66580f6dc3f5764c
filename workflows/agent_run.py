"""`AgentRun`: one durable run of an agent.

It gathers what happens, asks `assent.core.state_machine.decide`, and carries out what that answers. Every rule is
there; here is only what needs Temporal: activities, handlers, and what operators see.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Final, cast

from pydantic import JsonValue
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

from assent.core import events, message_handling, sub_agents
from assent.core.compaction_steps import read_summary
from assent.core.continue_as_new import carry, shortened_for_query
from assent.core.measurements import measurements
from assent.core.run_state import Run, Step, state_of
from assent.core.state_machine import decide
from assent.core.tool_calls import gated_calls, read_check, read_outcome, read_turn
from assent.core.tool_results import asks_outcome
from assent.core.workflow_calls import CALL_ID, has_call
from assent.runtime import metrics, tracing
from assent.runtime.converter import decoded
from assent.wire import messages, protocol
from assent.wire.errors import MessageError
from assent.wire.protocol import DecisionResult, Execution, RunResult

from . import activity_options, child_runs, continue_as_new, descriptions, notice_queue, publisher, task_size
from .clock import now

_NOTICE_GRACE = timedelta(seconds=10)
"""How long the end of a run waits for notices under way, which would be dropped with it."""
_TIMER = "waiting for a deadline, a reminder, an escalation or a retry"
_BEFORE_CONTINUING = "before the run continues in a new execution"
_NOTICE_MOMENT = timedelta(seconds=1)
"""How long active notices may take before the run continues as new and sends them again."""
_SOONEST = timedelta(milliseconds=1)
LIVE_CALL: Final = "assent_live_call"
"""The extern function that notes a call for the activities of this process, which then need not read the history."""

_Note = Callable[[str, events.RunTool, datetime], contextlib.AbstractContextManager[None]]


@workflow.defn(name=protocol.WORKFLOW, sandboxed=False)
class AgentRun:
    """One run of an agent. Handlers take any input at all: what cannot be read is kept, shown, and changes nothing.

    It runs without the SDK's sandbox, which would check nothing, because all of Assent passes through it, and take a
    sixth of the time of each workflow task.
    """

    @workflow.init
    def __init__(self, *arguments: object) -> None:
        """Begin with a run that has not started; messages may arrive before it has.

        A continued run is restored here, because the first messages may arrive before `run`.
        """
        self._run = Run()
        self._trace = tracing.RunTrace(switched_on=tracing.SWITCH in workflow.extern_functions())
        self._record = workflow.extern_functions().get(metrics.SWITCH)
        self._ending: events.Complete | events.Fail | events.Cancel | None = None
        self._fault: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox = notice_queue.NoticeQueue(self._keep_fault)
        self._pace = task_size.TaskSizeLimiter(self._spawn, lambda: self._apply(events.TimeReached(now())))
        self._timer: asyncio.Task[None] | None = None
        self._answers: dict[int, DecisionResult] = {}
        self._publisher = publisher.Publisher()
        self._continuing = continue_as_new.ContinueAsNew()
        if continue_as_new.is_continued():
            self._start(arguments, continued=True)
            self._publisher.resume(self._run)

    @workflow.run
    async def run(self, *arguments: object) -> RunResult:
        """Run the agent to its end. The input is one `RunRequest`; anything else fails the run with one line."""
        if not continue_as_new.is_continued():
            with self._trace.starting(lambda: self._run):
                self._start(arguments)
        self._trace.resume()
        try:
            await self._run_until_ending()
        except asyncio.CancelledError:
            self._apply(events.CancelRequested(now()))
            self._publisher.publish(self._run)
        with contextlib.suppress(asyncio.CancelledError):
            # Who cancels a run that has ended changes nothing but how long it waits for its notices.
            await self._drain()
        return self._end()

    def _start(self, arguments: Sequence[object], *, continued: bool = False) -> None:
        info, decoded_arguments = workflow.info(), decoded(arguments)
        started = events.Started(
            at=now(),
            run_id=info.workflow_id,
            execution_id=info.run_id,
            first_execution_id=info.first_execution_run_id,
            arguments=decoded_arguments,
            namespace=info.namespace,
            continued=continued,
            parent=Execution(run_id=up.workflow_id, execution_id=up.run_id) if (up := info.parent) else None,
            nonces={CALL_ID: workflow.uuid4().hex} if has_call(decoded_arguments) else {},
        )
        self._apply(started)
        # The SDK keeps the input for as long as it keeps the execution. The run has all of it.
        for argument in decoded_arguments:
            if isinstance(argument, dict):
                cast("dict[str, object]", argument).clear()

    async def _run_until_ending(self) -> None:
        while self._ending is None:
            await workflow.wait_condition(self._has_changes)
            if self._fault is not None:
                raise self._fault
            if self._publisher.publish(self._run):
                self._continuing.check_history_length(self._run)
            if self._continuing.is_settled:
                self._continue_as_new()
            elif self._continuing.is_ready(self._run):
                self._continuing.settling = True
                self._spawn(self._settle())

    async def _settle(self) -> None:
        """Wait for a moment without changes before the run continues as new."""
        # The SDK may hand a task's signals to this code before its cancellation, which would be lost with the task.
        # Notices that take no more than that moment are not sent twice.
        if self._outbox.is_empty:
            await workflow.sleep(_SOONEST, summary=_BEFORE_CONTINUING)
            self._apply(events.TimeReached(now()))
        else:
            try:
                await workflow.wait_condition(lambda: self._outbox.is_empty, timeout=_NOTICE_MOMENT)
            except TimeoutError:
                self._apply(events.TimeReached(now()))
        self._continuing.settle(self._run)

    def _continue_as_new(self) -> None:
        carried = carry(self._run, self._outbox.unsent)
        if self._continuing.can_carry(carried):
            continue_as_new.continue_as_new(carried)
        self._publisher.note = self._continuing.obstacle
        self._publisher.show(self._run)
        held, self._continuing.held = self._continuing.held, None
        if held is not None:
            self._spawn(self._call_model(held))

    async def _drain(self) -> None:
        """Let handlers answer and notices go out before the run closes, which drops what is under way."""
        if not self._is_drained():
            for task in self._tasks:
                task.cancel()
            with contextlib.suppress(asyncio.TimeoutError):
                await workflow.wait_condition(self._is_drained, timeout=_NOTICE_GRACE)

    def _is_drained(self) -> bool:
        return self._outbox.is_empty and workflow.all_handlers_finished()

    def _has_changes(self) -> bool:
        if self._ending is not None or self._fault is not None or self._publisher.differs(self._run):
            return True
        return self._continuing.is_settled or self._continuing.is_ready(self._run)

    def _end(self) -> RunResult:
        for task in self._tasks:
            task.cancel()
        match self._ending:
            case events.Complete(result):
                return result
            case events.Fail(failure):
                details = sub_agents.failure_details(self._run)
                raise ApplicationError(failure.message, *details, type=failure.kind, non_retryable=True)
            case _:
                raise asyncio.CancelledError

    # -- the core, and what it asks for -------------------------------------------------------------------------------

    def _apply(self, event: events.Event) -> Step:
        self._continuing.observe(event)
        step = decide(self._run, event)
        self._trace.record(event, self._run, step.run)
        # An eviction counts as a replay, too.
        if self._record is not None and not workflow.unsafe.is_replaying():
            self._record(measurements(self._run, event, step))
        self._run = step.run
        if isinstance(event, events.CheckAnswered) and step.result is not None:
            self._answers[event.number] = step.result
        with self._trace.applied():
            for command in step.commands:
                self._carry_out(command)
        return step

    def _carry_out(self, command: events.Command) -> None:
        match command:
            case events.CallModel():
                self._publisher.show(self._run)
                if not self._continuing.hold_back(command, self._run):
                    self._spawn(self._call_model(command))
            case events.Summarise():
                self._spawn(self._summarise(command))
            case events.RunTool():
                self._spawn(self._run_tool(command))
            case events.StartAgent():
                self._spawn(self._run_agent(command))
            case events.AskBudget(call_id):
                self._apply(events.BudgetReached(now(), {call_id: workflow.uuid4().hex}))
            case events.CheckCall():
                self._continuing.check_history_length(self._run)
                self._spawn(self._check_call(command))
            case events.SendNotices():
                self._outbox.send(command.input)
            case events.WakeAt(at):
                self._set_timer(at)
            case _:
                self._ending = command

    def _set_timer(self, at: datetime | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if at is not None:
            # Never zero: that would be no timer, and what the run was told would not be in its history.
            self._timer = asyncio.create_task(self._run_timer(max(at - now(), _SOONEST)))
            self._timer.add_done_callback(self._keep_fault)

    async def _run_timer(self, wait: timedelta) -> None:
        self._continuing.check_history_length(self._run)
        await workflow.sleep(wait, summary=_TIMER)
        self._timer = None
        self._apply(events.TimeReached(now()))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._keep_fault)

    def _keep_fault(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault in workflow code: raised from the main coroutine, so that the workflow task fails where it shows.
            self._fault = error

    async def _call_model(self, command: events.CallModel) -> None:
        try:
            result = await self._pace.execute(protocol.CALL_MODEL, command.input, activity_options.for_model(command))
        except ActivityError as error:
            self._apply_failure(error, lambda failure: events.ModelFailed(now(), failure))
            return
        turn = read_turn(*decoded([result]))
        if isinstance(turn, events.Failure):
            self._apply(events.ModelFailed(now(), turn))
        else:
            nonces = {gated.call_id: workflow.uuid4().hex for gated in gated_calls(turn)}
            self._apply(events.ModelAnswered(now(), turn, nonces))

    async def _summarise(self, command: events.Summarise) -> None:
        try:
            result = await self._pace.execute(protocol.SUMMARISE, command.input, activity_options.for_summary(command))
        except ActivityError as error:
            self._apply_failure(error, lambda failure: events.Summarised(now(), failure))
        else:
            self._apply(events.Summarised(now(), read_summary(*decoded([result]))))

    async def _run_tool(self, command: events.RunTool) -> None:
        try:
            with self._live(command):
                result = await self._pace.execute(
                    command.tool, command.input, activity_options.for_tool(command), command.values
                )
        except ActivityError as error:
            nonces = self._nonce(command) if asks_outcome(self._run, command.position) else {}
            self._apply_failure(error, lambda failure: events.ToolLost(now(), command.position, failure, nonces))
        else:
            outcome = read_outcome(*decoded([result]))
            nonces = self._nonce(command) if outcome.gate is not None else {}
            self._apply(events.ToolAnswered(now(), command.position, outcome, nonces))

    def _live(self, command: events.RunTool) -> contextlib.AbstractContextManager[None]:
        note = cast("_Note | None", workflow.extern_functions().get(LIVE_CALL))
        if note is None or command.input.authorization is None or workflow.unsafe.is_replaying():
            return contextlib.nullcontext()
        return note(workflow.info().run_id, command, workflow.info().workflow_start_time)

    async def _run_agent(self, command: events.StartAgent) -> None:
        """Have another agent answer a call, in a run of its own."""
        request = command.request
        await self._pace.admit(request)
        run_id = sub_agents.child_run_id(self._run, request.agent, workflow.uuid4().hex)
        self._apply(events.AgentStarted(now(), request.parents[-1].call_id, run_id))
        answer, usage = await child_runs.answer(command, run_id)
        self._apply(events.AgentAnswered(now(), run_id, answer, usage))

    def _nonce(self, command: events.RunTool) -> dict[str, str]:
        return {command.input.call_id: workflow.uuid4().hex}

    async def _check_call(self, command: events.CheckCall) -> None:
        try:
            result = await self._pace.execute(protocol.CHECK_CALL, command.input, activity_options.for_check(command))
        except ActivityError as error:
            self._apply_failure(error, lambda failure: events.CheckAnswered(now(), command.number, failure))
        else:
            self._apply(events.CheckAnswered(now(), command.number, read_check(*decoded([result]))))

    def _apply_failure(self, error: ActivityError, event: Callable[[events.Failure], events.Event]) -> None:
        # One that the end of the run cancelled is told too, and changes nothing: the run has ended.
        self._apply(event(activity_options.failure_of(error)))

    # -- what arrives -------------------------------------------------------------------------------------------------

    def _receive(self, name: str, arguments: Sequence[object], channel: events.Channel = "signal") -> Step:
        return self._apply(events.MessageReceived(now(), name, decoded(arguments), channel))

    async def _handle_update(self, name: str, arguments: Sequence[object]) -> dict[str, JsonValue]:
        self._pace.count(decoded(arguments))
        step = self._receive(name, arguments, "update")
        result = step.result
        if step.check is not None:
            number = step.check
            await workflow.wait_condition(lambda: number in self._answers or self._run.ended)
            result = self._answers.get(
                number, DecisionResult(status="late", detail="the run ended before it was checked")
            )
        return (result or DecisionResult(status="unknown")).model_dump(mode="json")

    @workflow.signal(name=protocol.APPROVE, description=descriptions.APPROVE)
    def approve(self, *arguments: object) -> None:
        """The signal `approve`."""
        self._receive(protocol.APPROVE, arguments)

    @workflow.signal(name=protocol.REJECT, description=descriptions.REJECT)
    def reject(self, *arguments: object) -> None:
        """The signal `reject`."""
        self._receive(protocol.REJECT, arguments)

    @workflow.signal(name=protocol.SUBMIT_RESULT, description=descriptions.RESULT)
    def submit_result(self, *arguments: object) -> None:
        """The signal `submit_result`."""
        self._receive(protocol.SUBMIT_RESULT, arguments)

    @workflow.signal(name=protocol.SUBMIT_INPUT, description=descriptions.INPUT)
    def submit_input(self, *arguments: object) -> None:
        """The signal `submit_input`."""
        self._receive(protocol.SUBMIT_INPUT, arguments)

    @workflow.signal(name=protocol.SEND_MESSAGE, description=descriptions.MESSAGE)
    def send_message(self, *arguments: object) -> None:
        """The signal `send_message`."""
        self._receive(protocol.SEND_MESSAGE, arguments)

    @workflow.signal(name=protocol.REVOKE, description=descriptions.REVOKE)
    def revoke(self, *arguments: object) -> None:
        """The signal `revoke`."""
        self._receive(protocol.REVOKE, arguments)

    @workflow.signal(name=protocol.CLOSE, description=descriptions.CLOSE)
    def close(self, *arguments: object) -> None:
        """The signal `close`."""
        self._receive(protocol.CLOSE, arguments)

    @workflow.signal(dynamic=True, description=descriptions.OTHER)
    def unknown_signal(self, name: str, arguments: Sequence[RawValue]) -> None:
        """Signals of any other name."""
        self._receive(name, arguments)

    @workflow.update(name=protocol.DECIDE, description=descriptions.DECIDE)
    async def decide(self, *arguments: object) -> dict[str, JsonValue]:
        """The update `decide`."""
        return await self._handle_update(protocol.DECIDE, arguments)

    @decide.validator
    def _check_decide(self, *arguments: object) -> None:
        self._validate(protocol.DECIDE, arguments)

    @workflow.update(name=protocol.DELIVER, description=descriptions.DELIVER)
    async def deliver(self, *arguments: object) -> dict[str, JsonValue]:
        """The update `deliver`."""
        return await self._handle_update(protocol.DELIVER, arguments)

    @deliver.validator
    def _check_deliver(self, *arguments: object) -> None:
        self._validate(protocol.DELIVER, arguments)

    def _validate(self, name: str, arguments: Sequence[object]) -> None:
        """Refuse only what cannot be read or names nothing: a refused update leaves no trace for an auditor."""
        try:
            message = messages.read(name, decoded(arguments))
        except MessageError as error:
            raise ApplicationError(str(error), type="MessageError", non_retryable=True) from None
        unknown = message_handling.unknown_target(self._run, message, now())
        if unknown is not None:
            raise ApplicationError(unknown, type="RequirementNotFoundError", non_retryable=True)

    @workflow.query(name=protocol.STATE, description=descriptions.STATE)
    def state(self) -> dict[str, JsonValue]:
        """The query `state`: a `RunState` as JSON, every field present."""
        return state_of(shortened_for_query(self._run)).model_dump(mode="json")
