"""What a run promises, whatever happens to it: checked after every step of a random life."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast

from hypothesis.stateful import RuleBasedStateMachine, invariant

from assent.agents.authorization import refusal
from assent.agents.gates import Gatekeeper
from assent.agents.tool import ApprovalTerms
from assent.core.approvals import fold_name
from assent.core.deadlines import REMINDERS, add_seconds
from assent.core.events import (
    CallModel,
    CheckAnswered,
    CheckCall,
    Command,
    Complete,
    Event,
    ModelAnswered,
    ModelFailed,
    RunTool,
    WakeAt,
)
from assent.core.measurements import (
    CLOSED,
    COST,
    DECISION_TIME,
    DECISIONS,
    IGNORED,
    MODEL_CALLS,
    REQUESTED,
    RUNS,
    TOKENS,
    TOOL_CALLS,
    Metric,
    measurements,
)
from assent.core.message_handling import CHECKS_OF_ALL
from assent.core.run_state import KEPT_MESSAGES, MAX_TURNS, Run, Step, state_of
from assent.core.state_machine import decide
from assent.wire.digest import parse_arguments, requirement_id
from assent.wire.messages import SendMessage, read
from assent.wire.parts import content_text, digests_of, readable
from assent.wire.policy import conditions_hold
from assent.wire.protocol import DecisionResult, Gate, Item, ModelCallInput, ToolCallInput
from assent.wire.requirements import Grant, Requirement, RunState
from tests.unit.core.transition_rows import changes, explains, recorded
from tests.unit.strategies import PEOPLE, RUN_ID, TOOLS, Play

PERSON = {spelling: person for person, known in PEOPLE.items() for spelling in known}
COUNTED = {"approved", "rejected", "executed", "failed", "recorded"}
OVER = {"executed", "failed", "refused", "unknown"}
TODAY = {name: replace(tool, terms=ApprovalTerms(self_approval=True)) for name, tool in TOOLS.items()}
"""The tools as their workers have them; the gates of a life are as strict as these, or stricter."""
Place = tuple[int, int]
"""A call: its turn, and its position in that."""


@dataclass
class Witness(Play):
    """A play in which every event is handled twice: it must come to the same, and leave its inputs alone.

    *measured* sums what was measured, by metric and labels.
    """

    measured: Counter[tuple[Metric, tuple[str, ...]]] = field(default_factory=Counter[tuple[Metric, tuple[str, ...]]])

    def tell(self, event: Event) -> Step:
        """What the event comes to."""
        run, run_before, event_before = self.run, copy.deepcopy(self.run), copy.deepcopy(event)
        step = super().tell(event)
        assert repr(decide(run_before, event_before)) == repr(step), "the same events come to the same"
        assert repr(run) == repr(run_before), "the run it is given is left alone"
        assert repr(event) == repr(event_before), "the event it is given is left alone"
        return step

    def _decided(self, event: Event) -> Step:
        before = self.run
        with recorded() as rows:
            step = super()._decided(event)
        for change in changes(before, self.run):
            assert explains(rows, *change), f"{change} has no row in the tables"
        return step

    def decided(self, before: Run, event: Event, step: Step) -> None:
        """Sum what is measured; of a time, how often."""
        for metric, value, labels in measurements(before, event, step):
            assert len(labels) == len(metric.labels)
            assert value > 0 or metric is DECISION_TIME
            self.measured[metric, labels] += 1 if metric is DECISION_TIME else int(value)

    def total(self, metric: Metric, *labels: str) -> int:
        """The sum of a metric, of the series that have all these labels."""
        return sum(value for (each, own), value in self.measured.items() if each is metric and {*labels} <= {*own})


class Promises(RuleBasedStateMachine):
    """A run that is watched: what is kept of it besides, and what must hold."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.play = Witness()
        self.gates: dict[Place, Gate | None] = {}
        self.voters: dict[str, set[str]] = {}
        self.said: list[str] = []
        self.not_counted = 0
        self.counted = 0
        self.rebuilt: list[Item] = []
        self.under_way: set[Place] = set()
        self.licensed: Counter[Place] = Counter()
        self.timer: datetime | None = None

    @property
    def run_now(self) -> Run:
        """The run as it is."""
        return self.play.run

    @property
    def last_at(self) -> datetime:
        """When something happened last."""
        return self.play.events[-1].at

    def requirement(self, identity: str | None) -> Requirement:
        """The requirement of this id."""
        return next(each for each in self.run_now.requirements if each.id == identity)

    # -- before and after one event -----------------------------------------------------------------------------------

    def watch(self, happen: Callable[[], Step], *, returns: int | None = None, by: str = "") -> Step:
        """Let something happen, and compare the run before and after.

        *returns* is the position of a call that comes back by it, *by* whose message it is about.
        """
        before = self.run_now
        due = before.wake_at is not None and before.wake_at <= self.play.at
        if returns is not None:
            self.under_way.discard((before.turn, returns))
        given = len(self.play.commands)
        step = happen()
        commands = self.play.commands[given:]
        self.nothing_is_undone(before, step)
        self.answered(before, step, by)
        self.happened(before, commands)
        for command in commands:
            if isinstance(command, CallModel):
                self.model_is_called(command)
                assert due or not self.run_now.queued, "the model reads what was queued"
            elif isinstance(command, RunTool):
                self.tool_is_run(command)
            elif isinstance(command, WakeAt):
                self.timer = command.at
            elif isinstance(command, Complete) and not isinstance(self.play.events[-1], ModelAnswered):
                self.tool_ends_the_run()
        if step.run.ended and not before.ended:
            last = self.play.events[-1]
            answered = last.number if isinstance(last, CheckAnswered) and step.result is not None else 0
            self.not_counted += len({each.number for each in before.checks} - {answered})
        return step

    def happened(self, before: Run, commands: list[Command]) -> None:
        """For promises about more than one command: the run before, and all the commands of the event, in order."""

    def nothing_is_undone(self, before: Run, step: Step) -> None:
        """What has ended stays so: the run, a requirement, an execution."""
        if before.ended:
            assert not step.commands, "nothing after the end"
            assert at_rest(before) == at_rest(step.run), "only attempts are kept after the end"
        now = {each.id: each for each in step.run.requirements}
        for each in before.requirements:
            assert each.status in {"pending", now[each.id].status}, "a terminal state is never left"
            assert each.execution not in OVER or each.execution == now[each.id].execution, "nor is an outcome"
        assert list(now)[: len(before.requirements)] == [each.id for each in before.requirements]

    def model_is_called(self, command: CallModel) -> None:
        """What a model call carries and what it names make up the conversation, with every call answered once."""
        call = ModelCallInput.model_validate_json(command.input.model_dump_json(exclude_unset=True))
        if call.prefix is not None:
            assert call.prefix.length == len(self.rebuilt)
            assert call.prefix.digest == digest_of(self.rebuilt)
        else:
            assert not self.rebuilt
        self.rebuilt += call.delta
        self.all_is_answered()

    def tool_ends_the_run(self) -> None:
        """A tool that ends the run answers for all the calls of its turn."""
        told = list(self.run_now.conversation.items[len(self.rebuilt) :])
        assert all(item.get("type") == "function_call_output" for item in told)
        self.rebuilt += told
        self.all_is_answered()
        assert any(call.gate.stop and call.executed for call in self.run_now.calls)

    def all_is_answered(self) -> None:
        """Every call is answered once, in order."""
        asked = [item["call_id"] for item in self.rebuilt if item.get("type") == "function_call"]
        answered = [item["call_id"] for item in self.rebuilt if item.get("type") == "function_call_output"]
        assert answered == asked

    def tool_is_run(self, command: RunTool) -> None:
        """A tool runs because its gate allows it, or because as many people as it takes approved exactly this."""
        place = (command.turn, command.position)
        assert place not in self.under_way, "a call runs once at a time"
        self.under_way.add(place)
        self.licensed[place] -= 1
        assert self.licensed[place] >= 0, "a call runs again only if its outcome was approved, or it was refused"
        gate = self.gates[place]
        assert gate is not None
        assert gate.verdict in {"allow", "ask", "input"}
        if gate.verdict != "allow":
            self.was_approved(command)
        call = ToolCallInput.model_validate_json(command.input.model_dump_json(exclude_unset=True))
        refused = refusal(TODAY[command.tool], call, Gatekeeper(), run_id=RUN_ID, now=self.last_at)
        assert refused is None or refused.reason == "the approval has expired", refused

    def was_approved(self, command: RunTool) -> None:
        """As many people as it takes approved the very arguments that run, and the authorization says so."""
        shown = command.input.authorization
        assert shown is not None
        found = self.requirement(shown.requirement_id)
        assert (found.status, found.execution) == ("approved", "running")
        assert found.arguments == command.input.arguments
        assert (command.input.values is not None) == (found.values is not None)
        if found.grant is not None:
            self.may_grant(found, self.grant(found.grant))
        people = self.voters[found.id]
        assert len(people) == found.needed == len({fold_name(name) for name in shown.approved_by})
        assert shown.requirement_id == requirement_id(
            run_id=RUN_ID,
            nonce=shown.nonce,
            call_id=command.input.call_id,
            tool=command.tool,
            arguments=command.input.arguments,
            policy_version=shown.policy_version,
            needed=found.needed,
            expires_at=found.expires_at,
        )

    def may_grant(self, found: Requirement, grant: Grant) -> None:
        """Whoever gave the grant may decide this very call."""
        person, asker = PERSON[grant.by], self.run_now.requested_by
        assert found.approvers is None or person in {PERSON[name] for name in found.approvers}
        assert found.self_approval or asker is None or person != PERSON[asker]
        self.voters[found.id] = {person}

    def grant(self, identity: str) -> Grant:
        """The grant of this id."""
        return next(each for each in self.run_now.grants if each.id == identity)

    # -- what a decision comes to -------------------------------------------------------------------------------------

    def message(self, name: str, *arguments: object) -> Step:
        """A message arrives: it counts, is checked first, or is kept."""
        before = self.run_now
        due = before.wake_at is not None and before.wake_at <= self.play.at
        body = fields_of(arguments[0]) if arguments else {}
        by = str(body.get("by"))
        step = self.watch(lambda: self.play.offer(name, *arguments), by=by)
        if step.result is None:
            assert step.check == step.run.checks_made == before.checks_made + 1, "it is being checked"
            assert [type(command) for command in step.commands if not due] in ([], [CheckCall])
        elif step.result.status not in COUNTED:
            assert due or not step.commands, "what does not count changes nothing"
        elif step.result.requirement_id is None and name == "send_message":
            sent = read(name, arguments)
            assert isinstance(sent, SendMessage)
            self.said.append(readable(sent.content))
        return step

    def answered(self, before: Run, step: Step, by: str) -> None:
        """Whatever somebody sent leaves a change, or is kept."""
        result = step.result
        if result is None:
            return
        if result.status not in COUNTED:
            self.not_counted += 1
            return
        kept = (before.requirements, before.grants, before.queued)
        changed = (step.run.requirements, step.run.grants, step.run.queued)
        assert kept != changed or any(isinstance(command, CallModel) for command in step.commands)
        if result.requirement_id is not None:
            self.counted += 1
            self.vote_counted(result, by)

    def vote_counted(self, result: DecisionResult, by: str) -> None:
        """A vote counted: by somebody who may, once."""
        found = self.requirement(result.requirement_id)
        person = PERSON[by]
        if found.approvers is not None and not (result.status == "rejected" and not found.approvers):
            assert person in {PERSON[name] for name in found.approvers}
        if result.status in {"executed", "failed"}:
            assert found.kind in {"external", "outcome"}, "only these take a result"
        if result.status not in {"approved", "recorded"}:
            return
        assert found.kind in {"confirmation", "outcome", "input", "budget"}
        voters = self.voters.setdefault(found.id, set())
        assert person not in voters, "one person is one vote"
        request = self.run_now.request
        if request and request.requested_by and not found.self_approval:
            assert person != PERSON[request.requested_by], "who asked may not approve"
        voters.add(person)

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def no_call_runs_more_often_than_it_may(self) -> None:
        """A call runs once, and once more for each time that it was refused or that people said so."""
        run = self.run_now
        if run.ended:
            return
        running = {(run.turn, position) for position, call in enumerate(run.calls) if call.running}
        assert running == {place for place in self.under_way if place[0] == run.turn}
        assert run.max_tool_calls is None or run.tool_calls <= run.max_tool_calls
        assert len({(each.turn, each.position) for each in self.play.ran}) <= run.tool_calls

    @invariant()
    def the_conversation_is_what_was_said(self) -> None:
        """What model calls carried, with what the model answered, is the conversation; and so is its digest."""
        conversation = self.run_now.conversation
        assert list(conversation.items) == self.rebuilt
        assert conversation.digest == digest_of(self.rebuilt)
        if not self.run_now.ended:
            known = (*conversation.items, *(self.run_now.held or ()), *self.run_now.queued)
            assert self.run_now.attachments.keys() == {*digests_of(known)}, "of each file the bytes, and no others"
            words = [item for item in known if item.get("role") == "user"]
            assert sorted(content_text(item["content"]) for item in words) == sorted(self.said), "no message is lost"

    @invariant()
    def at_most_one_model_call_is_under_way(self) -> None:
        """A model call is made when none is under way, and never beside a tool call."""
        run = self.run_now
        answered = sum(isinstance(event, ModelAnswered | ModelFailed) for event in self.play.events)
        if not run.ended:
            assert len(self.play.asked) - answered == int(run.model_running)
            assert not (run.model_running and any(call.running for call in run.calls))
        assert run.turn == len(self.play.asked) <= run.max_turns <= MAX_TURNS

    @invariant()
    def what_waits_is_of_the_newest_turn(self) -> None:
        """That is where it is looked for."""
        waiting = [each for each in self.run_now.requirements if each.status == "pending"]
        assert self.run_now.pending == waiting

    @invariant()
    def waiting_says_that_nothing_moves(self) -> None:
        """A run waits when something is pending and nothing runs; one that has ended has nothing open."""
        run, state = self.run_now, state_of(self.run_now)
        if run.ended:
            assert not run.pending
            assert state.running == 0
            assert all(each.execution != "running" for each in run.requirements)
        else:
            moving = run.model_running or any(call.running or call.again_at is not None for call in run.calls)
            assert (run.status == "waiting") == bool(run.pending and not moving)
            assert run.pending or moving or not self.play.asked, "a run is never stuck"

    @invariant()
    def the_timer_is_set_to_what_is_due_next(self) -> None:
        """The run's timer is the earliest thing due, which is yet to come; and the commands have said so."""
        run = self.run_now
        if run.ended or not self.play.events:
            return
        due = [call.again_at for call in run.calls if call.again_at is not None]
        for each in run.pending:
            due += [each.expires_at] if each.expires_at is not None else []
            due += [each.remind_at] if each.remind_at is not None and each.reminders < REMINDERS else []
            due += [step.at for step in each.escalations[each.escalated :]]
        if run.budget is not None and run.budget.max_time is not None and run.started_at is not None:
            asking = any(each.kind == "budget" for each in run.pending)
            due += [] if asking else [add_seconds(run.started_at, run.budget.max_time.total_seconds())]
        assert run.wake_at == min(due, default=None) == self.timer
        if not (run.turn == 1 and isinstance(self.play.events[-1], ModelAnswered)):
            # With the first answer a run learns of its budget, whose time may be over by then.
            assert run.wake_at is None or run.wake_at > self.last_at

    @invariant()
    def a_grant_is_never_used_beyond_its_bounds(self) -> None:
        """Each use is a requirement that cites the grant, and all uses are within its bounds."""
        for grant in self.run_now.grants:
            uses = [each for each in self.run_now.requirements if each.grant == grant.id]
            assert len(uses) == grant.used <= (grant.uses if grant.uses is not None else grant.used)
            for use in uses:
                # What a later execution knows of a decided call is short, without the version of the policy.
                assert use.shortened or use.policy_version == grant.policy_version
                assert use.tool == grant.tool
                assert use.needed == 1 or grant.verdict == "reject"
                assert [vote.verdict for vote in use.votes] == [grant.verdict]
                assert grant.expires_at is None or use.created_at < grant.expires_at
                assert grant.revoked_at is None or use.created_at <= grant.revoked_at
                assert grant.arguments is None or conditions_hold(grant.arguments, parse_arguments(use.arguments))

    @invariant()
    def nothing_that_was_sent_vanishes(self) -> None:
        """What did not count is kept, bounded, and what the bound pushed out is counted."""
        assert len(self.run_now.ignored_messages) <= KEPT_MESSAGES
        assert len(self.run_now.ignored_messages) + self.run_now.ignored_dropped == self.not_counted
        assert len(self.run_now.checks) <= CHECKS_OF_ALL

    @invariant()
    def what_is_measured_sums_up_to_the_state(self) -> None:
        """The counters are what the run knows of itself, by other accounts than those that they are made of."""
        run, total = self.run_now, self.play.total
        used = [total(MODEL_CALLS, "answered"), total(TOKENS, "input"), total(TOKENS, "output")]
        assert used == [run.usage.requests, run.usage.input_tokens, run.usage.output_tokens]
        assert total(COST) == round(run.usage.cost * 1_000_000)
        assert total(REQUESTED) - total(CLOSED) == len(run.pending)
        waited = [each for each in run.requirements if each.grant is None]
        for status in ("approved", "rejected", "expired", "superseded", "cancelled"):
            assert total(CLOSED, status) == sum(each.status == status for each in waited)
        assert total(DECISION_TIME) == total(CLOSED, "approved") + total(CLOSED, "rejected")
        assert total(DECISIONS, "grant") == len(run.requirements) - len(waited)
        not_counted = {"duplicate", "late", "refused", "superseded", "unknown", "unreadable"}
        decided = sum(total(DECISIONS, "person", each) for each in not_counted)
        assert total(DECISIONS, "person") - decided == self.counted
        assert decided + total(IGNORED, "send_message") + total(IGNORED, "revoke") + total(IGNORED, "other") == (
            total(IGNORED)
        )
        assert total(IGNORED) == self.not_counted
        calls = sum(item.get("type") == "function_call" for item in run.conversation.items)
        assert total(TOOL_CALLS, "denied") + total(TOOL_CALLS, "invalid") == calls - run.tool_calls
        assert total(RUNS, "started") == bool(run.request)
        assert total(RUNS) - total(RUNS, "started") == total(RUNS, run.status) == int(run.ended)

    @invariant()
    def the_state_survives_as_json(self) -> None:
        """The state of a run is its durable JSON."""
        state = state_of(self.run_now)
        assert RunState.model_validate_json(state.model_dump_json()) == state

    def teardown(self) -> None:
        """All the events again give the same run."""
        run = Run()
        for event in self.play.events:
            run = decide(run, event).run
        assert repr(run) == repr(self.run_now)


def fields_of(message: object) -> dict[str, object]:
    """The fields of a message, if it has any."""
    return cast("dict[str, object]", message) if isinstance(message, dict) else {}


def at_rest(run: Run) -> Run:
    """The run, without what may still change once it has ended: what did not count, and its timer."""
    return replace(run, ignored_messages=(), ignored_dropped=0, wake_at=None)


def digest_of(items: list[Item]) -> str:
    """The running digest, worked out from its definition."""
    digest = ""
    for item in items:
        whole = ["assent.item.v1", digest, item]
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
    return digest
