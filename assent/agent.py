"""An agent: what a platform team writes, and what a worker serves.

Pure; safe in workflow code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from pydantic import JsonValue, PydanticUserError, TypeAdapter

from assent.budget import Budget
from assent.compaction import LEAST
from assent.decorators import tool_from
from assent.digest import canonical, sha256_hex
from assent.errors import ConfigurationError
from assent.gates import Gatekeeper, Groups
from assent.models import Model
from assent.policy import PermissionPolicy, policy_version
from assent.run import MAX_TURNS
from assent.tools import Tool, takes

_VERSION: Final = "assent.agent.v1"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A named agent: its model, instructions, tools, policy and limits.

    *tools* are what `@tool` made, or plain functions. *policy* decides which calls are allowed, asked for or denied;
    without one, the tools' own flags do. *output_type* is a type that the final answer must fit (a pydantic model, a
    dataclass, anything pydantic reads); the model is asked again where it does not. *max_turns* bounds the model calls
    of one run, *max_tool_calls* its tool calls: what is beyond is answered to the model as denied. *groups* says who
    is in the groups that `@approval(approvers=…)` names: a mapping, or a function of the name. *budget* is what a run
    may use.

    Raises:
        ConfigurationError: the name is empty or holds other characters than letters, digits, `_`, `.`, `-`; two tools
            share a name; a tool is not one; the output type has no JSON schema; *max_turns* is below 1, or
            *max_tool_calls* below 0; *groups* is neither a mapping nor a function; *budget* bounds nothing.

    Pure; safe in workflow code.
    """

    name: str
    model: Model
    instructions: str | None = None
    tools: Sequence[Callable[..., object]] = ()
    policy: PermissionPolicy | None = None
    output_type: type[object] | None = None
    max_turns: int = MAX_TURNS
    max_tool_calls: int | None = None
    groups: Groups | None = None
    budget: Budget | None = None
    max_context_tokens: int | None = None
    _tools: dict[str, Tool] = field(init=False, repr=False, compare=False, default_factory=dict[str, Tool])

    def __post_init__(self) -> None:
        """Check what can be checked before a worker serves it."""
        if not _NAME.fullmatch(self.name):
            message = f"agent {self.name!r}: take letters, digits, '_', '.' and '-', a letter or digit first"
            raise ConfigurationError(message)
        if self.max_turns < 1:
            message = f"agent {self.name!r}: max_turns is {self.max_turns}; it must be at least 1"
            raise ConfigurationError(message)
        if self.max_tool_calls is not None and self.max_tool_calls < 0:
            message = f"agent {self.name!r}: max_tool_calls is {self.max_tool_calls}; it must be 0 or more"
            raise ConfigurationError(message)
        if self.groups is not None and not isinstance(self.groups, Mapping) and takes(self.groups) not in {1, 2}:
            message = f"agent {self.name!r}: groups is {self.groups!r}; give a mapping, or a function of a group's name"
            raise ConfigurationError(message)
        if self.budget is not None:
            self.budget.check()
        if self.max_context_tokens is not None and self.max_context_tokens < LEAST:
            message = (
                f"agent {self.name!r}: max_context_tokens is {self.max_context_tokens}; it must be at least {LEAST}"
            )
            raise ConfigurationError(message)
        for each in self.tools:
            self._add(tool_from(each))
        _ = self.output_schema

    def _add(self, made: Tool) -> None:
        if made.name in self._tools:
            message = f"agent {self.name!r}: two tools are named {made.name!r}; give one another name: @tool(name=…)"
            raise ConfigurationError(message)
        self._tools[made.name] = made

    def tool(self, name: str) -> Tool | None:
        """The tool of this name, if the agent has it."""
        return self._tools.get(name)

    @property
    def all_tools(self) -> list[Tool]:
        """The agent's tools, in the order given."""
        return list(self._tools.values())

    def policy_version(self, requested: PermissionPolicy | None = None) -> str:
        """The version of the policy in force, as gates record it; *requested* is the request's own."""
        return policy_version(self.policy, requested)

    def gatekeeper(self, requested: PermissionPolicy | None = None) -> Gatekeeper:
        """What gates the agent's calls; *requested* is the request's own policy."""
        return Gatekeeper((self.policy, requested), self.groups)

    @cached_property
    def version(self) -> str:
        """The version of the agent, as histories record it: 16 hex digits over what the model and the gates go by.

        Name, model and settings, instructions, policy, limits and output schema; of each tool its name, description,
        schema and what is declared about it. Not the code of tools: which that was, the worker's build says.
        """
        made = [self.name, self.model.model_dump(mode="json"), self.instructions, self.policy_version()]
        budget = None if self.budget is None else self.budget.model_dump(mode="json")
        bounds = [self.max_turns, self.max_tool_calls, self.output_schema, budget]
        if self.max_context_tokens is not None:
            bounds.append(self.max_context_tokens)
        return sha256_hex(canonical([_VERSION, *made, *bounds, [_declared(each) for each in self.all_tools]]))[:16]

    @cached_property
    def gates_block(self) -> bool:
        """Whether working out a gate calls functions of the user's, which may block."""
        functions = any(callable(each.requires_confirmation) for each in self.all_tools)
        return functions or (self.groups is not None and not isinstance(self.groups, Mapping))

    @cached_property
    def output_schema(self) -> dict[str, JsonValue] | None:
        """The JSON schema of *output_type*; None without one."""
        if self.output_type is None:
            return None
        try:
            return TypeAdapter(self.output_type).json_schema()
        except (PydanticUserError, TypeError) as error:
            message = f"agent {self.name!r}: output_type {self.output_type!r} has no JSON schema: {error}"
            raise ConfigurationError(message.splitlines()[0]) from None


def _declared(each: Tool) -> list[object]:
    """What a tool says of itself; a function that decides whether to ask is one, whatever it does."""
    asks = each.requires_confirmation
    flags = [each.external_execution, each.requires_user_input, each.idempotent, each.stop_after_tool_call]
    return [
        each.name,
        each.description,
        each.parameters,
        asks if isinstance(asks, bool) else "function",
        *flags,
        sorted(each.effects),
        repr(each.terms),
        None if each.options is None else each.options.model_dump(mode="json"),
    ]
