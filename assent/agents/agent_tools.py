"""Agents as tools of other agents: one that is asked and answers, and one that the conversation is handed over to.

Both are tools as any other: named, described, gated by flags and policies, and each call of one is in the history.

Pure; safe in workflow code.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, cast

from assent.agents.tool import Confirmation, Target, Tool
from assent.agents.tool_decorator import NAME, gate_problem, tool
from assent.core.sub_agents import QUEUE
from assent.wire.declarations import refuse, shown, source_of
from assent.wire.protocol import RESERVED_TOOL_NAMES

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")


def agent_tool(
    target: Target,
    *,
    name: str | None,
    description: str | None,
    requires_confirmation: bool | Confirmation = False,
) -> Tool:
    """The tool by which a model asks another agent, in a run of its own.

    Raises:
        ConfigurationError: the name is no tool's, or the task queue's no task queue's.
    """
    where = f"{source_of()}: agent {target.agent!r}"
    queue = cast("object", target.task_queue)
    if queue is not None and not (isinstance(queue, str) and QUEUE.fullmatch(queue)):
        refuse(where, f"task_queue is {shown(queue)}; take up to 200 characters that can be seen, '/_sys/' not first")
    if not isinstance(requires_confirmation, bool) and (problem := gate_problem(requires_confirmation)):
        refuse(where, f"requires_confirmation is {shown(requires_confirmation)}; {problem}")
    if not isinstance(cast("object", description), str | None):
        refuse(where, f"description is {shown(description)}; give text")

    def ask(input: str) -> str:
        """Give a task to another agent, and get its answer.

        Args:
            input: the task, with everything the agent needs to know: it sees nothing of this conversation.
        """
        return input

    named = _checked(name or _tool_name("ask", target.agent), target.agent, "give one: as_tool(name=…)")
    told = description or f"Give a task to the agent {target.agent}, and get its answer."
    made = tool(name=named, description=told, requires_confirmation=requires_confirmation, idempotent=True)(ask)
    # It is idempotent: its activity begins nothing; it says again, as it runs, that the call may.
    return replace(made, target=target, source=f"agent {target.agent!r}")


def handoff_tool(target: Target, *, description: str | None = None) -> Tool:
    """The tool by which a model hands the conversation over to another agent.

    Raises:
        ConfigurationError: the agent's name is too long for a tool's.
    """

    def transfer() -> str:
        """Hand the conversation over to another agent."""
        return f"The conversation was handed over to the agent {target.agent}, which answers from now on."

    told = f"Hand the conversation over to the agent {target.agent}, which answers from then on."
    made = tool(
        name=_checked(_tool_name("transfer_to", target.agent), target.agent, "give the agent a shorter one"),
        description=f"{told} {description}" if description else told,
        idempotent=True,
    )(transfer)
    return replace(made, target=target, source=f"agent {target.agent!r}")


def _checked(name: object, agent: str, what_to_do: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in RESERVED_TOOL_NAMES:
        wanted = "a name is 1 to 64 ASCII letters, digits, '_' and '-'"
        refuse(f"{source_of()}: agent {agent!r}", f"{shown(name)} names no tool: {wanted}; {what_to_do}")
    return name


def _tool_name(verb: str, agent: str) -> str:
    return _NOT_IN_NAMES.sub("_", f"{verb}_{agent}")
