"""A run as a test drives it, and the strategies from which the properties draw."""

# look-alikes are what this is about

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import JsonValue

from assent.agents.gates import Gatekeeper, Groups
from assent.agents.tool import GateContext, Tool
from assent.agents.tool_decorator import tool
from assent.core.events import (
    AskBudget,
    BudgetReached,
    CallModel,
    CancelRequested,
    Channel,
    CheckAnswered,
    CheckCall,
    Command,
    Event,
    Failure,
    MessageReceived,
    ModelAnswered,
    ModelFailed,
    RunTool,
    Started,
    TimeReached,
    ToolAnswered,
    ToolLost,
)
from assent.core.run_state import Run, Step
from assent.core.state_machine import decide
from assent.core.workflow_calls import CALL_ID, has_call
from assent.wire.conversation import Conversation
from assent.wire.policy import PermissionPolicy
from assent.wire.protocol import (
    Authorization,
    Checked,
    DecisionResult,
    Escalation,
    Gate,
    InputField,
    Item,
    ModelTurn,
    ToolCallInput,
    ToolOutcome,
    Verdict,
)
from assent.wire.requirements import Requirement

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN_ID: Final = "run-1"
MEBIBYTE: Final = "x" * 1024 * 1024
ALLOW: Final = Gate(verdict="allow")
ASK: Final = Gate(verdict="ask")
TO_B: Final = Gate(verdict="allow", agent="b")
EXTERNAL: Final = Gate(verdict="external")
INPUT: Final = Gate(verdict="input", fields=[InputField(name="amount", type={"type": "integer"})], self_approval=True)
ONCE: Final = Gate(verdict="ask", at_most_once=True)

HOSTILE: Final = (
    "plain",
    "`",
    "```\n# fake heading\n```",
    "````json\n{}\n`````",
    "a | b |\n|---|---|",
    "</code><script>alert(1)</script>",
    "[click](http://evil) **bold** ![i](x)",
    "line one\nline two\r\n- item\n\n> quote",
    "\x1b[2J\x1b[31mred\x07\x9b",
    "abc\u202edcba\u202c \u2066x\u2069",
    "a\u200bb\u2060c\ufeffd\u00ade",
    "é ü 中 😀",
    "'; rm -rf / #\\",
    " leading and trailing ",
)
"""Texts that a model or a person may send to hide something, or to break out of where it is shown."""

PEOPLE: Final = {
    "alice": ("alice", "Alice", "ＡＬＩＣＥ", "a\u200blice", " a l i c e "),
    "bob": ("bob", "BOB", "ｂｏｂ", "b\u2060ob", "bob\u200d"),
    "josé": ("josé", "JOSE\u0301", "jose\u200b\u0301", "Ｊｏｓé"),
    "carol": ("carol", "CAROL", "caro\ufe0fl"),
}
"""People, and the spellings under which they may appear."""


@tool
def look(to: str = "", amount: int = 0) -> str:
    """Look something up."""
    return f"{to} {amount}"


@tool(requires_confirmation=True)
def pay(to: str = "", amount: int = 0) -> str:
    """Pay somebody."""
    return f"{to} {amount}"


@tool(external_execution=True)
def deploy(to: str = "", amount: int = 0) -> str:
    """Deploy something, elsewhere."""
    return f"{to} {amount}"


@tool(user_input_fields=["amount"])
def transfer(amount: int, to: str = "") -> str:
    """Move some money; a person says how much."""
    return f"{to} {amount}"


TOOLS: Final[dict[str, Tool]] = {each.name: each for each in (look, pay, deploy, transfer)}


def gate_of(
    tool: Tool | None,
    *policies: PermissionPolicy | None,
    raw: str = "{}",
    groups: Groups | None = None,
    functions: bool = True,
) -> Gate:
    """The gate of one call that alice's run makes."""
    context = GateContext(
        run_id=RUN_ID, call_id="c0", tool=tool.name if tool else "ghost", agent="a", requested_by="alice"
    )
    return Gatekeeper(policies, groups, functions).gate(tool, context, raw)


def function_call(call_id: str, tool: str = "pay", arguments: str = "{}") -> Item:
    """The item with which a model asks for a tool."""
    return {"type": "function_call", "call_id": call_id, "name": tool, "arguments": arguments}


def said(text: str) -> Item:
    """The item with which a model says something."""
    return {"role": "assistant", "content": text}


def turn_of(*gates: Gate | None, tool: str = "pay", arguments: str = "{}", prefix: str = "c") -> ModelTurn:
    """A turn with one call of *tool* for each of *gates*; None is a call that the worker gave no gate."""
    named = [(f"{prefix}{number}", gate) for number, gate in enumerate(gates)]
    return ModelTurn(
        items=[function_call(call_id, tool, arguments) for call_id, _ in named],
        gates={call_id: gate for call_id, gate in named if gate is not None},
        policy_version="p1",
    )


@dataclass
class Play:
    """One run, driven event by event; every command it gave and every event it was told are kept."""

    run: Run = field(default_factory=Run)
    commands: list[Command] = field(default_factory=list[Command])
    events: list[Event] = field(default_factory=list[Event])
    at: datetime = NOW

    def tell(self, event: Event) -> Step:
        """What the event comes to."""
        step = self._decided(event)
        self.at += timedelta(seconds=1)
        return step

    def _decided(self, event: Event) -> Step:
        step = decide(self.run, event)
        self.decided(self.run, event, step)
        self.run = step.run
        self.events.append(event)
        for command in step.commands:  # In the order in which the workflow carries them out.
            self.commands.append(command)
            if isinstance(command, AskBudget):
                self._decided(BudgetReached(event.at, {command.call_id: f"nonce-{len(self.events)}"}))
        return step

    def decided(self, before: Run, event: Event, step: Step) -> None:
        """For those who look on: what an event did to the run."""

    def start(self, **request: object) -> Step:
        """Begin, by default for alice."""
        return self.begin({"agent": "a", "input": "do it", "requested_by": "alice", **request})

    def begin(self, *arguments: object) -> Step:
        """Begin with exactly these inputs."""
        nonces = {CALL_ID: "nonce-0"} if has_call(arguments) else {}
        return self.tell(Started(self.at, RUN_ID, "r1", "r1", arguments, nonces=nonces))

    def ask(self, gate: Gate = ASK, arguments: str = "{}", *, activity: bool = False, **call: object) -> Step:
        """Begin a run in which workflow code asks people about a call of `pay`, for alice."""
        asked = {"tool": "pay", "arguments": arguments, "gate": gate.model_dump(mode="json", exclude_unset=True)}
        request = {"agent": "Payout", "input": "", "requested_by": "alice"}
        return self.begin({**request, "call": {**asked, "activity": activity, **call}})

    def model(self, turn: ModelTurn) -> Step:
        """The model answers; every call gets a nonce of its own."""
        calls = [item for item in turn.items if item.get("type") == "function_call"]
        nonces = {str(call["call_id"]): f"nonce-{len(self.events)}-{call['call_id']}" for call in calls}
        return self.tell(ModelAnswered(self.at, turn, nonces))

    def answer(self, text: str = "done") -> Step:
        """The model gives its final answer."""
        return self.model(ModelTurn(items=[said(text)]))

    def model_fails(self) -> Step:
        """The model call fails for good."""
        return self.tell(ModelFailed(self.at, Failure("BadRequest", "no")))

    def tool(self, position: int = 0, output: str | None = None, **outcome: object) -> Step:
        """The call at *position* comes back."""
        return self.comes(position, {"output": output, **outcome})

    def comes(self, position: int, outcome: Mapping[str, object]) -> Step:
        """The call at *position* comes back with these fields of an outcome."""
        came = ToolOutcome.model_validate(outcome)
        return self.tell(ToolAnswered(self.at, position, came, self._nonces(position)))

    def lose(self, position: int = 0) -> Step:
        """The worker of the call at *position* is lost."""
        return self.tell(ToolLost(self.at, position, Failure("Timeout", "heartbeat"), self._nonces(position)))

    def _nonces(self, position: int) -> dict[str, str]:
        known = [call.call.call_id for call in self.run.calls[position : position + 1]]
        return {call_id: f"nonce-{len(self.events)}-{call_id}" for call_id in known}

    def wait(self, **span: float) -> Step:
        """Time passes, and the run's timer fires."""
        self.at += timedelta(**span)
        return self.tell(TimeReached(self.at))

    def check(self, problem: str | None = None, gate: Gate | None = ASK, number: int | None = None) -> DecisionResult:
        """A worker has checked something that was sent: the newest, if no other *number* is given."""
        wanted = number if number is not None else self.run.checks_made
        return self.checked(wanted, Checked(problem=problem, gate=gate, policy_version="p2"))

    def checked(self, number: int, found: Checked | Failure) -> DecisionResult:
        """What a check came to, and what whoever waits for it is told."""
        result = self.tell(CheckAnswered(self.at, number, found)).result
        assert result is not None, "whoever waits for a check is answered"
        return result

    def edit(
        self, by: str = "bob", position: int = 0, *, gate: Gate | None = ASK, **arguments: object
    ) -> DecisionResult:
        """Somebody approves with other arguments, which a worker checks and finds nothing wrong with."""
        self.offer("approve", {"id": self.run.requirements[position].id, "by": by, "arguments": arguments})
        return self.check(gate=gate)

    def offer(self, name: str, *arguments: object, channel: Channel = "signal") -> Step:
        """A message arrives that may have to be checked first."""
        return self.tell(MessageReceived(self.at, name, arguments, channel))

    def cancel(self) -> Step:
        """Somebody cancels the run."""
        return self.tell(CancelRequested(self.at))

    def send(self, name: str, *arguments: object, channel: Channel = "signal") -> DecisionResult:
        """A message arrives."""
        result = self.offer(name, *arguments, channel=channel).result
        assert result is not None, "every message is answered"
        return result

    def approve(self, by: str = "bob", position: int = 0, **fields: object) -> DecisionResult:
        """Somebody approves the requirement at *position*."""
        return self.send("approve", {"id": self.run.requirements[position].id, "by": by, **fields})

    def reject(self, by: str = "bob", position: int = 0, reason: str = "no", **fields: object) -> DecisionResult:
        """Somebody rejects the requirement at *position*."""
        return self.send("reject", {"id": self.run.requirements[position].id, "by": by, "reason": reason, **fields})

    def submit(self, by: str = "bob", position: int = 0, **fields: object) -> DecisionResult:
        """Somebody hands in a result for the requirement at *position*."""
        return self.send("submit_result", {"id": self.run.requirements[position].id, "by": by, **fields})

    @property
    def requirement(self) -> Requirement:
        """The only requirement there is."""
        (found,) = self.run.requirements
        return found

    @property
    def ran(self) -> list[RunTool]:
        """The tools that were run."""
        return [command for command in self.commands if isinstance(command, RunTool)]

    @property
    def checks(self) -> list[CheckCall]:
        """What a worker was given to check."""
        return [command for command in self.commands if isinstance(command, CheckCall)]

    @property
    def asked(self) -> list[CallModel]:
        """The model calls that were made."""
        return [command for command in self.commands if isinstance(command, CallModel)]

    @property
    def told(self) -> list[str]:
        """What the model was told about its calls, in the order of the conversation."""
        return outputs(self.run.conversation)


def outputs(conversation: Conversation) -> list[str]:
    """The outputs of function calls in a conversation."""
    return [str(item["output"]) for item in conversation.items if item.get("type") == "function_call_output"]


def playing(*gates: Gate | None, arguments: str = "{}", notices: bool = False, **request: object) -> Play:
    """A run for alice whose first turn makes one call of `pay` for each of *gates*."""
    play = Play()
    play.start(**request)
    turn = turn_of(*gates, arguments=arguments)
    play.model(turn.model_copy(update={"notices": notices}))
    return play


def approved_call(arguments: str = '{"to": "A", "amount": 1}', gate: Gate = ASK) -> ToolCallInput:
    """The input of a call of `pay` that as many people approved as it needs, as its activity reads it."""
    play = playing(gate, arguments=arguments)
    for number in range(gate.needed):
        play.approve(by=f"approver {number}")
    (command,) = play.ran
    return ToolCallInput.model_validate_json(command.input.model_dump_json(exclude_unset=True))


def authorization_of(call: ToolCallInput) -> Authorization:
    """The authorization of a call that has one."""
    assert call.authorization is not None
    return call.authorization


# -- strategies -------------------------------------------------------------------------------------------------------

# What any client can get through a JSON decoder: no lone surrogates, but NaN and the infinities (`1e999`) do arrive.
texts: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values: SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
people: Final = st.sampled_from(sorted(PEOPLE))
spellings: Final = people.flatmap(lambda person: st.sampled_from(PEOPLE[person]))
message_names: Final = st.sampled_from(
    ["approve", "reject", "submit_result", "submit_input", "send_message", "revoke", "decide", "deliver", "aprove", ""]
)


def _deadline(minutes: int, offset: tzinfo) -> datetime:
    return (NOW + timedelta(days=3650, minutes=minutes)).astimezone(offset)


def _written(fields: dict[str, JsonValue], indent: int | None, ascii_only: bool) -> str:
    return json.dumps(fields, indent=indent, ensure_ascii=ascii_only)


offsets: Final[list[tzinfo]] = [UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=5, minutes=30))]
deadlines: Final = st.none() | st.builds(_deadline, st.integers(0, 1000), st.sampled_from(offsets))
written_arguments: Final = st.builds(
    _written,
    st.fixed_dictionaries({}, optional={"to": texts, "amount": st.integers(-9, 10**6)}),
    st.none() | st.integers(0, 3),
    st.booleans(),
)


def gates_of(verdict: Verdict) -> SearchStrategy[Gate]:
    """Gates with this verdict and any terms."""
    return st.builds(
        Gate,
        verdict=st.just(verdict),
        needed=st.integers(1, 3),
        approvers=st.just(None) | st.just(None) | st.lists(spellings, max_size=4),
        self_approval=st.booleans(),
        at_most_once=st.booleans(),
        reason=st.none() | texts,
    )


spans: Final = st.sampled_from([0.001, 1.0, 2.0, 60.0, 3_600.0, 86_400.0])
"""Seconds, short and long."""


def timed_gates_of(verdict: Verdict) -> SearchStrategy[Gate]:
    """As `gates_of`, with what time does to them and with everything else that a worker may say."""
    steps = st.lists(st.builds(Escalation, after=spans, approvers=st.lists(spellings, max_size=2)), max_size=2)
    return st.builds(
        _with_more,
        gates_of(verdict),
        expires_after=st.none() | spans,
        remind_every=st.none() | st.none() | spans,
        escalations=steps.map(lambda found: sorted(found, key=lambda step: step.after)),
        checked=st.booleans(),
        stop=st.sampled_from([False, False, False, True]),
    )


def _with_more(gate: Gate, **more: object) -> Gate:
    needed = gate.needed if gate.verdict == "ask" else 1  # What decorators refuse, no worker says.
    return gate.model_copy(update={**more, "needed": needed, "fields": INPUT.fields if gate.verdict == "input" else []})


verdicts: Final[list[Verdict]] = ["ask", "ask", "ask", "ask", "allow", "external", "input", "deny", "invalid"]
gates: Final = st.sampled_from(verdicts).flatmap(timed_gates_of)
