"""`AgentClient`: starts runs, finds what waits across them, decides, and reads the records."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from typing import Final, Literal, Unpack

from pydantic import JsonValue
from temporalio.client import (
    Client,
    Schedule,
    ScheduleAlreadyRunningError,
    ScheduleHandle,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.common import Priority, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from assent.audit.approval import Approval, is_recorded
from assent.audit.decision_statistics import Statistics
from assent.audit.records import Audit
from assent.client import inbox
from assent.client.approval_search import (
    SEARCHED,
    ApprovalFilter,
    ApprovalReader,
    approval_prefix,
    paged,
    run_of_approval,
)
from assent.client.filters import Filters, Sort, Wanted, sort_approvals
from assent.client.paging import Page, check_limit, position_of, token_of
from assent.client.read_statistics import read_statistics
from assent.client.rpc import check_inline
from assent.client.run_handle import RunHandle, message_of
from assent.client.start import attributes_of, begin, check_own, exists, priority_of, scheduled
from assent.client.watch_all import Options, RunsWatcher
from assent.core.approvals import fold_name
from assent.runtime import connection
from assent.runtime.connection_errors import fatal_answer
from assent.views.run_events import RunEvent
from assent.wire.budget import Budget
from assent.wire.errors import DecisionError, MessageError, NoWorkerError, RequirementNotFoundError, RunNotFoundError
from assent.wire.messages import read_request
from assent.wire.names import TASK_QUEUE
from assent.wire.parts import Part, content_json
from assent.wire.policy import PermissionPolicy
from assent.wire.protocol import ApprovalType, DecisionOutcome, RunRequest
from assent.wire.requirements import RequirementStatus, RunState

LOOK_FOR: Final = 2.0
LOOK_AGAIN: Final = 0.2
"""Seconds in which an approval is looked for, and between looks."""


class AgentClient:
    """Starts, lists, decides and audits runs. Keep only the ids of runs: everything else can be read again.

    Example:
        `client = await AgentClient.connect()`, or `AgentClient(a_temporal_client)` for a client of your own. Its codec,
        failure converter and storage are used, with Assent's payload converter instead of its own.
    """

    def __init__(self, client: Client, *, task_queue: str = TASK_QUEUE) -> None:
        """*task_queue* is where runs are started."""
        self.temporal = connection.with_own_converter(client)
        self.task_queue = task_queue
        self._attributes = False
        self._histories = ApprovalReader(self._approvals)

    @classmethod
    async def connect(
        cls,
        address: str | None = None,
        *,
        namespace: str | None = None,
        profile: str | None = None,
        task_queue: str = TASK_QUEUE,
    ) -> AgentClient:
        """Connect to the server of the arguments, else of `TEMPORAL_*`, else of the profile file of the `temporal` CLI.

        Raises:
            ConfigurationError: the environment or the profile file cannot be read or do not fit.
            ServerUnreachableError: nothing answers at the address, or what answers cannot be used: its certificate,
                the credentials, the namespace or its protocol is wrong. One line: the cause, what to check.

        Example:
            `client = await AgentClient.connect()`
        """
        client = await connection.connect(address, namespace=namespace, profile=profile)
        return cls(client, task_queue=task_queue)

    # -- runs ---------------------------------------------------------------------------------------------------------

    async def start(
        self,
        agent: str,
        input: str | Sequence[Part] = "",
        *,
        requested_by: str | None = None,
        id: str | None = None,
        max_turns: int | None = None,
        max_tool_calls: int | None = None,
        policy: PermissionPolicy | None = None,
        priority: int | None = None,
        conversation: bool = False,
        budget: Budget | None = None,
        context: Mapping[str, JsonValue] | None = None,
    ) -> RunHandle:
        """Start a run. If a run has this *id* already, return that run and start none.

        *max_turns*, *max_tool_calls*, *policy* and *budget* can only tighten those of the agent. When workers are
        behind, runs of *priority* 1 come first and those of 5 last; the default is 3. Among runs of one priority,
        requesters take turns, if the server has fairness.

        A *conversation* stays open after an answer, until `RunHandle.close`. It may begin without an *input*. If it
        exists already, it does not get the *input*: use `send_message`.

        *input* is text, or a list of `TextPart`, `ImagePart` and `FilePart`. Bytes are in the history once. Such a list
        may be 1.5 MB long as JSON. With an external storage, it may have 10 MB of bytes.

        *context* is a JSON object of up to 16 KiB. Tools, gates, groups, policies, notices and the people who decide
        get it; the model does not. It cannot be changed later. Child runs have the same.

        Raises:
            MessageError: *agent* or *input* is empty, too long or does not fit, *priority* is not 1 to 5, *context* is
                not such an object, the *id* begins with a hyphen or has characters that do not show, or another kind of
                workflow has it.
            ServerUnreachableError: the server does not answer.

        Example:
            `run = await client.start("deployer", "Ship web.", requested_by="alice", id="ship-7")`
        """
        request = self._request(
            agent, input, requested_by=requested_by, max_turns=max_turns, max_tool_calls=max_tool_calls, policy=policy,
            conversation=conversation or None, budget=budget, context=context,
        )  # fmt: skip
        run = self.get_run(id or f"{agent}-{uuid.uuid4().hex[:12]}")
        try:
            with _translate_errors():
                await self._start(request, run.id, priority_of(request, priority))
        except WorkflowAlreadyStartedError:
            await check_own(run)
        return run

    async def schedule(
        self,
        id: str,
        agent: str,
        input: str | Sequence[Part],
        *,
        spec: ScheduleSpec,
        overlap: ScheduleOverlapPolicy = ScheduleOverlapPolicy.ALLOW_ALL,
        requested_by: str | None = None,
        max_turns: int | None = None,
        max_tool_calls: int | None = None,
        policy: PermissionPolicy | None = None,
        priority: int | None = None,
        budget: Budget | None = None,
        context: Mapping[str, JsonValue] | None = None,
    ) -> ScheduleHandle:
        """Create the Temporal schedule *id*, which starts a run of *agent* whenever *spec* says.

        *overlap* says what happens while the previous run has not ended. By default the next one starts beside it,
        because a run may wait for a person for long. Temporal's own default, `SKIP`, would start none. The other
        options are those of `start`. The id of a run is *id* and the time. The handle pauses, triggers, changes and
        deletes the schedule.

        Raises:
            MessageError: an option does not fit, as for `start`; or there is a schedule of this id.
            ServerUnreachableError: the server does not answer.

        Example:
            `await client.schedule("nightly", "deployer", "Ship.", spec=ScheduleSpec(cron_expressions=["0 3 * * *"]))`
        """
        request = self._request(
            agent, input, requested_by=requested_by, max_turns=max_turns, max_tool_calls=max_tool_calls, policy=policy,
            budget=budget, context=context,
        )  # fmt: skip
        attributes = attributes_of(request) if await self._registered() else TypedSearchAttributes.empty
        begins = scheduled(request, id, self.task_queue, attributes, priority_of(request, priority))
        schedule = Schedule(begins, spec, SchedulePolicy(overlap=overlap))
        try:
            with _translate_errors():
                return await self.temporal.create_schedule(id, schedule)
        except ScheduleAlreadyRunningError:
            message = f"there is a schedule {id!r} already: change it with the Temporal client or CLI"
            raise MessageError(message) from None

    async def send_message(
        self,
        run_id: str,
        content: str | Sequence[Part],
        *,
        by: str,
        agent: str | None = None,
        requested_by: str | None = None,
        context: Mapping[str, JsonValue] | None = None,
    ) -> RunHandle:
        """Send a message to a conversation. With an *agent*, start the conversation if it does not exist.

        Both are one call to the server: if two clients do it at the same time, one starts the conversation and both
        messages are read. A run that exists gets the message, also if it has another agent or is no conversation.
        *requested_by* (*by* if left out) and *context* are for a conversation that starts, as for `start`. Needs no
        worker. `RunHandle.send_and_wait` waits for the answer.

        Raises:
            MessageError: *content* or *by* is empty, too long or does not fit, *context* is not as for `start`, another
                kind of workflow has the id, or it cannot be the id of a run that begins.
            RunNotFoundError: the conversation has ended; or there is none, and no *agent* to begin one with.
            ServerUnreachableError: the server does not answer.

        Example:
            `run = await client.send_message("ticket-17", "Hello.", by="alice", agent="accounts")`
        """
        run = self.get_run(run_id)
        if agent is None:
            await run.send_message(content, by=by)
            return run
        body = message_of(content, by)
        request = self._request(agent, "", requested_by=requested_by or by.strip(), conversation=True, context=context)
        # The server signals whatever has the id, so what that is is asked first.
        if await exists(run):
            await check_own(run)
        try:
            with _translate_errors():
                await self._start(request, run_id, priority_of(request, None), body)
        except WorkflowAlreadyStartedError:
            raise RunNotFoundError(
                f"the conversation {run_id!r} has ended; start another one with another id"
            ) from None
        return run

    def get_run(self, run_id: str) -> RunHandle:
        """Return the run of this id. The first call that reads it raises if there is none.

        Example:
            `run = client.get_run("ship-7")`
        """
        return RunHandle(self.temporal, run_id)

    async def resume(self, state: RunState, *, approved: bool, by: str, reason: str | None = None) -> RunHandle:
        """Approve or reject all calls that wait for a confirmation in *state*, the JSON of a paused run.

        The model gets the *reason* of a rejection; by default it is "not approved".

        Raises:
            DecisionError: a call was decided in another way before, or waits for a result. All others were decided.
            RunNotFoundError: as `RunHandle.approve`.

        Example:
            `await client.resume(await run.state(), approved=True, by="bob")`
        """
        run, problems = self.get_run(state.id), list[str]()
        for requirement in state.active_requirements:
            try:
                outcome = await _approve_or_reject(run, requirement.id, approved=approved, by=by, reason=reason)
            except RequirementNotFoundError as error:
                problems.append(f"{requirement.tool}: unknown: {error}")
            else:
                if not outcome.counted and outcome.status != "duplicate":
                    problems.append(f"{requirement.tool}: {outcome.status}: {outcome.detail}")
        if problems:
            raise DecisionError(f"run {run.id!r} was not resumed as asked: {'; '.join(problems)}")
        return run

    # -- the inbox ----------------------------------------------------------------------------------------------------

    async def pending(
        self, *, sort: Sort = "age", limit: int | None = None, page_token: str | None = None, **filters: Unpack[Filters]
    ) -> Page[Approval]:
        """List what waits for a person in all runs: the oldest first, or by *sort* the soonest deadline first.

        Reads only visibility and needs no worker. Without a *limit* everything is read, in pages of 1,000 runs. With a
        *limit*, the list is a page of at most so many **runs**. `next_page_token` asks for the next page, and `total`
        counts the runs where the server can. The order of the pages is the server's, the newest run first; *sort* holds
        within a page. The server does not know the filters *kind*, *approver*, *older_than*, *due_within* and *tree*:
        with them several of its pages are read to fill one, and the last page may be empty.

        Raises:
            MessageError: a filter cannot be sent as text, or *page_token* is not one of this list.
            RunNotFoundError: there is no run *tree*.
            ServerUnreachableError: the server does not answer.

        Example:
            `waiting = await client.pending(approver="bob", sort="deadline")`
        """
        wanted = Wanted(**filters)
        paging = limit is not None or page_token is not None
        most = 100 if limit is None else limit
        check_limit(most, least=1)
        position = position_of(wanted, page_token)
        lost = set[str]()
        with _translate_errors():
            registered = await self._registered()
            if not paging:
                runs = [run async for run in inbox.pending(self.temporal, wanted, lost, registered=registered)]
                return Page(sort_approvals(chain.from_iterable(runs), sort), unreadable=lost)
            (runs, after), total = await asyncio.gather(
                inbox.page(self.temporal, wanted, most, position, lost, registered=registered),
                inbox.total(self.temporal, wanted, registered=registered),
            )
        token = token_of(wanted, after) if after else None
        return Page(sort_approvals(chain.from_iterable(runs), sort), token, total, lost)

    async def get_approvals(
        self,
        *,
        status: RequirementStatus | None = None,
        approval_type: ApprovalType | None = None,
        agent: str | None = None,
        tool: str | None = None,
        run_id: str | None = None,
        requested_by: str | None = None,
        limit: int = 100,
        page_token: str | None = None,
    ) -> tuple[Page[Approval], int]:
        """Return at most *limit* approvals, the newest first, and how many there are in all.

        `records.next_page_token` asks for the next page. Approvals that are opened meanwhile do not move the pages. One
        of type `audit` appears only once it is decided.

        Needs no worker. With `status="pending"` only visibility is read, and with *run_id* only one history. Otherwise
        the history of each run that has waited is read, 8 at a time, because the total needs them all. The client keeps
        what it read of ended runs for the next page.

        Raises:
            MessageError: no approval has such a *status* or *approval_type*; *page_token* is none, or of other filters.
            RunNotFoundError: there is no run *run_id*.
            ServerUnreachableError: the server does not answer.

        Example:
            `records, total = await client.get_approvals(status="approved", agent="deployer")`
        """
        query = ApprovalFilter(status, approval_type, agent, tool, run_id, requested_by)
        query.check()
        check_limit(limit)
        after = position_of(query, page_token)
        return paged(await self._records(query), query, limit, after)

    async def get_pending_approval_count(self) -> int:
        """Count the pending approvals of all runs, without those of type `audit`. Reads what `pending` reads.

        Raises:
            ServerUnreachableError: the server does not answer.

        Example:
            `count = await client.get_pending_approval_count()`
        """
        # The server can count runs, but not what waits in them, nor of which type.
        return sum(map(is_recorded, await self.pending()))

    async def get_decisions(self, by: str, *, limit: int = 500) -> list[Approval]:
        """Return the approvals that a person voted on, the newest vote first, from the newest *limit* runs that waited.

        Reads the history of each of these runs. Histories of ended runs are read only once.

        Raises:
            ServerUnreachableError: the server does not answer.

        Example:
            `decided = await client.get_decisions("bob")`
        """
        records = await self._histories.read(await self._runs_with_approvals(most=limit))
        voted = [(vote.at, each) for each in records for vote in each.votes if fold_name(vote.by) == fold_name(by)]
        return [each for _, each in sorted(voted, key=lambda one: one[0], reverse=True)]

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
        """Decide an approval in any run. Returns None if another decision came first; this one is recorded in the run.

        *expected_status* is always `pending`: only a pending approval can be resolved. Without *run_id* the run is
        searched: in all that waits, then, if the approval no longer waits, in the histories of up to 1,000 runs.
        Returns None also if there is no such approval. In a run that has ended nothing can be recorded.

        Raises:
            MessageError: *status* or *expected_status* is another word, or the id is too short or matches in several
                runs.
            DecisionError: the decision was refused: *resolved_by* may not decide it, or it waits for a result.
            NoWorkerError: no worker has read the decision yet. It is sent, and counts once a worker runs.

        Example:
            `record = await client.resolve_approval(requirement.id, status="approved", resolved_by="bob")`
        """
        if status not in {"approved", "rejected"} or expected_status != "pending":
            raise MessageError(f"an approval that is pending becomes 'approved' or 'rejected', not {status!r}")
        wanted = approval_prefix(approval_id)
        found_id = run_id if run_id is not None else await self._find_run(wanted)
        if found_id is None:
            return None
        approved = status == "approved"
        outcome = await _approve_or_reject(
            self.get_run(found_id), wanted, approved=approved, by=resolved_by, reason=reason
        )
        if outcome.status == "refused":
            raise DecisionError(outcome.detail, outcome)
        if outcome.status == "sent":
            raise NoWorkerError(f"{outcome.tool} in run {found_id!r}: {outcome.detail}")
        if not outcome.counted:
            return None
        return next(record for record in await self._approvals(found_id) if record.id == outcome.requirement_id)

    async def audit(self, run_id: str) -> Audit:
        """Return the record of each requirement of a run, from its history.

        Raises:
            RunNotFoundError: there is no run of this id.

        Example:
            `audit = await client.audit(run.id)`
        """
        return await self.get_run(run_id).audit()

    async def statistics(
        self,
        *,
        agent: str | None = None,
        tool: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Statistics:
        """Return how people decided the requirements opened since *since*, from the histories of runs open since then.

        At most *limit* histories are read: those of running runs first, then those of the newest. `left_out` counts the
        other runs. Reading one history takes some milliseconds.

        Raises:
            MessageError: *agent* is not text that can be sent, or *limit* is less than 1.
            ServerUnreachableError: the server does not answer.

        Example:
            `figures = await client.statistics(agent="deployer", since=datetime.now(UTC) - timedelta(days=7))`
        """
        if limit is not None:
            check_limit(limit, least=1)
        with _translate_errors():
            runs = inbox.runs_with_approvals(
                self.temporal, agent, None, registered=await self._registered(), open_since=since
            )
            return await read_statistics(runs, self._approvals, agent=agent, tool=tool, since=since, limit=limit)

    def watch_all(self, agent: str | None = None, **options: Unpack[Options]) -> AsyncGenerator[tuple[str, RunEvent]]:
        """Yield what happens in all runs of *agent*, or of all agents, with the run's id. It does not end.

        It begins with what the runs do now. *options* are those of `assent.client.watch_all.Options`.

        Example:
            `async for run_id, event in client.watch_all("deployer", from_start=True): break`
        """
        return RunsWatcher(self.temporal, self._registered, agent, **options).events()

    async def setup(self) -> list[str]:
        """Register the search attributes that the namespace lacks, and return their names.

        Raises:
            ConfigurationError: this client may not register them, or one exists with another type.

        Example:
            `added = await client.setup()`
        """
        added = await connection.register_attributes(self.temporal)
        self._attributes = True
        return added

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _start(
        self, request: RunRequest, run_id: str, priority: Priority, message: dict[str, JsonValue] | None = None
    ) -> None:
        attributes = TypedSearchAttributes.empty
        if await self._registered():
            attributes = attributes_of(request, message)
        await begin(self.temporal, self.task_queue, request, run_id, attributes, priority, message)

    def _request(self, agent: str, input: str | Sequence[Part], **options: object) -> RunRequest:
        """Return the request with those of the *options* that are not None."""
        fields = {name: value for name, value in options.items() if value is not None}
        request = read_request(({"agent": agent, "input": content_json(input), **fields},))
        check_inline(self.temporal, "AgentRun: input", content_json(request.input))
        return request

    async def _registered(self) -> bool:
        # They do not go away again, but a worker may register them at any time.
        if not self._attributes:
            try:
                self._attributes = not await connection.missing_attributes(self.temporal)
            except (RPCError, ValueError):
                return False
        return self._attributes

    async def _approvals(self, run_id: str) -> Sequence[Approval]:
        return await self.get_run(run_id).approvals()

    async def _records(self, query: ApprovalFilter) -> Sequence[Approval]:
        if query.run_id is not None:
            return await self._approvals(query.run_id)
        if query.status == "pending":
            return await self.pending(agent=query.agent, tool=query.tool, requested_by=query.requested_by)
        return await self._histories.read(await self._runs_with_approvals(query.agent, query.requested_by))

    async def _runs_with_approvals(
        self, agent: str | None = None, requested_by: str | None = None, *, most: int | None = None
    ) -> list[inbox.ListedRun]:
        runs: list[inbox.ListedRun] = []
        with _translate_errors():
            registered = await self._registered()
            async for run in inbox.runs_with_approvals(self.temporal, agent, requested_by, registered=registered):
                runs.append(run)
                if len(runs) == most:
                    break
        return runs

    async def _find_run(self, approval_id: str) -> str | None:
        # Visibility follows the runs by some milliseconds, on a busy server by more.
        end = time.monotonic() + LOOK_FOR
        while True:
            found_id = run_of_approval(await self.pending(), approval_id)
            if found_id is None:
                found_id = await self._histories.find(await self._runs_with_approvals(most=SEARCHED), approval_id)
            if found_id is not None or time.monotonic() > end:
                return found_id
            await asyncio.sleep(LOOK_AGAIN)


@contextmanager
def _translate_errors() -> Generator[None]:
    """Translate RPC errors that are about no run into Assent errors."""
    try:
        yield
    except RPCError as error:
        raise (fatal_answer(error) or MessageError(f"the Temporal server refused: {error.message}")) from error


async def _approve_or_reject(
    run: RunHandle, requirement_id: str, *, approved: bool, by: str, reason: str | None
) -> DecisionOutcome:
    """Approve, or reject in words that say no more than that; raises as `RunHandle.approve` with `check=False`."""
    if approved:
        return await run.approve(requirement_id, by=by, reason=reason, check=False)
    return await run.reject(requirement_id, by=by, reason=reason or "not approved", check=False)
