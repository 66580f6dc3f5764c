"""Made-up runs: what models ask for, and people who decide what, twice, too late and wrongly; and what must hold."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Final

from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError

from assent import Requirement, RunHandle, RunState, ToolContext, approval, ask_user, tool
from assent.audit.records import Audit, SentMessage
from assent.audit.verifier import Verifier
from assent.client.client import AgentClient
from assent.testing import call
from tests.support import tools

PEOPLE: Final = ("ann", "bob", "carol", "Bob ", "alice", "mallory")
NOT_COUNTED: Final = {"duplicate", "late", "refused", "superseded", "unknown", "unreadable"}
SOON: Final = timedelta(milliseconds=700)


@approval(approvals=2, approvers=["ann", "bob", "carol"])
@tool
def wire(to: str, amount: int) -> str:
    """Wire money; it takes two people."""
    return f"wired {amount} to {to}"


@approval(expires_after=SOON, remind_every=SOON / 3, escalate=[(SOON / 2, ["carol"])], approvers=["ann"])
@tool
def wipe(what: str) -> str:
    """Wipe something; soon nobody may any more."""
    return f"wiped {what}"


@tool(user_input_fields=["seat"])
def book(flight: str, seat: str) -> str:
    """Book a seat on a flight."""
    return f"booked {seat} on {flight}"


@tool(external_execution=True)
def weigh(parcel: str) -> float:
    """Weigh a parcel; done at the counter."""
    raise NotImplementedError(parcel)


@tool(requires_confirmation=True, timeout=timedelta(milliseconds=300))
async def print_label(context: ToolContext, order: str) -> str:
    """Print a label; the first time the printer never answers."""
    tools.note(context, order)
    if len(tools.ran(context.run_id)) == 1:
        await asyncio.sleep(600)
    return f"printed {order}"


TOOLS: Final[list[Callable[..., object]]] = [*tools.ALL, wire, wipe, book, weigh, print_label, ask_user]
CALLS: Final = (
    call("look_up", key="k"),
    call("look_up", wrong="k"),
    call("pay", to="a", amount=1),
    call("pay", to="b", amount=2),
    call("pay", to="b"),
    call("restart", service="s"),
    call("ship", order="17"),
    call("break_down", how="badly"),
    call("no_such_tool"),
    call("wire", to="shop", amount=5),
    call("wipe", what="disk"),
    call("book", flight="f"),
    call("weigh", parcel="p"),
    call("print_label", order="o"),
    call("ask_user", question="Sure?", choices=["yes", "no"]),
)
AGENTS: Final = (
    call("ask_helper", input="Help."),
    call("ask_helper", input="Help again."),
    call("ask_helper", input=" "),
    call("ask_watcher", input="Look."),
    call("transfer_to_second"),
    call("transfer_to_third"),
)
"""Calls that other agents answer, or take the conversation over by."""


@dataclass
class Life:
    """One made-up run: what was sent to it for sure, and what may have been taken just as it ended."""

    random: Random
    client: AgentClient
    run: RunHandle
    sure: Counter[str] = field(default_factory=Counter[str])
    maybe: Counter[str] = field(default_factory=Counter[str])
    answers: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    sent: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list[tuple[str, tuple[Any, ...]]])
    below: dict[str, Life] = field(default_factory=dict[str, "Life"])

    # -- the runs below -----------------------------------------------------------------------------------------------

    def team(self) -> Iterator[Life]:
        """This run and those below it that it was seen to wait for."""
        yield self
        for life in self.below.values():
            yield from life.team()

    async def met(self, state: RunState) -> None:
        """Get to know the runs below, and theirs in turn; of each of them the same must hold."""
        for child in state.children:
            if child.run_id not in self.below:
                own = seeded(self.random.random())
                self.below[child.run_id] = Life(own, self.client, self.client.get_run(child.run_id))
        for life in self.below.values():
            await life.agreed()

    # -- what people do -----------------------------------------------------------------------------------------------

    async def act(self, state: RunState, *, is_served: bool) -> None:
        """Send something, of which much makes no sense."""
        for _ in range(self.random.randint(1, 4)):
            name, arguments = self.thought_of(state)
            if self.sent and self.random.random() < 1 / 5:
                name, arguments = self.random.choice(self.sent)
            self.sent.append((name, arguments))
            if is_served and self.random.random() < 1 / 2:
                await self.update(name, arguments)
            else:
                await self.signal(name, arguments)
        if self.random.random() < 1 / 25:
            await self.run.cancel()

    def thought_of(self, state: RunState) -> tuple[str, tuple[Any, ...]]:
        """A signal for one of the requirements, as often as not of the sort that it waits for."""
        requirement = self.chosen(state)
        wrong = self.random.random()
        if wrong < 1 / 12:
            return self.garbage(requirement.id if requirement else "ffffffff")
        if requirement is None or wrong < 1 / 6:
            return self.aside(state)
        body: dict[str, Any] = {"id": requirement.id[: self.random.choice([8, 64])], "by": self.random.choice(PEOPLE)}
        kind = requirement.kind if self.random.random() < 5 / 6 else self.random.choice(["input", "external"])
        if self.random.random() < 1 / 6:
            remembered = {"remember": {"uses": 1}} if self.random.random() < 1 / 5 else {}
            return "reject", ({**body, "reason": self.marked("no"), **remembered},)
        if kind == "input":
            asked = [each.name for each in requirement.fields] or ["seat"]
            values = {name: self.random.choice(["yes", "no", "12A", 5]) for name in asked}
            return "submit_input", ({**body, "values": values},)
        if kind == "external" or (kind == "outcome" and self.random.random() < 1 / 2):
            results: list[dict[str, Any]] = [{"output": 2.5}, {"output": "heavy"}, {"error": "dropped"}]
            result = self.random.choice(results)
            return "submit_result", ({**body, **result, "evidence": self.marked("photo")},)
        return "approve", ({**body, "reason": self.marked("yes"), **self.terms(requirement)},)

    def chosen(self, state: RunState) -> Requirement | None:
        """Mostly one that waits; sometimes one that is settled."""
        settled = self.random.random() < 1 / 8
        found = state.requirements if settled else state.active_requirements
        return self.random.choice(found) if found else None

    def terms(self, requirement: Requirement) -> dict[str, Any]:
        """What an approval may say besides: other arguments, a grant."""
        if self.random.random() < 1 / 5:
            other = {**requirement.tool_args, self.random.choice(["to", "amount"]): self.random.choice([7, "x"])}
            return {"arguments": other}
        if self.random.random() < 1 / 5:
            return {"remember": self.random.choice([{"uses": 1}, {"expires_after": 60}, {"uses": 0}])}
        return {}

    def aside(self, state: RunState) -> tuple[str, tuple[Any, ...]]:
        """A message for the model, or the end of a grant."""
        by = self.random.choice(PEOPLE)
        if state.grants and self.random.random() < 1 / 2:
            return "revoke", ({"id": self.random.choice(state.grants).id, "by": by, "reason": self.marked("stop")},)
        return "send_message", ({"content": self.marked("Hurry up."), "by": by},)

    def garbage(self, identity: str) -> tuple[str, tuple[Any, ...]]:
        """What nobody meant to send."""
        signs: list[tuple[str, tuple[Any, ...]]] = [
            ("approve", ()),
            ("approve", (5,)),
            ("approve", ({"id": identity}, {"by": "bob"})),
            ("aprove", ({"id": identity, "by": "bob"},)),
            ("reject", ({"id": identity, "by": "bob"},)),
            ("approve", ({"id": "ffffffff", "by": "bob"},)),
            ("submit_input", ({"id": identity, "by": "YOUR NAME", "values": {}},)),
        ]
        return self.random.choice(signs)

    def marked(self, text: str) -> str:
        """A text that is sent once."""
        return f"{text} {len(self.sent)}"

    # -- how it is sent -----------------------------------------------------------------------------------------------

    async def signal(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Send a signal; one that the server did not take was not sent."""
        try:
            await self.client.temporal.get_workflow_handle(self.run.id).signal(name, args=list(arguments))
        except RPCError:
            return
        self.sure[written("signal", name, arguments)] += 1

    async def update(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Send it as an update instead, which is refused at the door or answered."""
        body: Any = arguments[0] if arguments else None
        verdict, name = name, "decide" if name in {"approve", "reject", "revoke"} else "deliver"
        if name == "decide" and hasattr(body, "keys"):
            arguments = ({**body, "verdict": verdict},)
        key = written("update", name, arguments)
        handle = self.client.temporal.get_workflow_handle(self.run.id)
        try:
            answer: dict[str, str] = await handle.execute_update(name, args=list(arguments))
        except WorkflowUpdateFailedError as error:
            self.maybe[key] += "MessageError" not in repr(getattr(error.cause, "type", ""))
        except RPCError:
            self.maybe[key] += 1
        else:
            self.answers[key] = (answer["status"], answer.get("detail", ""))
            self.sure[key] += 1

    # -- what must hold -----------------------------------------------------------------------------------------------

    async def agreed(self) -> RunState:
        """The state at a pause, or at the end, of which run, audit and checks tell the same."""
        verifier, audit, different = await self.compared()
        for _ in range(100):
            if not different:
                break
            await asyncio.sleep(0.05)  # It was on its way into another execution, or its clock moved it.
            verifier, audit, different = await self.compared()
        assert not different, different
        found = verifier.verification(audit)
        assert found.ok, [problem for check in found.checks for problem in check.problems]
        assert found.complete
        self.nothing_vanished(audit)
        await self.met(audit.state)
        return audit.state

    async def compared(self) -> tuple[Verifier, Audit, dict[str, Any]]:
        """The audit of the run where it pauses, and in what the run says something else of itself."""
        verifier = Verifier(self.run.id)
        # Once, under load, 20 seconds were not enough; why is not known.
        async with asyncio.timeout(60):
            await self.run.until_paused()
            audit = await self.run.audit(verifier)
            live: dict[str, Any] = await self.client.temporal.get_workflow_handle(self.run.id).query("state")
        told = audit.state.model_dump(mode="json")
        # When something came that did not count may differ: the SDK makes one of two workflow tasks on replay where the
        # first gave no command and the second follows at once, as it does after an update refused at the door.
        for each in (*told["ignored_messages"], *live["ignored_messages"]):
            del each["at"]
        return verifier, audit, {name: (told[name], live[name]) for name in live if told[name] != live[name]}

    def nothing_vanished(self, audit: Audit) -> None:
        """Everything that was sent is in the records that it is about, once, with what it came to."""
        told = [each for approval in audit.approvals for each in approval.decisions]
        told += [each for grant in audit.grants for each in grant.decisions]
        placed = {cited(each): each for each in told}
        loose = [cited(each) for each in audit.messages]
        assert len(set(loose)) == len(loose)
        assert not placed.keys() & set(loose), "what is about a requirement is with it"
        every = [*placed.values(), *audit.messages]
        found = Counter(shown(each) for each in every)
        assert self.sure <= found <= self.sure + self.maybe, (self.sure, found, self.maybe)
        kept = sum(each.status in NOT_COUNTED for each in every)
        assert kept == len(audit.state.ignored_messages) + audit.state.ignored_dropped
        for each in every:
            key = shown(each)
            if found[key] == 1 and key in self.answers:
                assert (each.status, each.detail) == self.answers[key], "the record says what the sender was told"
        for record in audit.approvals:
            attempts = [each for each in record.decisions if each.status in NOT_COUNTED]
            assert len(attempts) >= len(record.ignored_messages)
            names = {(each.by or "").strip() for each in record.decisions}
            assert record.grant or record.follows or {vote.by for vote in record.votes} <= names


def cited(sent: SentMessage) -> tuple[str, int]:
    return sent.events[0].execution_id, sent.events[0].event_id


def written(channel: str, name: str, arguments: tuple[Any, ...]) -> str:
    return json.dumps([channel, name, *arguments], sort_keys=True)


def shown(sent: SentMessage) -> str:
    """What a record says was sent, as `written` writes it."""
    inputs = [json.loads(line) for line in sent.content.text.splitlines()]
    return written(sent.channel, sent.name, tuple(inputs))


def seeded(*seed: object) -> Random:
    return Random(str(seed))  # noqa: S311 - it makes runs up, and keeps no secret
