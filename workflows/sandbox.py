"""The sandbox that runs `AgentRun`, and what it lets through."""

from __future__ import annotations

from typing import Final

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import DataConverter, StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info

# `assent` is pure where the workflow uses it; loading it again for every run would cost a waiting run 1 MB of memory
# instead of 86 KB. So are the modules beside `agent_run`, which itself stays inside the sandbox. pydantic_core
# and annotated_types belong to pydantic, which the SDK lets through without them.
_RESTRICTIONS: Final = SandboxRestrictions.default.with_passthrough_modules(
    "assent",
    "pydantic_core",
    "annotated_types",
    f"{__package__}.activity_options",
    f"{__package__}.child_runs",
    f"{__package__}.clock",
    f"{__package__}.continue_as_new",
    f"{__package__}.descriptions",
    f"{__package__}.notice_queue",
    f"{__package__}.task_size",
    f"{__package__}.publisher",
)


class _ContextFree(WorkflowInstance):
    """A sandboxed run that is not asked for serialization contexts.

    The SDK enters the sandbox several times for every payload to ask for one, and only codecs and external storage
    ever look at the answer. It was a seventh of a worker's processor time (measured: 1.2 of 7.9 ms a turn).
    """

    def __init__(self, inner: WorkflowInstance) -> None:
        """Everything else is *inner*'s."""
        self._inner = inner

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        return self._inner.activate(act)

    def get_serialization_context(self, command_info: object) -> None:
        del command_info

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        del command_info
        return StorageDriverStoreContext(target=None)

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


class _ContextFreeRunner(SandboxedWorkflowRunner):
    """The sandbox, for clients whose data converter has neither a codec nor external storage."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _ContextFree(super().create_instance(det))


RUNNER: Final = SandboxedWorkflowRunner(restrictions=_RESTRICTIONS)


def runner_for(converter: DataConverter) -> WorkflowRunner:
    """The sandbox that fits a client's data converter."""
    if converter.payload_codec is None and converter.external_storage is None:
        return _ContextFreeRunner(restrictions=_RESTRICTIONS)
    return RUNNER
