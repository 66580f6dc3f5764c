"""`AgentClient`: start runs, find what waits across them, decide, and read the records.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Final, Literal

from temporalio.client import Client
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from assent import connection, inbox, protocol
from assent.errors import (
    DecisionError,
    HistoryError,
    MessageError,
    RequirementNotFoundError,
    RunNotFoundError,
    ServerUnreachableError,
)
from assent.handle import RunHandle
from assent.layout import wrapped
from assent.messages import read_request
from assent.policy import PermissionPolicy
from assent.protocol import ApprovalType, DecisionResult, RunRequest, request_memo
from assent.records import Approval, PendingRun, is_recorded
from assent.render import bounded, code, fenced
from assent.requirements import RequirementStatus, RunState

_log = logging.getLogger(__name__)
SIDE_BY_SIDE: Final = 8
"""Histories that are read at the same time."""
LOOKS: Final = 10
LOOK_AGAIN: Final = 0.2
"""Seconds between looks for a run that waits for an approval."""


class AgentClient:
    """Everything a service, an operator or an auditor does with runs. Stateless: ids are all one has to keep.

    Example:
        `client = await AgentClient.connect()`, or `AgentClient(a_temporal_client)` for a client of your own, which
        must have been made with `data_converter=assent.data_converter`.
    """

    def __init__(self, client: Client, *, task_queue: str = protocol.TASK_QUEUE) -> None:
        """*task_queue* is where runs are started."""
        self.temporal = client
        self.task_queue = task_queue
        self._attributes = False

    @classmethod
    async def connect(
        cls,
        address: str | None = None,
        *,
        namespace: str | None = None,
        profile: str | None = None,
        task_queue: str = protocol.TASK_QUEUE,
    ) -> AgentClient:
        """A client from the arguments, else `TEMPORAL_*`, else the profile file of the `temporal` CLI.

        Raises:
            ConfigurationError: the environment or the profile file cannot be read.
            ServerUnreachableError: nothing answers at the address.
        """
        client = await connection.connect(address, namespace=namespace, profile=profile)
        return cls(client, task_queue=task_queue)

    # -- runs ---------------------------------------------------------------------------------------------------------

    async def start(
        self,
        agent: str,
        input: str,
        *,
        requested_by: str | None = None,
        id: str | None = None,
        max_turns: int | None = None,
        max_tool_calls: int | None = None,
        policy: PermissionPolicy | None = None,
    ) -> RunHandle:
        """Start a run. With an *id* that a run has already, this is that run: starting is idempotent.

        *max_turns*, *max_tool_calls* and *policy* can only tighten what the agent has of its own.

        Raises:
            MessageError: *agent* or *input* is empty, or too long, or another kind of workflow has the *id*.
            ServerUnreachableError: the server does not answer.
        """
        asked: dict[str, object] = {"requested_by": requested_by, "max_turns": max_turns, "policy": policy}
        asked["max_tool_calls"] = max_tool_calls
        given = {name: value for name, value in asked.items() if value is not None}
        request = read_request(({"agent": agent, "input": input, **given},))
        run_id = id or f"{agent}-{uuid.uuid4().hex[:12]}"
        try:
            await self._start(request, run_id)
        except WorkflowAlreadyStartedError:
            await self._check_own(run_id)
        except RPCError as error:
            raise _not_answered(error) from error
        return RunHandle(self.temporal, run_id)

    def run(self, run_id: str) -> RunHandle:
        """The run of this id; whether there is one shows at the first call."""
        return RunHandle(self.temporal, run_id)

    async def resume(self, state: RunState, *, approved: bool, by: str, reason: str | None = None) -> RunHandle:
        """Decide everything that *state*, the durable JSON of a paused run, shows as waiting for a confirmation.

        *reason* is what the model is told of a rejection; it is required with `approved=False` only where you want
        other words than "not approved".

        Raises:
            DecisionError: something of it could not be decided so: it had been decided otherwise, or waits for a
                result instead. What could be decided was.
            NoWorkerError, RunNotFoundError: as `RunHandle.approve`.
        """
        run = self.run(state.id)
        results: list[DecisionResult] = []
        for requirement in state.active_requirements:
            try:
                if approved:
                    results.append(await run.approve(requirement, by=by, reason=reason))
                else:
                    results.append(await run.reject(requirement, by=by, reason=reason or "not approved"))
            except RequirementNotFoundError as error:
                results.append(DecisionResult(status="unknown", tool=requirement.tool, detail=str(error)))
        wrong = [result for result in results if result.status not in {"approved", "rejected", "recorded", "duplicate"}]
        if wrong:
            told = "; ".join(f"{result.tool}: {result.status}: {result.detail}" for result in wrong)
            message = f"run {state.id!r} was not resumed as asked: {told}"
            raise DecisionError(message)
        return run

    # -- the inbox ----------------------------------------------------------------------------------------------------

    async def pending(self, *, agent: str | None = None, tool: str | None = None) -> list[PendingRun]:
        """The runs that wait, oldest first, with what waits in each. One visibility query; needs no worker.

        Raises:
            ServerUnreachableError: the server does not answer.
        """
        try:
            registered = await self._registered()
            found = [run async for run in inbox.pending(self.temporal, agent, tool, registered=registered)]
        except RPCError as error:
            raise _not_answered(error) from error
        return sorted(found, key=lambda run: min(each.created_at for each in run.requirements))

    async def get_approvals(
        self,
        *,
        status: RequirementStatus | None = None,
        approval_type: ApprovalType | None = None,
        agent: str | None = None,
        tool: str | None = None,
        run_id: str | None = None,
        limit: int = 100,
    ) -> tuple[list[Approval], int]:
        """Approvals, and how many there are in all, newest first.

        Pending ones come from visibility, decided ones from history; neither needs a worker. One of type `audit`
        appears only once it is decided.

        Raises:
            ServerUnreachableError: the server does not answer.
        """
        records = await self._records(status, agent, tool, run_id)
        wanted = [
            record
            for record in records
            if is_recorded(record)
            and (status is None or record.status == status)
            and (approval_type is None or record.approval_type == approval_type)
            and (tool is None or record.tool_name == tool)
            and (agent is None or record.agent == agent)
        ]
        wanted.sort(key=lambda record: record.created_at, reverse=True)
        return wanted[:limit], len(wanted)

    async def get_pending_approval_count(self) -> int:
        """How many approvals are pending, over all runs."""
        _, total = await self.get_approvals(status="pending", limit=0)
        return total

    async def resolve_approval(
        self,
        approval_id: str,
        *,
        status: Literal["approved", "rejected"],
        resolved_by: str,
        reason: str | None = None,
        expected_status: Literal["pending"] = "pending",
        run_id: str | None = None,
    ) -> Approval | None:
        """Decide an approval wherever its run is. The loser of a race gets None, and is recorded in the run.

        *expected_status* says that only a pending approval may be resolved; there is no other way. *run_id* spares
        the search for the run.

        Raises:
            MessageError: *status* or *expected_status* is another word, or the id matches in several runs.
            DecisionError: the decision was refused: *resolved_by* may not decide it, or it waits for a result.
            NoWorkerError: no worker answered; it may count once one runs.
        """
        if status not in {"approved", "rejected"} or expected_status != "pending":
            message = f"an approval that is pending becomes 'approved' or 'rejected', not {status!r}"
            raise MessageError(message)
        wanted = approval_id.strip().lower()
        run = self.run(run_id) if run_id is not None else await self._run_of(wanted)
        if run is None:
            return None
        if status == "approved":
            result = await run.approve(wanted, by=resolved_by, reason=reason)
        else:
            result = await run.reject(wanted, by=resolved_by, reason=reason or "not approved")
        if result.status == "refused":
            raise DecisionError(result.detail)
        if result.status not in {"approved", "rejected", "recorded"}:
            return None
        return next(record for record in await run.audit() if record.id == result.requirement_id)

    async def audit(self, run_id: str) -> list[Approval]:
        """The record of each requirement of a run, from its history.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        return await self.run(run_id).audit()

    async def setup(self) -> list[str]:
        """Register the search attributes that are missing; answers which those were.

        Raises:
            ConfigurationError: the server does not let this client, or one has another type.
        """
        added = await connection.register_attributes(self.temporal)
        self._attributes = True
        return added

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _start(self, request: RunRequest, run_id: str) -> None:
        attributes = TypedSearchAttributes.empty
        if await self._registered():
            attributes = _attributes(request)
        await self.temporal.start_workflow(
            protocol.WORKFLOW,
            request,
            id=run_id,
            task_queue=self.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            memo={protocol.MEMO_REQUEST: request_memo(request)},
            search_attributes=attributes,
            static_summary=f"{code(request.agent)}: {code(bounded(request.input, 200))}",
            static_details=_details(request),
        )

    async def _check_own(self, run_id: str) -> None:
        description = await self.run(run_id).description()
        if description.workflow_type != protocol.WORKFLOW:
            message = f"the id {run_id!r} is taken by a workflow of type {description.workflow_type!r}; choose another"
            raise MessageError(message)

    async def _registered(self) -> bool:
        # They do not go away again, but a worker may register them at any time.
        if not self._attributes:
            try:
                self._attributes = not await connection.missing_attributes(self.temporal)
            except (RPCError, ValueError):
                return False
        return self._attributes

    async def _records(
        self, status: RequirementStatus | None, agent: str | None, tool: str | None, run_id: str | None
    ) -> list[Approval]:
        if run_id is not None:
            return await self.audit(run_id)
        if status == "pending":
            return [record for run in await self.pending(agent=agent, tool=tool) for record in run.approvals()]
        try:
            ids = await inbox.decided(self.temporal, agent, registered=await self._registered())
        except RPCError as error:
            raise _not_answered(error) from error
        gate = asyncio.Semaphore(SIDE_BY_SIDE)

        async def read(each: str) -> list[Approval]:
            async with gate:
                try:
                    return await self.audit(each)
                except (HistoryError, RunNotFoundError) as error:
                    _log.warning("run %r is left out: %s", each, error)
                    return []

        return [record for records in await asyncio.gather(*map(read, ids)) for record in records]

    async def _run_of(self, approval_id: str) -> RunHandle | None:
        # Visibility follows the runs by some milliseconds, on a busy server by more.
        for _ in range(LOOKS):
            found = await self._holder(approval_id)
            if found is not None:
                return found
            await asyncio.sleep(LOOK_AGAIN)
        return None

    async def _holder(self, approval_id: str) -> RunHandle | None:
        matches = {
            run.run_id
            for run in await self.pending()
            for requirement in run.requirements
            if requirement.id.startswith(approval_id)
        }
        if len(matches) > 1:
            message = f"the approval id {approval_id!r} matches in {len(matches)} runs; give more digits"
            raise MessageError(message)
        return self.run(matches.pop()) if matches else None


def _details(request: RunRequest) -> str:
    asker = f"Asked for by {code(request.requested_by)}.\n\n" if request.requested_by else ""
    return f"Agent {code(request.agent)}. {asker}Prompt:\n\n{fenced(wrapped(bounded(request.input, 10_000)))}"


def _attributes(request: RunRequest) -> TypedSearchAttributes:
    pairs: list[SearchAttributePair[str]] = [
        SearchAttributePair(SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_AGENT), request.agent),
        SearchAttributePair(SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_STATUS), "running"),
    ]
    if request.requested_by:
        key = SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_REQUESTED_BY)
        pairs.append(SearchAttributePair(key, protocol.keyword(request.requested_by)))
    return TypedSearchAttributes(pairs)


def _not_answered(error: RPCError) -> Exception:
    if error.status in {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED}:
        return ServerUnreachableError(f"the Temporal server does not answer: {error.message}")
    return MessageError(f"the Temporal server refused: {error.message}")
