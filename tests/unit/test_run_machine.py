"""Random lives of a run: whatever happens, in whatever order, the promises hold after every step."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import JsonValue

from assent.approvals import fold_name
from assent.attempts import KEPT
from assent.authorization import refusal
from assent.digest import requirement_id
from assent.events import CallModel, Event, RunTool
from assent.protocol import DecisionResult, Gate, Item, ModelTurn, ToolCallInput
from assent.requirements import Requirement, RunState
from assent.run import MAX_TURNS, Run, Step, decide, state_of

from .strategies import (
    PEOPLE,
    TOOLS,
    WORKFLOW_ID,
    Play,
    function_call,
    gates,
    json_values,
    message_names,
    said,
    spellings,
    texts,
    through_json,
    written_arguments,
)

PERSON = {spelling: person for person, known in PEOPLE.items() for spelling in known}
TOOL_OF = {"allow": "look", "ask": "pay", "external": "deploy"}
COUNTED = {"approved", "rejected", "executed", "failed", "recorded"}

calls = st.lists(st.tuples(gates | gates | gates | st.none(), written_arguments), min_size=1, max_size=5)
words = st.text("abc `|é\n", min_size=1, max_size=8).filter(str.strip)
positions = st.integers(0, 6)
seldom = st.sampled_from([False] * 9 + [True])
ways_to_write_an_id: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [
        str,
        str.upper,
        lambda full: full[:6],
        lambda full: full[:8],
        lambda full: f" {full[:12]}\n",
        lambda full: full[:5],
    ]
)
extras = st.fixed_dictionaries(
    {},
    optional={
        "reason": texts,
        "output": json_values,
        "error": texts,
        "values": json_values,
        "verdict": st.sampled_from(["approve", "reject", "no"]),
        "arguments": st.just({}),
    },
)


class Witness(Play):
    """A play in which every event is handled twice: it must come to the same, and leave its inputs alone."""

    def tell(self, event: Event) -> Step:
        """What the event comes to."""
        run, run_before, event_before = self.run, copy.deepcopy(self.run), copy.deepcopy(event)
        step = super().tell(event)
        assert repr(decide(run_before, event_before)) == repr(step), "the same events come to the same"
        assert repr(run) == repr(run_before), "the run it is given is left alone"
        assert repr(event) == repr(event_before), "the event it is given is left alone"
        return step


class Lives(RuleBasedStateMachine):
    """One run, told anything that could happen; what it promises is checked at every step."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.play = Witness()
        self.gates: dict[tuple[int, int], Gate | None] = {}
        self.voters: dict[str, set[str]] = {}
        self.said: list[str] = []
        self.not_counted = 0
        self.rebuilt: list[Item] = []

    @property
    def run_now(self) -> Run:
        """The run as it is."""
        return self.play.run

    # -- what happens -------------------------------------------------------------------------------------------------

    @initialize(
        wanted=calls,
        early=st.lists(words, max_size=2),
        requested_by=st.none() | spellings,
        max_turns=st.none() | st.integers(2, 8),
    )
    def starts(
        self, wanted: list[tuple[Gate | None, str]], early: list[str], requested_by: str | None, max_turns: int | None
    ) -> None:
        """The run begins; messages may be there before it does."""
        for content in early:
            self.chats(content)
        self.said.append("do it")
        self.watch(lambda: self.play.start(requested_by=requested_by, max_turns=max_turns))
        self.answers(wanted)

    @precondition(lambda self: self.run_now.model_running or self.run_now.ended)
    @rule(wanted=calls)
    def model_asks_for_tools(self, wanted: list[tuple[Gate | None, str]]) -> None:
        """The model answers with calls."""
        self.answers(wanted)

    @precondition(lambda self: self.run_now.model_running or self.run_now.ended)
    @rule(follow_up=st.sampled_from([True, True, True, False]))
    def model_answers(self, follow_up: bool) -> None:
        """The model answers finally, or with something that does not fit the output type."""
        self.answers([], follow_up=follow_up)

    def answers(self, wanted: list[tuple[Gate | None, str]], *, follow_up: bool = False) -> None:
        """The model answers."""
        turn = self.run_now.turn
        named = [(f"call-{turn}-{position}", gate) for position, (gate, _) in enumerate(wanted)]
        items = [said("words")] + [
            function_call(call_id, TOOL_OF.get(gate.verdict if gate else "", "pay"), arguments)
            for (call_id, gate), (_, arguments) in zip(named, wanted, strict=True)
        ]
        answer = ModelTurn(
            items=items,
            gates={call_id: gate for call_id, gate in named if gate is not None},
            policy_version="p1",
            follow_up="again" if follow_up else None,
        )
        if not self.run_now.ended:
            self.gates |= {(turn, position): gate for position, (gate, _) in enumerate(wanted)}
            self.rebuilt += items
            self.said += ["again"] if follow_up and not wanted else []
        self.watch(lambda: self.play.model(answer))

    @precondition(lambda self: self.run_now.model_running)
    @rule(really=seldom)
    def model_fails(self, really: bool) -> None:
        """The model call fails for good."""
        if really:
            self.watch(self.play.model_fails)

    @precondition(lambda self: self.run_now.calls)
    @rule(choice=positions, stray=seldom, kind=st.sampled_from(["output", "error", "refused", "lost"]), text=texts)
    def tool_returns(self, choice: int, stray: bool, kind: str, text: str) -> None:
        """A result arrives, or the loss of a worker: for a call that runs or, now and then, for any other."""
        running = [position for position, call in enumerate(self.run_now.calls) if call.running]
        position = choice if stray or not running else running[choice % len(running)]
        before = self.run_now
        if kind == "lost":
            self.watch(lambda: self.play.lose(position))
        else:
            self.watch(lambda: self.play.tool(position, **{kind: text}))
        if position not in running:
            assert self.run_now == before, "a result that nobody waits for is not used"

    @rule(really=seldom)
    def cancels(self, really: bool) -> None:
        """Somebody cancels the run."""
        if really:
            self.watch(self.play.cancel)

    @rule(content=words)
    def chats(self, content: str) -> None:
        """Somebody tells the model more."""
        self.message("send_message", {"content": content, "by": "bob"})

    @precondition(lambda self: self.run_now.requirements)
    @rule(index=positions, write=ways_to_write_an_id, by=spellings)
    def approves(self, index: int, write: Callable[[str], str], by: str) -> None:
        """Somebody approves a requirement: one that waits, or any other."""
        self.message("approve", {"id": write(self.an_id(index)), "by": by})

    @precondition(lambda self: self.run_now.pending)
    @rule(index=positions, by=spellings)
    def approves_what_waits(self, index: int, by: str) -> None:
        """Somebody approves a requirement that waits."""
        pending = self.run_now.pending
        self.message("decide", {"id": pending[index % len(pending)].short_id, "by": by, "verdict": "approve"})

    @precondition(lambda self: self.run_now.requirements)
    @rule(index=positions, write=ways_to_write_an_id, by=spellings)
    def rejects(self, index: int, write: Callable[[str], str], by: str) -> None:
        """Somebody rejects a requirement."""
        self.message("reject", {"id": write(self.an_id(index)), "by": by, "reason": "no"})

    @precondition(lambda self: self.run_now.requirements)
    @rule(index=positions, by=spellings, output=json_values)
    def hands_in(self, index: int, by: str, output: JsonValue) -> None:
        """Somebody hands in a result, for a call that takes one or for one that does not."""
        self.message("deliver", {"id": self.an_id(index), "by": by, "output": output})

    @rule(name=message_names, index=positions, by=spellings, more=extras, garbage=st.none() | st.lists(json_values))
    def sends_something_odd(
        self, name: str, index: int, by: str, more: dict[str, JsonValue], garbage: list[JsonValue] | None
    ) -> None:
        """A message with fields that fit or do not, or with any JSON at all."""
        if garbage is None and self.run_now.requirements:
            self.message(name, {"id": self.an_id(index), "by": by, **more})
        else:
            self.message(name, *(garbage or []))

    # -- how it is watched --------------------------------------------------------------------------------------------

    def an_id(self, index: int) -> str:
        """The id of one of the requirements."""
        return self.run_now.requirements[index % len(self.run_now.requirements)].id

    def message(self, name: str, *arguments: JsonValue) -> None:
        """A message arrives; it counts, or it is kept."""
        step = self.watch(lambda: self.play.send(name, *arguments))
        body = arguments[0] if arguments else None
        result = step.result
        assert result is not None
        if result.status not in COUNTED:
            self.not_counted += 1
            assert not step.commands, "what does not count changes nothing"
        elif result.requirement_id is None:
            assert isinstance(body, dict)
            self.said.append(str(body["content"]).strip())
        else:
            assert isinstance(body, dict)
            self.vote_counted(result, str(body["by"]))

    def vote_counted(self, result: DecisionResult, by: str) -> None:
        """A vote counted: by somebody who may, once."""
        requirement = self.requirement(result.requirement_id)
        person, request = PERSON[by], self.run_now.request
        if requirement.approvers is not None:
            assert person in {PERSON[name] for name in requirement.approvers}
        if result.status in {"executed", "failed"}:
            assert requirement.kind == "external", "only an external call takes a result"
        if result.status not in {"approved", "recorded"}:
            return
        assert requirement.kind == "confirmation", "only a confirmation is approved"
        voters = self.voters.setdefault(requirement.id, set())
        assert person not in voters, "one person is one vote"
        if request and request.requested_by and not requirement.self_approval:
            assert person != PERSON[request.requested_by], "who asked may not approve"
        voters.add(person)

    def requirement(self, identity: str | None) -> Requirement:
        """The requirement of this id."""
        return next(each for each in self.run_now.requirements if each.id == identity)

    def watch(self, happen: Callable[[], object]) -> Step:
        """Let something happen, and compare the run before and after."""
        before, commands = self.run_now, len(self.play.commands)
        answer = happen()
        result = answer if isinstance(answer, DecisionResult) else None
        step = Step(self.run_now, tuple(self.play.commands[commands:]), result)
        if before.ended:
            assert not step.commands, "nothing after the end"
            assert without_attempts(before) == without_attempts(step.run), "only attempts are kept after the end"
        now = {each.id: each for each in step.run.requirements}
        for each in before.requirements:
            assert each.status in {"pending", now[each.id].status}, "a terminal state is never left"
        for command in step.commands:
            if isinstance(command, CallModel):
                self.model_is_called(command)
        return step

    def model_is_called(self, command: CallModel) -> None:
        """What a model call carries and what it names make up the conversation, with every call answered once."""
        call = through_json(command.input)
        if call.prefix is not None:
            assert call.prefix.length == len(self.rebuilt)
            assert call.prefix.digest == digest_of(self.rebuilt)
        else:
            assert not self.rebuilt
        self.rebuilt += call.delta
        asked = [item["call_id"] for item in self.rebuilt if item.get("type") == "function_call"]
        answered = [item["call_id"] for item in self.rebuilt if item.get("type") == "function_call_output"]
        assert answered == asked, "every call is answered once, in order"
        assert not self.run_now.queued, "the model reads what was queued"

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def no_call_runs_twice(self) -> None:
        """Each call has at most one command in the whole life of its run."""
        counts = Counter((command.turn, command.position) for command in self.play.ran)
        assert all(count == 1 for count in counts.values())

    @invariant()
    def only_what_was_allowed_or_approved_runs(self) -> None:
        """A tool runs because its gate allows it, or because as many people as it takes approved exactly this."""
        for command in self.play.ran:
            gate = self.gates[command.turn, command.position]
            assert gate is not None
            assert gate.verdict in {"allow", "ask"}
            assert (command.input.authorization is not None) == (gate.verdict == "ask")
            if gate.verdict == "ask":
                self.was_approved(command, gate)
            call = ToolCallInput.model_validate_json(command.input.model_dump_json(exclude_unset=True))
            now = self.play.at
            assert refusal(TOOLS[command.tool], call, None, workflow_id=WORKFLOW_ID, now=now) is None

    def was_approved(self, command: RunTool, gate: Gate) -> None:
        """As many people as the gate wants approved the call, and its authorization says so."""
        shown = command.input.authorization
        assert shown is not None
        requirement = self.requirement(shown.requirement_id)
        assert requirement.status == "approved"
        assert len(self.voters[requirement.id]) == gate.needed
        assert len({fold_name(name) for name in shown.approved_by}) == gate.needed
        assert shown.requirement_id == requirement_id(
            workflow_id=WORKFLOW_ID,
            nonce=shown.nonce,
            call_id=command.input.call_id,
            tool=command.tool,
            arguments=command.input.arguments,
            policy_version=shown.policy_version,
            needed=gate.needed,
            expires_at=gate.expires_at,
        )

    @invariant()
    def the_conversation_is_what_was_said(self) -> None:
        """What model calls carried, with what the model answered, is the conversation; and so is its digest."""
        conversation = self.run_now.conversation
        assert list(conversation.items) == self.rebuilt
        assert conversation.digest == digest_of(self.rebuilt)
        if not self.run_now.ended:
            words = [item for item in (*conversation.items, *self.run_now.queued) if item.get("role") == "user"]
            assert sorted(str(item["content"]) for item in words) == sorted(self.said), "no message is lost"

    @invariant()
    def at_most_one_model_call_is_under_way(self) -> None:
        """A model call is made when none is under way, and never beside a tool call."""
        run = self.run_now
        answered = sum(type(event).__name__ in {"ModelAnswered", "ModelFailed"} for event in self.play.events)
        if not run.ended:
            assert len(self.play.asked) - answered == int(run.model_running)
            assert not (run.model_running and any(call.running for call in run.calls))
        assert run.turn == len(self.play.asked) <= run.max_turns <= MAX_TURNS

    @invariant()
    def waiting_says_that_nothing_moves(self) -> None:
        """A run waits when something is pending and nothing runs; one that has ended has nothing open."""
        run, state = self.run_now, state_of(self.run_now)
        if run.ended:
            assert not run.pending
            assert state.running == 0
            assert all(each.execution != "running" for each in run.requirements)
        else:
            assert (run.status == "waiting") == bool(run.pending and not state.running)
            assert run.pending or state.running or not self.play.asked, "a run is never stuck"

    @invariant()
    def nothing_that_was_sent_vanishes(self) -> None:
        """What did not count is kept, bounded, and what the bound pushed out is counted."""
        assert len(self.run_now.attempts) <= KEPT
        assert len(self.run_now.attempts) + self.run_now.attempts_dropped == self.not_counted

    @invariant()
    def the_state_survives_as_json(self) -> None:
        """The state of a run is its durable JSON."""
        state = state_of(self.run_now)
        assert RunState.model_validate_json(state.model_dump_json()) == state


def without_attempts(run: Run) -> Run:
    """The run, without what did not count."""
    return replace(run, attempts=(), attempts_dropped=0)


def digest_of(items: list[Item]) -> str:
    """The running digest, worked out from its definition."""
    digest = ""
    for item in items:
        whole = ["assent.item.v1", digest, item]
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
    return digest


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
