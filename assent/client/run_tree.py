"""Reads a run with its child runs, their child runs, and so on; and what waits in any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from temporalio.client import Client

from assent.audit.approval import Approval, pending_of
from assent.client.read import HistoryPosition, describe, has_changed, read
from assent.core.approvals import find_requirement
from assent.core.run_state import Run, state_of
from assent.views.commands import run_command, shell_quoted
from assent.views.facts import children_of
from assent.wire.errors import HistoryError, RunNotFoundError
from assent.wire.protocol import ChildRun
from assent.wire.requirements import RunState

ROUNDS: Final = 10
"""How often a tree that grew while it was read is read again."""


@dataclass(frozen=True)
class RunTree:
    """A run as it is now, with the *children* that it waits for.

    *path* has the agents from the outermost run to this one. *error* is why its history cannot be read.
    """

    state: RunState
    path: tuple[str, ...]
    seen: HistoryPosition
    children: tuple[RunTree, ...] = ()
    pending: tuple[Approval, ...] = ()
    error: str | None = None

    def runs(self) -> Iterator[RunTree]:
        """Yield this run and all its descendants.

        Example:
            `paths = [each.path for each in (await run.tree()).runs()]`
        """
        yield self
        for each in self.children:
            yield from each.runs()


async def read_tree(client: Client, run_id: str, execution_id: str | None = None) -> RunTree:
    """Read a run and its descendants, as they were at one moment (of a tree that never stops growing: almost one).

    Raises:
        RunNotFoundError: there is no run of this id.
        HistoryError: the workflow of this id is not a run of Assent.
    """
    tree = await _read_tree(client, run_id, execution_id)
    for _ in range(ROUNDS):
        if not tree.children or not await has_changed(client, {each.state.id: each.seen for each in tree.runs()}):
            break
        tree = await _read_tree(client, run_id, execution_id)
    return tree


async def _read_tree(client: Client, run_id: str, execution_id: str | None) -> RunTree:
    run, seen = await read(client, run_id, await describe(client, run_id, execution_id))
    state = state_of(run)
    path = (*(each.agent for each in state.parents), state.agent)
    return RunTree(state, path, seen, await _read_children(client, run, path, {run_id}), pending_of(run))


async def _read_children(client: Client, run: Run, path: tuple[str, ...], above: set[str]) -> tuple[RunTree, ...]:
    # A forged history may name a parent run as a child run.
    wanted = [each for each in children_of(run) if each.run_id not in above]
    return tuple(await asyncio.gather(*(_child(client, each, path, above) for each in wanted)))


async def _child(client: Client, child: ChildRun, path: tuple[str, ...], above: set[str]) -> RunTree:
    path = (*path, child.agent)
    unread = RunTree(RunState(id=child.run_id, agent=child.agent), path, HistoryPosition())
    try:
        run, seen = await read(client, child.run_id, await describe(client, child.run_id))
    except RunNotFoundError:
        return unread  # The server is about to start it
    except HistoryError as error:
        return RunTree(unread.state, path, HistoryPosition(), error=str(error))
    children = await _read_children(client, run, path, above | {child.run_id})
    return RunTree(state_of(run), (*path[:-1], state_of(run).agent or child.agent), seen, children, pending_of(run))


def find_in_children(tree: RunTree, wanted: str, verb: str) -> str | None:
    """Say where the requirement of this id, or unique prefix of one, is decided if it is a child run's; None if not."""
    below = [branch for each in tree.children for branch in each.runs()]
    candidates = [(branch.state.id, find_requirement(branch.state.requirements, wanted)) for branch in below]
    matches = [(run_id, one) for run_id, one in candidates if not isinstance(one, str)]
    if len(matches) != 1:
        return None
    [(run_id, one)] = matches
    how = "waits" if one.status == "pending" else f"was {one.status}"
    command = verb.replace("_", "-")
    more = {"reject": ' --reason "WHY"', "submit-result": " --output JSON", "submit-input": " --values JSON"}
    options = f" --by YOUR_NAME{more.get(command, '')}"
    what = run_command(f"assent {command}", run_id, f" {one.short_id}", options)
    return f"call {one.short_id} {how} in run {shell_quoted(run_id)}: {what}"
