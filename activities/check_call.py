"""The activity `check_call`: what a person sent for a call, checked where the tool and today's policy are known.

It changes nothing, so it may run as often as it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from temporalio import activity

from assent.agents.agent import Agent
from assent.agents.tool import GateContext, Tool
from assent.wire import protocol
from assent.wire.errors import ArgumentsError
from assent.wire.protocol import Checked, CheckInput
from assent.wire.text import bounded

from . import payload_limits

PROBLEM = 2_000
"""The limit of a problem's text for its sender, in characters."""


class Checks:
    """The checks of a worker's agents."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        """*agents* are those that the worker serves."""
        self._agents = agents

    @activity.defn(name=protocol.CHECK_CALL)
    async def check_call(self, check: CheckInput) -> Checked:
        """What is wrong with edited arguments, values or a result; and the gate that edited arguments get."""
        agent = self._agents.get(check.agent)
        tool = agent.tool(check.tool) if agent else None
        if agent is None or tool is None:
            return Checked(problem=f"agent {check.agent!r} has no tool named {check.tool!r} on the worker that looked")
        # Types, gates and groups may be the user's own code, which may block.
        found = await asyncio.to_thread(partial(_checked, agent, tool, check, activity.info().workflow_id or ""))
        return found if await payload_limits.fits(found) else Checked(problem="its gate is too large to be kept")


def _checked(agent: Agent, tool: Tool, check: CheckInput, run_id: str) -> Checked:
    match check.what:
        case "arguments":
            context = GateContext(
                run_id=run_id,
                call_id=check.call_id,
                tool=tool.name,
                agent=agent.name,
                requested_by=check.requested_by,
            )
            gate = agent.gatekeeper(check.policy).gate(tool, context, check.arguments)
            if gate.verdict in {"deny", "invalid"}:
                return Checked(problem=_told(gate.reason or "the policy does not permit it"))
            return Checked(problem=None, gate=gate, policy_version=agent.policy_version(check.policy))
        case "values":
            return Checked(problem=_values_problem(tool, check))
        case _:
            problem = tool.result_problem(check.output)
            return Checked(problem=None if problem is None else _told(problem))


def _values_problem(tool: Tool, check: CheckInput) -> str | None:
    try:
        tool.validate_input(check.arguments, check.values or {})
    except ArgumentsError as error:
        return _told(str(error))
    return None


def _told(problem: str) -> str:
    return bounded("; ".join(problem.splitlines()), PROBLEM)
