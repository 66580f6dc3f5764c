"""The Nexus service `assent`: other namespaces and teams run agents through it, without access to this namespace."""

from typing import Any

from nexusrpc import Operation, OperationError, OperationErrorState, service
from nexusrpc.handler import service_handler
from temporalio import nexus
from temporalio.common import RawValue

from assent.runtime.connection import with_own_converter
from assent.wire import protocol, visibility
from assent.wire.errors import MessageError
from assent.wire.messages import read_request


@service(name="assent")
class AssentService:
    """*run_agent* takes a `RunRequest` as JSON, and gives the run's `RunResult` as JSON once it has ended."""

    run_agent: Operation[dict[str, Any], dict[str, Any]]


@service_handler(service=AssentService)
class AssentServiceHandler:
    """Serves `AssentService` on a worker's task queue."""

    @nexus.workflow_run_operation
    async def run_agent(
        self, context: nexus.WorkflowRunOperationContext, request: dict[str, Any]
    ) -> nexus.WorkflowHandle[dict[str, Any]]:
        """Start the run. The same operation sent twice is one run.

        Raises:
            OperationError: the request does not fit, or asks people about a call; final.
        """
        try:
            read = read_request((request,))
        except MessageError as error:
            raise OperationError(str(error), state=OperationErrorState.FAILED) from None
        if read.call is not None or read.parents:
            message = "run_agent runs an agent: leave out call and parents"
            raise OperationError(message, state=OperationErrorState.FAILED)
        client = with_own_converter(nexus.client())
        [payload] = client.data_converter.payload_converter.to_payloads([read])
        return await context.start_workflow(
            protocol.WORKFLOW,
            RawValue(payload),
            id=f"{read.agent}-{context.request_id}",
            memo={protocol.MEMO_REQUEST: visibility.request_memo(read)},
        )
