"""Runs `AgentRun` in the sandbox and with the payload converter of Assent, and other workflows as their owner says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import DataConverter, StorageDriverStoreContext
from temporalio.worker import (
    Interceptor,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowInterceptorClassInput,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info

from assent.runtime.converter import LenientConverter

from .agent_run import AgentRun

# `assent` is pure where workflows use it; loading it again for every run would cost a waiting run 1 MB of memory
# instead of 86 KB. pydantic_core and annotated_types belong to pydantic, which the SDK lets through without them.
# A copy of opentelemetry in the sandbox would not have the tracer provider of the process.
_PASSED: Final = ("assent", "pydantic_core", "annotated_types", "opentelemetry")


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


_OWN: Final = SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*_PASSED))


class ExternFunctions(Interceptor):
    """Gives *functions* to the code of all workflows of a worker or replayer, in the sandbox or outside of it."""

    def __init__(self, functions: Mapping[str, Callable[..., object]]) -> None:
        """Workflow code finds them by `workflow.extern_functions()`."""
        self._functions = functions

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> None:
        """Add them; no class stands before the code itself."""
        input.unsafe_extern_functions.update(self._functions)


class _Runner(WorkflowRunner):
    """Gives `AgentRun` to the sandbox of Assent, and other workflows to *theirs*.

    *context_free*: the data converter has neither a codec nor external storage, so no serialization context is ever
    looked at.
    """

    def __init__(self, theirs: WorkflowRunner, *, context_free: bool) -> None:
        """*theirs* is left as it is."""
        self._theirs = theirs
        self._context_free = context_free

    def prepare_workflow(self, defn: object) -> None:
        runner = _OWN if getattr(defn, "cls", None) is AgentRun else self._theirs
        runner.prepare_workflow(defn)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        if det.defn.cls is AgentRun:
            return _own_instance(det, context_free=self._context_free)
        return self._theirs.create_instance(det)

    def set_worker_level_failure_exception_types(self, types: Sequence[type[BaseException]]) -> None:
        self._theirs.set_worker_level_failure_exception_types(types)


@dataclass(frozen=True)
class _Sandbox(SandboxedWorkflowRunner):
    """As `_Runner`, and still a sandbox: a plugin that comes later adds to its restrictions what it needs."""

    context_free: bool = False

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        if det.defn.cls is AgentRun:
            return _own_instance(det, context_free=self.context_free)
        return super().create_instance(det)


def _own_instance(det: WorkflowInstanceDetails, *, context_free: bool) -> WorkflowInstance:
    # What makes other workflows fail may be of modules that this sandbox does not let through; `AgentRun` needs none.
    own = dataclasses.replace(det, payload_converter_factory=LenientConverter, worker_level_failure_exception_types=())
    instance = _OWN.create_instance(own)
    return _ContextFree(instance) if context_free else instance


def runner_for(converter: DataConverter, theirs: WorkflowRunner | None = None) -> WorkflowRunner:
    """The runner of a worker or replayer with this *converter*; it runs workflows other than `AgentRun` as *theirs*."""
    context_free = converter.payload_codec is None and converter.external_storage is None
    theirs = theirs or SandboxedWorkflowRunner()
    if type(theirs) is not SandboxedWorkflowRunner:
        return _Runner(theirs, context_free=context_free)
    restrictions = theirs.restrictions.with_passthrough_modules(*_PASSED)
    return _Sandbox(restrictions, theirs.runner_class, context_free=context_free)
