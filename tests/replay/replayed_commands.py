"""The commands that the code of today gives over a whole history, beside those that the history has.

A replay alone does not see what is added at the end of a history that has not ended: nothing comes after that it could
be compared with. A run that waits would do it at its next step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import WorkflowHistory
from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import Replayer, ReplayerConfig, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.workflow import Info

from assent.runtime.converter import data_converter
from assent.workflows.agent_run import AgentRun
from assent.workflows.sandbox import configure_runners

EVENTS: Final = {
    "schedule_activity": EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    "request_cancel_activity": EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
    "start_timer": EventType.EVENT_TYPE_TIMER_STARTED,
    "cancel_timer": EventType.EVENT_TYPE_TIMER_CANCELED,
    "upsert_workflow_search_attributes": EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
    "modify_workflow_properties": EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
    "complete_workflow_execution": EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    "fail_workflow_execution": EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    "cancel_workflow_execution": EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    "continue_as_new_workflow_execution": EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
}
"""What each kind of command writes into the history. Answers to updates and queries are not among them."""


class _Noted(WorkflowInstance):
    """A workflow whose commands are written down."""

    def __init__(self, inner: WorkflowInstance, found: list[str]) -> None:
        self._inner = inner
        self._found = found

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._inner.activate(act)
        self._found += [str(command.WhichOneof("variant")) for command in completion.successful.commands]
        return completion

    def get_serialization_context(self, command_info: object) -> None:
        del command_info

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        del command_info
        return StorageDriverStoreContext(target=None)

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


class _Noting(WorkflowRunner):
    """The runner of a worker, which writes down what comes out of it."""

    def __init__(self, inner: WorkflowRunner) -> None:
        self.found: list[str] = []
        self._inner = inner

    def prepare_workflow(self, defn: object) -> None:
        self._inner.prepare_workflow(defn)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _Noted(self._inner.create_instance(det), self.found)


async def given(history: WorkflowHistory) -> list[str]:
    """The events that the code of today would write, by its commands, in order."""
    config = ReplayerConfig(workflows=[AgentRun], data_converter=data_converter)
    configure_runners(config)
    assert "unsandboxed_workflow_runner" in config
    runner = config["unsandboxed_workflow_runner"] = _Noting(config["unsandboxed_workflow_runner"])
    await Replayer(**config).replay_workflow(history)
    return [EventType.Name(EVENTS[kind]) for kind in runner.found if kind in EVENTS]


def written(events: Sequence[HistoryEvent]) -> list[str]:
    """The events of a history that commands have written, in order."""
    return [EventType.Name(each.event_type) for each in events if each.event_type in EVENTS.values()]
