"""Random lives of a run: whatever happens, in whatever order, the promises hold after every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from pydantic import JsonValue

from assent import FilePart
from assent.core.events import CheckAnswered, Failure, TimeReached
from assent.wire.budget import Budget
from assent.wire.parts import content_json
from assent.wire.protocol import Checked, Gate, ModelTurn, Usage, Verdict
from tests.unit.core.budget_invariants import BUDGETS, USAGES, BudgetPromises
from tests.unit.core.run_invariants import fields_of
from tests.unit.strategies import (
    function_call,
    gates,
    json_values,
    message_names,
    said,
    spans,
    spellings,
    texts,
    timed_gates_of,
    written_arguments,
)

pytestmark = pytest.mark.slow

TOOL_OF = {"allow": "look", "ask": "pay", "external": "deploy", "input": "transfer"}
FOR_A_PERSON = '{"to": "A"}'
Wanted = list[tuple[Gate | None, str]]

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
edits = st.fixed_dictionaries({}, optional={"to": st.sampled_from(["A", "B"]), "amount": st.integers(0, 9)})
conditions = st.sampled_from([{"amount": {"at_most": 1000}}, {"to": ""}, {"amount": {"matches": "*"}}])
bounds = st.sampled_from([{"uses": 1}, {"uses": 3}, {"expires_after": 30}, {"expires_after": 9_000, "uses": 2}])
remembers = bounds | st.tuples(bounds, conditions).map(lambda both: {**both[0], "arguments": both[1]})
extras = st.fixed_dictionaries(
    {},
    optional={
        "reason": texts,
        "output": json_values,
        "error": texts,
        "values": json_values,
        "verdict": st.sampled_from(["approve", "reject", "revoke", "no"]),
        "arguments": st.just({}),
        "remember": st.just({"uses": 1}),
        "evidence": json_values,
    },
)
policies = st.sampled_from(["p1", "p1", "p2"])
some_budgets = st.none() | st.none() | BUDGETS
checked_gates = timed_gates_of("ask") | timed_gates_of("ask") | timed_gates_of("allow") | gates | st.none()


class Lives(BudgetPromises):
    """One run, told anything that could happen; what it promises is checked at every step."""

    # -- the run, its model and its tools -----------------------------------------------------------------------------

    @initialize(
        wanted=calls,
        early=st.lists(words, max_size=2),
        requested_by=st.none() | spellings,
        max_turns=st.none() | st.integers(2, 8),
        max_tool_calls=st.none() | st.none() | st.integers(0, 9),
        own=some_budgets,
        asked=some_budgets,
        usage=USAGES,
    )
    def starts(
        self,
        wanted: Wanted,
        early: list[str],
        requested_by: str | None,
        max_turns: int | None,
        max_tool_calls: int | None,
        own: dict[str, object] | None,
        asked: dict[str, object] | None,
        usage: Usage,
    ) -> None:
        """The run begins; messages may be there before it does."""
        for content in early:
            self.chats(content)
        limits = {"max_turns": max_turns, "max_tool_calls": max_tool_calls}
        self.begins(wanted, limits, requested_by=requested_by, own=own, asked=asked, usage=usage)

    def begins(
        self,
        wanted: Wanted,
        limits: Mapping[str, object],
        *,
        requested_by: str | None,
        own: dict[str, object] | None,
        asked: dict[str, object] | None,
        usage: Usage,
    ) -> None:
        """The run begins, and its model answers for the first time."""
        self.said.append("do it")
        self.watch(lambda: self.play.start(requested_by=requested_by, budget=asked, **limits))
        self.bounded(own, asked)
        self.answers(wanted, usage=usage, budget=own)

    @precondition(lambda self: self.run_now.model_running or self.run_now.ended)
    @rule(wanted=calls, policy=st.sampled_from(["p1", "p1", "p2"]), notices=st.booleans(), usage=USAGES)
    def model_asks_for_tools(self, wanted: Wanted, policy: str, notices: bool, usage: Usage) -> None:
        """The model answers with calls."""
        self.answers(wanted, policy=policy, notices=notices, usage=usage)

    @precondition(lambda self: self.run_now.model_running or self.run_now.ended)
    @rule(follow_up=st.sampled_from([True, True, True, False]), usage=USAGES)
    def model_answers(self, follow_up: bool, usage: Usage) -> None:
        """The model answers finally, or with something that does not fit the output type."""
        self.answers([], follow_up=follow_up, usage=usage)

    def answers(
        self,
        wanted: Wanted,
        *,
        usage: Usage,
        follow_up: bool = False,
        policy: str = "p1",
        notices: bool = True,
        budget: Mapping[str, object] | None = None,
    ) -> None:
        """The model answers."""
        turn = self.run_now.turn
        named = [(f"call-{turn}-{position}", gate, raw) for position, (gate, raw) in enumerate(wanted)]
        items = [said("words")]
        for call_id, gate, raw in named:
            tool = TOOL_OF.get(gate.verdict if gate else "", "pay")
            items.append(function_call(call_id, tool, FOR_A_PERSON if tool == "transfer" else raw))
        answer = ModelTurn(
            items=items,
            gates={call_id: gate for call_id, gate, _ in named if gate is not None},
            policy_version=policy,
            follow_up="again" if follow_up else None,
            notices=notices,
            usage=usage,
            budget=None if budget is None else Budget.model_validate(budget),
        )
        if not self.run_now.ended:
            self.used += usage
            for position, (_, gate, _) in enumerate(named):
                self.gates[turn, position] = gate
                self.licensed[turn, position] = 1
            self.rebuilt += items
            self.said += ["again"] if follow_up and not wanted else []
        self.watch(lambda: self.play.model(answer))

    @precondition(lambda self: self.run_now.model_running)
    @rule(really=seldom)
    def model_fails(self, really: bool) -> None:
        """The model call fails for good."""
        if really:
            self.watch(self.play.model_fails)

    def comes_back(self, choice: int, *, stray: bool = False) -> int | None:
        """A call that runs or, now and then, any other; None where there is none."""
        running = [position for position, call in enumerate(self.run_now.calls) if call.running]
        return choice if stray else running[choice % len(running)] if running else None

    @precondition(lambda self: self.run_now.calls)
    @rule(choice=positions, stray=seldom, kind=st.sampled_from(["output", "error", "refused"]), text=texts)
    def tool_returns(self, choice: int, stray: bool, kind: str, text: str) -> None:
        """A result arrives, for a call that runs or, now and then, for any other."""
        position = self.comes_back(choice, stray=stray)
        if position is not None:
            self.returned(position, **{kind: text})

    @precondition(lambda self: any(call.running for call in self.run_now.calls))
    @rule(choice=positions, seconds=spans)
    def no_worker_serves_it(self, choice: int, seconds: float) -> None:
        """The call came to a worker that does not know its agent."""
        position = self.comes_back(choice)
        assert position is not None
        self.licensed[self.run_now.turn, position] += 1
        self.returned(position, refused="not here", again_after=seconds)

    @precondition(lambda self: any(call.running for call in self.run_now.calls))
    @rule(choice=positions, data=st.data())
    def today_it_takes_more(self, choice: int, data: st.DataObject) -> None:
        """The call is refused by today's policy, which wants somebody to decide about it."""
        position = self.comes_back(choice)
        assert position is not None
        asks: Verdict = "input" if self.run_now.calls[position].call.tool == "transfer" else "ask"
        gate = data.draw(timed_gates_of(asks) | timed_gates_of("external"))
        self.gates[self.run_now.turn, position] = gate
        self.licensed[self.run_now.turn, position] += 1
        self.returned(position, refused="stricter", gate=gate, policy_version="p2")

    def returned(self, position: int, **outcome: object) -> None:
        """A result arrives."""
        before = self.run_now
        running = position < len(before.calls) and before.calls[position].running
        due = before.wake_at is not None and before.wake_at <= self.play.at
        self.watch(lambda: self.play.comes(position, outcome), returns=position)
        if not running and not due:
            assert self.run_now == before, "a result that nobody waits for is not used"

    @precondition(lambda self: any(call.running for call in self.run_now.calls))
    @rule(choice=positions)
    def worker_is_lost(self, choice: int) -> None:
        """The worker of a call is lost: somebody is asked what came of it, or the model is told."""
        position = self.comes_back(choice)
        assert position is not None
        call, known = self.run_now.calls[position], len(self.run_now.requirements)
        turn = self.run_now.turn
        self.watch(lambda: self.play.lose(position), returns=position)
        opened = self.run_now.requirements[known:]
        if [each.kind for each in opened] == ["outcome"]:
            self.licensed[turn, position] += 1
            assert call.gate.at_most_once
            assert opened[0].follows == call.requirement_id

    @rule(really=seldom)
    def cancels(self, really: bool) -> None:
        """Somebody cancels the run."""
        if really:
            self.watch(self.play.cancel)

    # -- time ---------------------------------------------------------------------------------------------------------

    @rule(seconds=spans, fires=st.booleans())
    def time_passes(self, seconds: float, fires: bool) -> None:
        """Time passes; the timer fires, or whatever happens next is the first to see how late it is."""
        if fires:
            self.timer = None
            self.watch(lambda: self.play.wait(seconds=seconds))
        else:
            self.play.at += timedelta(seconds=seconds)

    @precondition(lambda self: self.run_now.wake_at is not None)
    @rule()
    def timer_fires(self) -> None:
        """The timer fires at exactly the time it was set to, or as soon after as a worker can."""
        assert self.run_now.wake_at is not None
        self.play.at = max(self.play.at, self.run_now.wake_at)
        self.timer = None
        self.watch(lambda: self.play.tell(TimeReached(self.play.at)))

    # -- people -------------------------------------------------------------------------------------------------------

    @rule(content=words)
    def chats(self, content: str) -> None:
        """Somebody tells the model more."""
        self.message("send_message", {"content": content, "by": "bob"})

    @rule(data=st.sampled_from([b"a", b"b"]))
    def attaches(self, data: bytes) -> None:
        """Somebody gives the model a file."""
        file = FilePart(data=data, media_type="text/plain")
        self.message("send_message", {"content": content_json([file]), "by": "bob"})

    @precondition(lambda self: self.run_now.requirements)
    @rule(index=positions, write=ways_to_write_an_id, by=spellings)
    def approves(self, index: int, write: Callable[[str], str], by: str) -> None:
        """Somebody approves a requirement: one that waits, or any other."""
        self.message("approve", {"id": write(self.an_id(index)), "by": by})

    @precondition(lambda self: self.run_now.pending)
    @rule(
        index=positions,
        by=spellings,
        remember=st.none() | remembers,
        verdict=st.sampled_from(["approve", "approve", "approve", "reject"]),
    )
    def decides_what_waits(self, index: int, by: str, remember: Mapping[str, object] | None, verdict: str) -> None:
        """Somebody decides about a requirement that waits, and may have that remembered."""
        pending = self.run_now.pending
        more = {} if remember is None else {"remember": remember}
        body = {"id": pending[index % len(pending)].short_id, "by": by, "verdict": verdict, "reason": "so", **more}
        self.message("decide", body)

    @precondition(lambda self: any(each.kind == "budget" for each in self.run_now.pending))
    @rule(by=spellings, verdict=st.sampled_from(["approve", "approve", "approve", "reject"]))
    def decides_about_the_budget(self, by: str, verdict: str) -> None:
        """Somebody gives the run more, or no more."""
        asked = next(each for each in self.run_now.pending if each.kind == "budget")
        why = {"reason": "too dear"} if verdict == "reject" else {}
        self.message("decide", {"id": asked.id, "by": by, "verdict": verdict, **why})

    @precondition(lambda self: self.run_now.pending)
    @rule(index=positions, by=spellings, arguments=edits)
    def edits_what_waits(self, index: int, by: str, arguments: dict[str, JsonValue]) -> None:
        """Somebody approves a requirement that waits, with other arguments."""
        pending = self.run_now.pending
        self.message("approve", {"id": pending[index % len(pending)].id, "by": by, "arguments": arguments})

    @precondition(lambda self: self.run_now.pending)
    @rule(index=positions, by=spellings, amount=st.integers(0, 9))
    def answers_what_waits(self, index: int, by: str, amount: int) -> None:
        """Somebody fills something in or hands something in, as it is waited for."""
        pending = self.run_now.pending
        found = pending[index % len(pending)]
        what: dict[str, object] = {"values": {"amount": amount}} if found.kind == "input" else {"output": amount}
        self.message("deliver", {"id": found.id, "by": by, **what})

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

    @precondition(lambda self: self.run_now.grants)
    @rule(index=positions, write=ways_to_write_an_id, by=spellings, really=seldom)
    def revokes(self, index: int, write: Callable[[str], str], by: str, really: bool) -> None:
        """Somebody revokes a grant."""
        if really:
            grant = self.run_now.grants[index % len(self.run_now.grants)]
            self.message("revoke", {"id": write(grant.id), "by": by})

    @rule(name=message_names, index=positions, by=spellings, more=extras, garbage=st.none() | st.lists(json_values))
    def sends_something_odd(
        self, name: str, index: int, by: str, more: dict[str, JsonValue], garbage: list[JsonValue] | None
    ) -> None:
        """A message with fields that fit or do not, or with any JSON at all."""
        if garbage is None and self.run_now.requirements:
            self.message(name, {"id": self.an_id(index), "by": by, **more})
        else:
            self.message(name, *(garbage or []))

    @precondition(lambda self: self.run_now.checks)
    @rule(choice=positions, problem=st.none() | st.none() | texts, gate=checked_gates, fails=seldom, stray=seldom)
    def is_checked(self, choice: int, problem: str | None, gate: Gate | None, fails: bool, stray: bool) -> None:
        """A worker has checked one of the things that people sent, in whatever order, or could not."""
        before = self.run_now
        check = before.checks[choice % len(before.checks)]
        number = check.number + 1_000 if stray else check.number
        found = Failure("Timeout", "no worker") if fails else Checked(problem=problem, gate=gate, policy_version="p2")
        event = CheckAnswered(self.play.at, number, found)
        step = self.watch(lambda: self.play.tell(event), by=str(fields_of(check.event.arguments[0])["by"]))
        assert stray or step.result is not None or step.run.ended, "whoever waits for a check is answered"

    def an_id(self, index: int) -> str:
        """The id of one of the requirements."""
        return self.run_now.requirements[index % len(self.run_now.requirements)].id


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
