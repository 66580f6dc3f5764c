"""The figures. Each runs both sides in turns, A B B A, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from statistics import quantiles
from typing import Final

from assent import AgentClient
from assent.runtime.embedded_server import free_port
from bench.asking import asked
from bench.asking_workflows import Asking, BareAsking
from bench.auditing import measured
from bench.gated import left_by, long_run
from bench.inbox import both, fill, page
from bench.long import PART, early_and_late, left_behind
from bench.memory import of_a_worker
from bench.peered import compared
from bench.processes import cpu_of, cpu_seconds, running, until
from bench.replaying import Replays
from bench.report import Figure, Line
from bench.server_calls import server_calls
from bench.sides import Assent, Side
from bench.stage import Stage
from bench.storm import approved_at_once, tasks_added_by_a_gate
from bench.task import GUARDED, WORK, Task
from bench.team import OTHERS, Team
from bench.watched import watched

CONCURRENT: Final = 64
SETTLE: Final = 0.05
"""Seconds for the server to have written what a pause leaves to write, before it is approved."""
REST: Final = 1.0
"""Seconds between two readings of the inbox: the dev server limits its reads, and the SDK would retry in silence."""


@dataclass(frozen=True)
class Scale:
    """How much is measured: repetitions, and sizes."""

    turns: int = 30
    turn_pairs: int = 12
    runs: int = 128
    throughput_pairs: int = 4
    histories: tuple[int, ...] = (10, 50, 100, 200, 1_000, 2_000)
    long_turns: int = 1_000
    replay_turns: int = 332
    replays: int = 5
    waiting: int = 2_000
    most_waiting: int = 10_000
    cached: int = 500
    teams: int = 3
    gated: int = 200
    long_gated: int = 10_000
    approvals: int = 60
    pending: int = 1_000
    lists: int = 5
    inbox: int = 10_000
    starts: int = 6
    approved: int = 1_000
    storms: int = 1
    watched: int = 200
    audit_turns: int = 1_000
    peer_turns: Mapping[int, int] = field(default_factory=lambda: {10: 4, 40: 3, 80: 3, 200: 1, 250: 1})
    peer_runs: int = 64


FULL: Final = Scale()
QUICK: Final = Scale(
    turns=10,
    turn_pairs=2,
    runs=48,
    throughput_pairs=1,
    histories=(10, 20),
    long_turns=0,
    replay_turns=20,
    replays=2,
    waiting=100,
    most_waiting=0,
    cached=25,
    teams=1,
    gated=20,
    long_gated=0,
    approvals=4,
    pending=100,
    lists=2,
    inbox=0,
    starts=1,
    approved=50,
    watched=0,
    audit_turns=0,
    peer_turns={10: 1},
    peer_runs=16,
)


@dataclass
class Pairs:
    """Measurements of both sides, pair by pair."""

    assent: list[float] = field(default_factory=list[float])
    bare: list[float] = field(default_factory=list[float])

    def add(self, side: Side, stage: Stage, value: float) -> None:
        """Add one side's."""
        (self.assent if side is stage.assent else self.bare).append(value)


def _in_turns(stage: Stage, pairs: int) -> Iterable[Side]:
    for number in range(pairs):
        yield from stage.sides if number % 2 == 0 else reversed(stage.sides)


async def turn(stage: Stage, scale: Scale) -> list[Figure]:
    """One run at a time."""
    wall, cpu = Pairs(), Pairs()
    for side in _in_turns(stage, scale.turn_pairs):
        before, begun = cpu_seconds(stage.worker(side)), time.perf_counter()
        await side.run(Task(turns=scale.turns))
        wall.add(side, stage, (time.perf_counter() - begun) * 1_000 / scale.turns)
        cpu.add(side, stage, (cpu_seconds(stage.worker(side)) - before) * 1_000 / scale.turns)
    return [
        Figure("turn", f"a turn, run of {scale.turns}", "ms", wall.assent, wall.bare, limit=1.15),
        Figure("turn", "processor time of the worker, a turn", "ms", cpu.assent, cpu.bare),
    ]


async def telemetry(stage: Stage, scale: Scale) -> list[Figure]:
    """As `turn`, with traces and metrics on, beside the same worker without."""
    address = f"127.0.0.1:{free_port()}"
    variables = {**stage.assent.variables, "ASSENT_METRICS_ADDRESS": address}
    on = Assent(stage.assent.temporal, variables, "bench.traced_agents")
    return await _beside_own(stage, scale, on, "telemetry", "traces and metrics on; bare: off", 1.05)


async def team(stage: Stage, scale: Scale) -> list[Figure]:
    """As `turn`, in a team's worker with the plugin, where other workflows wait; and the memory of what waits."""
    side = Team(stage.assent.temporal, stage.assent.variables)
    what = f"plugin, {OTHERS} other workflows; bare: own worker"
    figures = await _beside_own(stage, scale, side, "team", what, 1.02)
    ours, bare = list[float](), list[float]()
    for _ in range(scale.teams):
        ours.append(await side.memory(Asking, scale.cached))
        bare.append(await side.memory(BareAsking, scale.cached))
    what = f"each of {scale.cached} workflows that wait for an approval"
    return [*figures, Figure("team", f"memory of {what}", "KiB", ours, bare, limit=1.2)]


async def _beside_own(stage: Stage, scale: Scale, side: Assent, name: str, what: str, limit: float) -> list[Figure]:
    """A turn in another worker of Assent, beside a turn in its own as it is."""
    own = stage.assent
    wall, cpu = {side: list[float](), own: list[float]()}, {side: list[float](), own: list[float]()}
    async with side.worker() as process:
        workers = {side: process, own: stage.worker(own)}
        await side.warm_up()
        for number in range(2 * scale.turn_pairs):
            for each in (side, own) if number % 2 else (own, side):
                before, begun = cpu_seconds(workers[each]), time.perf_counter()
                await each.run(Task(turns=scale.turns))
                wall[each].append((time.perf_counter() - begun) * 1_000 / scale.turns)
                cpu[each].append((cpu_seconds(workers[each]) - before) * 1_000 / scale.turns)
    return [
        Figure(name, f"a turn, {what}", "ms", wall[side], wall[own], limit=limit),
        Figure(name, "processor time of the worker, a turn", "ms", cpu[side], cpu[own]),
    ]


async def gated(stage: Stage, scale: Scale) -> list[Figure]:
    """Many calls of one turn that are each approved, beside as many without a gate; and a run of very many."""
    side, calls = stage.assent, scale.gated
    ours, free = await left_by(side, GUARDED, calls), await left_by(side, WORK, calls)
    what = f"{calls} gated calls in a turn; bare: without a gate"
    figures = [
        Figure("gated", what, "KiB", [ours.kib], [free.kib], limit=3),
        Figure("gated", what, "events", [ours.events], [free.events], limit=3),
    ]
    if scale.long_gated:
        found = await long_run(side, scale.long_gated)
        what = f"a run of {scale.long_gated:,} gated calls"
        figures += [
            Figure("gated", f"{what}, {found.left.executions} executions", "s", [found.seconds], []),
            Figure("gated", f"{what}: a call of the last tenth; bare: first", "ms", [found.last], [found.first]),
            Figure("gated", f"{what}: its worker; bare: before", "MiB", [found.after], [found.before]),
        ]
    return figures


async def throughput(stage: Stage, scale: Scale) -> list[Figure]:
    """Many runs at once."""
    rate, cpu = Pairs(), Pairs()
    turns = 4
    for side in _in_turns(stage, scale.throughput_pairs):
        before, begun = cpu_seconds(stage.worker(side)), time.perf_counter()
        await _side_by_side(side.run, [Task(turns=turns) for _ in range(scale.runs)])
        rate.add(side, stage, scale.runs / (time.perf_counter() - begun))
        cpu.add(side, stage, (cpu_seconds(stage.worker(side)) - before) * 1_000 / scale.runs)
    what = f"runs of {turns} turns, {CONCURRENT} at once"
    return [
        Figure("throughput", what, "/s", rate.assent, rate.bare, limit=0.85, higher=True),
        Figure("throughput", "processor time of the worker, a run", "ms", cpu.assent, cpu.bare),
    ]


async def history(stage: Stage, scale: Scale) -> list[Figure]:
    """What a run leaves behind, as the server counts it, in all executions that the run went on in."""
    figures: list[Figure] = []
    for turns in scale.histories:
        size, events = Pairs(), Pairs()
        for side in stage.sides:
            left = await left_behind(side.temporal, await stage.finished(side, turns))
            size.add(side, stage, left.kib)
            events.add(side, stage, left.events)
        limit = 1.3 if turns == 100 else None
        figures += [
            Figure("history", f"{turns:,} turns of 1 KiB results", "KiB", size.assent, size.bare, limit=limit),
            Figure("history", f"{turns:,} turns", "events", events.assent, events.bare),
        ]
    return figures


async def long(stage: Stage, scale: Scale) -> list[Figure]:
    """Whether the last turns of a long run take longer than its first ones."""
    if not scale.long_turns:
        return []
    early, late, growth = Pairs(), Pairs(), Pairs()
    for side in stage.sides:
        first, last = await early_and_late(side.temporal, await stage.finished(side, scale.long_turns))
        early.add(side, stage, first)
        late.add(side, stage, last)
        growth.add(side, stage, last / first)
    what = f"of a run of {scale.long_turns:,}"
    return [
        Figure("long", f"a turn, the first {PART} {what}", "ms", early.assent, early.bare),
        Figure("long", f"a turn, the last {PART} {what}", "ms", late.assent, late.bare),
        Figure("long", f"the last {PART} beside the first {PART}", "times", growth.assent, growth.bare),
    ]


async def replay(stage: Stage, scale: Scale) -> list[Figure]:
    """What a worker takes to rebuild a run that it no longer has in memory."""
    replays = await Replays.of(stage, scale.replay_turns)
    wall = Pairs()
    for side in _in_turns(stage, scale.replays):
        wall.add(side, stage, await replays.milliseconds(side))
    what = f"a history of {replays.events(stage.assent):,} events"
    return [Figure("replay", what, "ms", wall.assent, wall.bare)]


async def memory(stage: Stage, scale: Scale) -> list[Figure]:
    """A worker's memory, with more runs that wait than it keeps. Most of them for Assent alone: they take minutes."""
    steps = [scale.waiting, scale.most_waiting] if scale.most_waiting else [scale.waiting]
    assent = await of_a_worker(stage.assent, steps, scale.cached)
    bare = await of_a_worker(stage.bare, [scale.waiting], scale.cached)
    figures = [Figure("memory", "a worker after its first run", "MiB", [assent[0].mib], [bare[0].mib])]
    for ours, theirs in zip_longest(assent[1:], bare[1:]):
        what = f"{ours.runs:,} runs that wait"
        figures += [
            Figure(
                "memory", f"with {what}, {scale.cached} in memory", "MiB", [ours.mib], [theirs.mib] if theirs else []
            ),
            Figure("memory", f"until there are {what}", "s", [ours.seconds], [theirs.seconds] if theirs else []),
        ]
    return figures


async def approve(stage: Stage, scale: Scale) -> list[Figure]:
    """From the approver's call to the first line of the tool, by the one clock that all processes share."""
    wall, proven = Pairs(), list[float]()
    for side in _in_turns(stage, scale.approvals):
        wall.add(side, stage, await _signal_to_tool(side))
        if side is stage.assent:
            proven.append(await _signal_to_tool(side, stage.assent.sign))
    return [
        Figure("approve", "signal to the tool's first line", "ms", wall.assent, wall.bare, limit=1.2),
        Figure("approve", "the same with a proof, beside without", "ms", proven, wall.assent),
    ]


async def _signal_to_tool(side: Side, prepare: Callable[[str], Awaitable[None]] | None = None) -> float:
    run = await side.start(Task(turns=1, tool=GUARDED))
    await side.until_waiting(run)
    if prepare is not None:
        await prepare(run)
    await asyncio.sleep(SETTLE)
    begun = time.monotonic_ns()
    await side.approve(run)
    return (int(await side.result(run)) - begun) / 1e6


async def asking(stage: Stage, scale: Scale) -> list[Figure]:
    """`request_approval` in a workflow, beside a child workflow that waits for a signal; in this process."""
    ours, proven, bare = await asked(stage.assent.agents.temporal, scale.approvals)
    return [
        Figure("asking", "a workflow's start to its request in the inbox", "ms", ours.listed, bare.listed, limit=1.3),
        Figure("asking", "decision to the workflow's end", "ms", ours.decided, bare.decided, limit=1.3),
        Figure("asking", "decision to its end with a proof, beside without", "ms", proven.decided, ours.decided),
    ]


async def mcp(stage: Stage, scale: Scale) -> list[Figure]:
    """An allowed call of an MCP server's tool, beside a bare activity that makes the same; in this process."""
    ours, bare = await server_calls(stage.assent.agents.temporal, 10 * scale.approvals)
    return [Figure("mcp", "an allowed call, from its scheduling to its result", "ms", ours, bare, limit=1.15)]


async def storm(stage: Stage, scale: Scale) -> list[Figure]:
    """Everything that waits is approved at once; and what a gate adds to one call."""
    rate, tasks = Pairs(), Pairs()
    for side in _in_turns(stage, scale.storms):
        rate.add(side, stage, await approved_at_once(side, scale.approved))
    for side in stage.sides:
        tasks.add(side, stage, await tasks_added_by_a_gate(side))
    return [
        Figure("storm", f"{scale.approved:,} runs, all approved at once", "/s", rate.assent, rate.bare, higher=True),
        Figure("gate", "workflow tasks that an approval adds", "", tasks.assent, tasks.bare, limit=1, ratio=False),
    ]


async def watch(stage: Stage, scale: Scale) -> list[Figure]:
    """How soon somebody who watches a run is told of a message to it. Beside it: the SDK's own long poll."""
    if not scale.watched:
        return []
    assent, bare = await watched(stage.assent, scale.watched)
    ours, theirs = ([quantiles(times, n=100, method="inclusive")[-1]] for times in (assent, bare))
    what = f"{scale.watched} messages, each until it is told"
    return [
        Figure("watch", what, "ms", assent, bare, limit=300, ratio=False),
        Figure("watch", f"{what}: the 99th percentile", "ms", ours, theirs, limit=300, ratio=False),
    ]


async def start(stage: Stage, scale: Scale) -> list[Figure]:
    """From the start of a worker's process to the end of a run that was waiting for one."""
    wall, cpu = Pairs(), Pairs()
    for side in _in_turns(stage, scale.starts):
        async with side.aside():
            run = await side.start(Task(turns=0))
            begun = time.perf_counter()
            async with running(side.command, side.variables) as worker:
                await side.result(run)
                wall.add(side, stage, time.perf_counter() - begun)
                cpu.add(side, stage, cpu_seconds(worker))
    return [
        Figure("start", "worker's process to its first finished run", "s", wall.assent, wall.bare, limit=1.6),
        Figure("start", "processor time of the worker until then", "s", cpu.assent, cpu.bare),
    ]


async def help_(stage: Stage, scale: Scale) -> list[Figure]:
    """The processor time of `assent --help`. Beside it: a Python that does nothing."""
    del stage
    commands = (["-m", "assent.cli", "--help"], ["-c", "pass"])
    pairs = [await asyncio.to_thread(lambda: [cpu_of(each) for each in commands]) for _ in range(scale.starts + 1)]
    # The first of them writes the bytecode.
    assent, bare = zip(*pairs[1:], strict=True)
    return [Figure("help", "processor time of assent --help", "s", assent, bare, limit=0.35, ratio=False)]


async def pending(stage: Stage, scale: Scale) -> list[Figure]:
    """The inbox, with no worker running. Beside it: the same visibility query and memos by the SDK alone."""
    await _side_by_side(stage.assent.start, [Task(turns=1, tool=GUARDED) for _ in range(scale.pending)])
    client = stage.assent.agents.temporal

    async def listed() -> bool:
        return len(await AgentClient(client).pending()) == scale.pending

    await until(listed, 0.5)
    await stage.stop_worker(stage.assent)
    wall = Pairs()
    for side in _in_turns(stage, scale.lists):
        await asyncio.sleep(REST)
        begun = time.perf_counter()
        if side is stage.assent:
            found = sum(bool(each.arguments) for each in await AgentClient(client).pending())
        else:
            query = "WorkflowType = 'AgentRun' AND ExecutionStatus = 'Running' AND AssentPending > 0"
            found = len([await execution.memo() async for execution in client.list_workflows(query, page_size=1_000)])
        wall.add(side, stage, time.perf_counter() - begun)
        if found != scale.pending:
            message = f"{found} of {scale.pending} pending approvals were listed"
            raise RuntimeError(message)
    what = f"{scale.pending:,} approvals with arguments, worker stopped"
    return [Figure("pending", what, "s", wall.assent, wall.bare, limit=0.4, ratio=False)]


async def audit(stage: Stage, scale: Scale) -> list[Figure]:
    """The audit of a long run, in a process of its own. Beside it: reading the events of the same history."""
    if not scale.audit_turns:
        return []
    run = await stage.finished(stage.assent, scale.audit_turns)
    found: dict[str, list[tuple[float, float]]] = {"assent": [], "bare": [], "verified": []}
    for _ in range(scale.lists):
        for how, measurements in found.items():
            measurements.append(await measured(run, how, stage.assent.variables))
    what = f"audit of a run of {scale.audit_turns:,} turns"

    def column(how: str, index: int) -> list[float]:
        return [each[index] for each in found[how]]

    return [
        Figure("audit", what, "s", column("assent", 0), column("bare", 0), limit=3, ratio=False),
        Figure("audit", f"{what}, verified", "s", column("verified", 0), column("bare", 0)),
        Figure("audit", f"{what}: memory", "MiB", column("assent", 1), column("bare", 1)),
    ]


async def peers(stage: Stage, scale: Scale) -> Sequence[Line]:
    """The same turns with other libraries on Temporal, each in an environment of its own."""
    return await compared(stage, scale.peer_turns, scale.peer_runs)


async def pending_10000(stage: Stage, scale: Scale) -> list[Figure]:
    """The inbox of ten thousand runs, as rows that no run stands behind. Beside it: the server's own list."""
    if not scale.inbox:
        return []
    client = stage.assent.agents.temporal
    figures: list[Figure] = []
    for known, runs, limit in ((0, scale.pending, 0.15), (scale.pending, scale.inbox, 0.5)):
        await fill(client, runs, known)
        shown, listed = await page(client, scale.lists)
        what = f"first byte of the approvals page, {runs:,} waiting"
        figures.append(Figure("pending-10000", what, "s", shown, listed, limit=limit, ratio=False))
    for paged, limit in ((True, 0.5), (False, 10.0)):
        assent, bare = await both(client, scale.inbox, scale.lists, paged=paged)
        what = f"{'first page of 100' if paged else 'all'} of {scale.inbox:,} approvals, no worker"
        figures.append(Figure("pending-10000", what, "s", assent, bare, limit=limit, ratio=False))
    return figures


async def _side_by_side(work: Callable[[Task], Awaitable[object]], tasks: Iterable[Task]) -> None:
    gate = asyncio.Semaphore(CONCURRENT)

    async def one(task: Task) -> None:
        async with gate:
            await work(task)

    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(one(task))


MEASURES: Final[dict[str, Callable[[Stage, Scale], Awaitable[Sequence[Line]]]]] = {
    "turn": turn,
    "telemetry": telemetry,
    "team": team,
    "throughput": throughput,
    "history": history,
    "long": long,
    "replay": replay,
    "approve": approve,
    "asking": asking,
    "mcp": mcp,
    "storm": storm,
    "gated": gated,
    "watch": watch,
    "audit": audit,
    "peers": peers,
    "memory": memory,
    "start": start,
    "help": help_,
    "pending": pending,
    "pending-10000": pending_10000,
}
"""By name, in the order in which they are measured: from `pending` on Assent is without a worker."""
