"""The activity `check_call`: what a person sent for a call, checked where the tool and today's policy are known.

It changes nothing, so it may run as often as it takes.
"""

from collections.abc import Mapping
from functools import partial

from assent.agents.agent import Agent
from assent.agents.authorization import context_of
from assent.agents.binding import input_problem
from assent.agents.tool import Tool
from assent.proof.verification import ProofError
from assent.wire.errors import ArgumentsError
from assent.wire.protocol import Checked, CheckInput
from assent.wire.text import bounded

from . import payload_limits
from .mcp_errors import ServerDownError
from .mcp_servers import McpServers
from .own_run import own_run
from .proofs import Proofs
from .user_code import TooSlowError, UserCode, gate_or_ask

PROBLEM = 2_000
"""The limit of a problem's text for its sender, in characters."""


class Checks:
    """The checks of a worker's agents."""

    def __init__(self, agents: Mapping[str, Agent], users: UserCode, servers: McpServers, proofs: Proofs) -> None:
        self._agents = agents
        self._users = users
        self._servers = servers
        self._proofs = proofs

    async def check_call(self, check: CheckInput) -> Checked:
        """What is wrong with a proof, edited arguments, values or a result; and the gate that edited arguments get."""
        if check.proof is None:
            return await self._of_content(check)
        try:
            proof = self._proofs.verify(check.proof, check.requested_by)
        except ProofError as error:
            return Checked(problem=_told(str(error)))
        checked = Checked(problem=None) if check.what == "proof" else await self._of_content(check)
        return checked.model_copy(update={"proof": proof})

    async def _of_content(self, check: CheckInput) -> Checked:
        if check.fields:
            return await self._of_fields(check)
        agent = self._agents.get(check.agent)
        try:
            tool = await self._servers.tool(agent, check.tool) if agent else None
        except ServerDownError as error:
            return Checked(problem=_told(f"it cannot be checked now: {error}"))
        if agent is None or tool is None:
            return Checked(problem=f"agent {check.agent!r} has no tool named {check.tool!r} on the worker that looked")
        checked = await self._checked(agent, tool, check)
        return checked if await payload_limits.fits(checked) else Checked(problem="its gate is too large to be kept")

    async def _of_fields(self, check: CheckInput) -> Checked:
        from .check_fields import fields_problem  # noqa: PLC0415 - it imports jsonschema, which takes 0.1 s

        values = {"output": check.output} if check.values is None else check.values
        try:
            return Checked(problem=await self._users.answer(partial(fields_problem, check.fields, values)))
        except TooSlowError as error:
            return Checked(problem=f"it could not be checked: {error}")

    async def _checked(self, agent: Agent, tool: Tool, check: CheckInput) -> Checked:
        if check.what == "arguments":
            context = context_of(check, tool, own_run().run_id)
            gate = await gate_or_ask(
                self._users, self._proofs.gatekeeper(agent, check.policy), tool, context, check.arguments
            )
            if gate.verdict in {"deny", "invalid"}:
                return Checked(problem=_told(gate.reason or "the policy does not permit it"))
            return Checked(problem=None, gate=gate, policy_version=agent.policy_version(check.policy))
        work = partial(_values_problem if check.what == "values" else _output_problem, tool, check)
        try:
            return Checked(problem=await self._users.answer(work))
        except TooSlowError as error:
            return Checked(problem=f"it could not be checked: {error}")


def _output_problem(tool: Tool, check: CheckInput) -> str | None:
    problem = tool.result_problem(check.output)
    return None if problem is None else _told(problem)


def _values_problem(tool: Tool, check: CheckInput) -> str | None:
    try:
        problem = input_problem(check.values or {}, tool.validate_input(check.arguments, check.values or {}))
    except ArgumentsError as error:
        problem = str(error)
    return None if problem is None else _told(problem)


def _told(problem: str) -> str:
    return bounded("; ".join(problem.splitlines()), PROBLEM)
