"""Runs `AgentRun` with the payload converter of Assent, and other workflows as their owner says."""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Final

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import (
    Interceptor,
    ReplayerConfig,
    UnsandboxedWorkflowRunner,
    WorkerConfig,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowInterceptorClassInput,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from assent.runtime.converter import LenientConverter

from .agent_run import AgentRun

# `assent` is pure where workflows use it; loading it again for each workflow would cost a megabyte.
# pydantic_core and annotated_types belong to pydantic, which the SDK lets through without them.
# A copy of opentelemetry in the sandbox would not have the tracer provider of the process.
_PASSED: Final = ("assent", "pydantic_core", "annotated_types", "opentelemetry")
_Activate = Callable[[WorkflowActivation], WorkflowActivationCompletion]


class ExternFunctions(Interceptor):
    """Gives *functions* to the code of all workflows of a worker or replayer, in the sandbox or outside of it."""

    def __init__(self, functions: Mapping[str, Callable[..., object]]) -> None:
        """Workflow code finds them by `workflow.extern_functions()`."""
        self._functions = functions

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> None:
        """Add them; no class stands before the code itself."""
        input.unsafe_extern_functions.update(self._functions)


class _Runner(UnsandboxedWorkflowRunner):
    """Gives `AgentRun` the payload converter of Assent, and other workflows without a sandbox to *theirs*."""

    def __init__(self, theirs: WorkflowRunner) -> None:
        """*theirs* is left as it is."""
        self._theirs = theirs

    def prepare_workflow(self, defn: object) -> None:
        self._theirs.prepare_workflow(defn)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        if det.defn.cls is not AgentRun:
            return self._theirs.create_instance(det)
        # What makes other workflows fail is nothing that `AgentRun` raises.
        own = dataclasses.replace(
            det, payload_converter_factory=LenientConverter, worker_level_failure_exception_types=()
        )
        instance = super().create_instance(own)
        instance.activate = _one_at_a_time(instance.activate)  # type: ignore[method-assign, assignment]
        return instance


def _one_at_a_time(activate: _Activate) -> _Activate:
    """Let an activation wait for the one before it.

    On a machine so busy that a workflow task takes two seconds, the SDK gives the task up and evicts the run, while the
    thread of the task still runs (the SDK cancels the future of the task and does not wait). Both change the run, and
    after that its eviction never succeeds: the run stands still until the worker is restarted.
    """
    lock = threading.Lock()

    def locked(act: WorkflowActivation) -> WorkflowActivationCompletion:
        with lock:
            return activate(act)

    return locked


def configure_runners(config: WorkerConfig | ReplayerConfig) -> None:
    """Have a worker or replayer run `AgentRun`, and let `assent` through the sandbox of other workflows."""
    sandbox = config.get("workflow_runner") or SandboxedWorkflowRunner()
    if type(sandbox) is SandboxedWorkflowRunner:
        passing = sandbox.restrictions.with_passthrough_modules(*_PASSED)
        config["workflow_runner"] = dataclasses.replace(sandbox, restrictions=passing)
    config["unsandboxed_workflow_runner"] = _Runner(
        config.get("unsandboxed_workflow_runner") or UnsandboxedWorkflowRunner()
    )
