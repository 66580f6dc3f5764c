"""Agents for the soak under kills, and the scripts of their models. What their tools did is in the file of `LEDGER`."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from assent import Agent, OpenAIChat, OpenAIResponses, ToolContext, approval, tool
from assent.testing import Conversation, breaks_off, call, calls, fails, hangs, says
from assent.testing._script import Call, PlainStep

ONCE: Final = ("pay", "wire")
"""The tools that a person approves and that run at most once."""
AGAIN: Final = ("settle", "look_up")
"""Those that may be run again, and run at least once."""
OUTSIDE: Final = "hand_out"
_BEAT: Final = timedelta(seconds=2)
_FAULTS: Final = 0.1
"""Of all model calls."""


class Line(BaseModel):
    """One line of the ledger: a tool *began* or *ended*."""

    what: str
    run_id: str
    call_id: str
    key: str
    requirement_id: str | None
    attempt: int
    tool: str
    worker: int


def note(what: str, context: ToolContext) -> None:
    """Write a line and have it on the disk: who is killed right after has still written it."""
    line = Line(
        what=what,
        run_id=context.run_id,
        call_id=context.call_id,
        key=context.idempotency_key,
        requirement_id=context.requirement_id,
        attempt=context.attempt,
        tool=context.tool,
        worker=os.getpid(),
    )
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"{line.model_dump_json()}\n".encode())
    os.fsync(ledger)
    os.close(ledger)


def read(ledger: Path) -> list[Line]:
    """All lines of the ledger."""
    return [Line.model_validate_json(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def _seconds(context: ToolContext) -> float:
    return random.Random(context.idempotency_key + str(context.attempt)).uniform(0, 1)  # noqa: S311 - no secret


async def _work(context: ToolContext) -> str:
    note("began", context)
    await asyncio.sleep(_seconds(context))
    note("ended", context)
    return f"{context.tool} done"


@approval
@tool(requires_confirmation=True, heartbeat_timeout=_BEAT)
async def pay(context: ToolContext, number: int) -> str:
    """Pay a bill."""
    return await _work(context)


@approval
@tool(requires_confirmation=True, heartbeat_timeout=_BEAT)
def wire(context: ToolContext, number: int) -> str:
    """Wire money, in a thread."""
    note("began", context)
    time.sleep(_seconds(context))
    note("ended", context)
    return f"{context.tool} done"


@approval
@tool(requires_confirmation=True, idempotent=True, heartbeat_timeout=_BEAT)
async def settle(context: ToolContext, number: int) -> str:
    """Settle an account, which may be done again."""
    return await _work(context)


@tool(heartbeat_timeout=_BEAT, idempotent=True)
async def look_up(context: ToolContext, number: int) -> str:
    """Look something up."""
    return await _work(context)


@tool(external_execution=True)
def hand_out(number: int) -> str:
    """Hand something out; a person does it."""
    raise NotImplementedError


TOOLS: Final[list[Callable[..., object]]] = [pay, wire, settle, look_up, hand_out]
HAND_OVER: Final = "transfer_to_night"
helper = Agent(name="helper", model=OpenAIChat(id="soak", timeout=timedelta(seconds=20)), tools=TOOLS)
clerk = Agent(
    name="clerk", model=OpenAIResponses(id="soak", timeout=timedelta(seconds=20)), tools=[*TOOLS, helper.as_tool()]
)
BELOW: Final = clerk.as_tool()
night = Agent(name="night", model=OpenAIResponses(id="soak", timeout=timedelta(seconds=20)), tools=[*TOOLS, BELOW])
ops = Agent(
    name="ops", model=OpenAIResponses(id="soak", timeout=timedelta(seconds=20)), tools=[*TOOLS, BELOW], handoffs=[night]
)
desk = Agent(
    name="desk", model=OpenAIChat(id="soak", timeout=timedelta(seconds=20)), tools=[*TOOLS, BELOW], handoffs=[night]
)

Plan = list[list["str | Plan"]]
"""The tools that a run calls, turn by turn: its input, as JSON. A plan in the place of a tool is another agent's."""


def plan_of(seed: int, number: int) -> Plan:
    """What run *number* does. Each plan has every kind of tool somewhere among the runs."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311 - no secret
    plan = _plan(chance, chance.randint(2, 5))
    if number % 4 == 0:
        below = _plan(chance, chance.randint(1, 2))
        if number % 8 == 0:
            chance.choice(below).append(_plan(chance, 1))
        chance.choice(plan).append(below)
    if number % 6 == 0:
        chance.choice(plan).append(HAND_OVER)
    return plan


def _plan(chance: random.Random, turns: int) -> Plan:
    names = [*ONCE, *ONCE, *AGAIN, OUTSIDE]
    return [[*chance.choices(names, k=chance.choice((1, 1, 2, 3)))] for _ in range(turns)]


def _call(seen: Conversation, at: int, name: str | Plan) -> Call:
    if isinstance(name, list):
        [below] = [each for each in seen.tools if each.startswith("ask_")]
        return call(below, input=json.dumps(name))
    return call(name) if name == HAND_OVER else call(name, number=at)


def answers(seen: Conversation) -> list[PlainStep]:
    """What the plan says is next, or what came of all calls; slowly, and now and then after a fault."""
    plan: Plan = json.loads(seen.user[0])
    chance = random.Random(f"{seen.user[0]}{seen.turn}{list(seen.tool_outputs)}")  # noqa: S311 - no secret
    before: list[PlainStep] = [hangs(chance.uniform(0, 0.5))]
    fault = chance.random()
    if fault < _FAULTS:
        before.append(fails(500) if fault < _FAULTS / 2 else breaks_off())
    if seen.turn < len(plan):
        return [*before, calls(*(_call(seen, at, name) for at, name in enumerate(plan[seen.turn])))]
    return [*before, says(json.dumps(list(seen.tool_outputs.values())))]
