"""An agent, which a platform team writes and a worker serves, and an agent as a tool of other agents."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from types import UnionType
from typing import Final, cast

from pydantic import JsonValue, TypeAdapter

from assent.agents.gates import Gatekeeper, Groups, is_members
from assent.agents.mcp_server import MCPServer
from assent.agents.models import Model
from assent.agents.schema import no_schema
from assent.agents.tool import Confirmation, RunContext, Target, Tool, positional_count
from assent.agents.tool_decorator import NAME, gate_problem, tool, tool_from
from assent.core.compaction import LEAST
from assent.core.run_state import MAX_TURNS
from assent.core.sub_agents import AGENT_NAME, QUEUE_NAME
from assent.wire.budget import BOUNDS, Budget
from assent.wire.declarations import declared, refuse, shown, source_of
from assent.wire.digest import canonical, sha256_hex
from assent.wire.errors import ConfigurationError
from assent.wire.policy import PermissionPolicy, policy_version
from assent.wire.protocol import RESERVED_TOOL_NAMES

_VERSION: Final = "assent.agent.v1"
_NOT_IN_TOOL_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")


Instructions = Callable[[RunContext], str] | Callable[[RunContext], Awaitable[str]]
"""A function that gives the instructions of a run's next model call.

Called on the worker before each model call, sync in a thread, async in the worker's loop. The turn records its text.
"""


@declared
@dataclass(frozen=True, kw_only=True)
class Agent:
    """A named agent: its model, instructions, tools, policy and limits.

    - *instructions*: a text, or a function of the `RunContext` that returns one.
    - *tools*: what `@tool` made, or plain functions. *mcp_servers*: servers of the Model Context Protocol, whose tools
      it has too.
    - *policy*: decides which calls are allowed, asked for or denied. Without one, the tools' own flags do.
    - *groups*: who is in the groups that `@approval(approvers=…)` names: a mapping, or a function of the name.
    - *requires_requester*: a run without a `requested_by` fails before its model is asked. Without that name Assent
      cannot keep the requester from approving.
    - *output_type*: a type that the final answer must fit: a pydantic model, a dataclass, anything pydantic reads. If
      the answer does not fit, the model is asked again.
    - *max_turns* limits the model calls of one run, *max_tool_calls* its tool calls: further calls are denied. *budget*
      limits what a run may use.
    - *handoffs*: agents that may take the conversation over. Its worker serves them too. A name stands for an agent
      that the worker serves anyway. *description*: what it is for, for the models of other agents.
    - *model_task_queue*: where its model is asked, wherever its runs are. A rate limit of that task queue limits the
      model calls of all agents that name it, and nothing else. A worker must serve the agent there, too.

    Raises:
        ConfigurationError: an option is unknown or of the wrong type; the name is empty or holds other characters than
            letters, digits, `_`, `.`, `-`; two tools share a name; a tool is not one; the output type has no JSON
            schema; *max_turns* is below 1, or *max_tool_calls* below 0; *groups* is neither a mapping nor a function;
            *budget* has no limit; *model_task_queue* is no task queue's name. One line: where, what, what to do.
    """

    name: str
    model: Model
    instructions: str | Instructions | None = None
    tools: Sequence[Callable[..., object]] = ()
    policy: PermissionPolicy | None = None
    output_type: type[object] | None = None
    max_turns: int = MAX_TURNS
    max_tool_calls: int | None = None
    groups: Groups | None = None
    budget: Budget | None = None
    max_context_tokens: int | None = None
    handoffs: Sequence[Agent | str] = ()
    description: str | None = None
    model_task_queue: str | None = None
    requires_requester: bool = False
    mcp_servers: Sequence[MCPServer] = ()
    _tools: dict[str, Tool] = field(init=False, repr=False, compare=False, default_factory=dict[str, Tool])

    def __post_init__(self) -> None:
        """Check what can be checked before a worker serves it."""
        for problem in self._problems():
            refuse(self._label, problem)
        for each in self.tools:
            self._add(self._make_tool(each))
        for to in self.handoffs:
            self._add(self._handoff(to))
        for number, server in enumerate(self.mcp_servers):
            if not isinstance(cast("object", server), MCPServer):
                refuse(self._label, f"mcp_servers has {shown(server)}; give MCPServer(…)")
            if server.name in {each.name for each in self.mcp_servers[:number]}:
                refuse(self._label, f"two MCP servers are named {server.name!r}; give one another name")
        _ = self.output_schema

    @property
    def _label(self) -> str:
        return f"{source_of()}: agent {self.name!r}"

    def _problems(self) -> Iterator[str]:
        yield from wrong_types(self)
        if not AGENT_NAME.fullmatch(self.name):
            yield "a name is up to 100 letters, digits, '_', '.' and '-', a letter or digit first"
        if self.max_turns < 1:
            yield f"max_turns is {self.max_turns}; it must be at least 1"
        if self.max_tool_calls is not None and self.max_tool_calls < 0:
            yield f"max_tool_calls is {self.max_tool_calls}; it must be 0 or more"
        if problem := _groups_problem(self.groups):
            yield problem
        if self.budget is not None and not self.budget.bounds:
            yield f"its budget has no limit: give it one of {', '.join(BOUNDS)}"
        if self.max_context_tokens is not None and self.max_context_tokens < LEAST:
            yield f"max_context_tokens is {self.max_context_tokens}; it must be at least {LEAST}"
        if self.model_task_queue is not None and not QUEUE_NAME.fullmatch(self.model_task_queue):
            wanted = "take up to 200 characters that can be seen, '/_sys/' not first"
            yield f"model_task_queue is {self.model_task_queue!r}; {wanted}"

    def _make_tool(self, function: Callable[..., object]) -> Tool:
        if isinstance(function, Agent):
            refuse(self._label, f"tools has the agent {function.name!r}; give its as_tool(), or handoffs=[…]")
        if not callable(function):
            refuse(self._label, f"tools has {shown(function)}; give functions, or what @tool makes of them")
        return tool_from(function)

    def _handoff(self, to: object) -> Tool:
        name = to.name if isinstance(to, Agent) else to
        if not isinstance(name, str):
            refuse(self._label, f"handoffs has {shown(to)}; give agents, or names of agents")
        if name == self.name:
            refuse(self._label, "handoffs has the agent itself; leave it out")
        if isinstance(to, Agent):
            return handoff_tool(Target(agent=name, served=to, handoff=True), description=to.description)
        return handoff_tool(Target(agent=name, handoff=True))

    def _add(self, tool: Tool) -> None:
        if tool.name in self._tools:
            refuse(self._label, f"two tools are named {tool.name!r}; give one another name, with name=…")
        self._tools[tool.name] = tool

    def as_tool(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        requires_confirmation: bool | Confirmation = False,
        task_queue: str | None = None,
    ) -> Tool:
        """Return the agent as a tool of other agents. Each call of it is a child run of this agent.

        Args:
            name: what the model calls it; `ask_` and the agent's name by default.
            description: what it does, for the model; the agent's own description by default.
            requires_confirmation: as of `@tool`: whether a person must approve each call.
            task_queue: where the agent is served, if not by the workers of the agents that have this tool.

        Raises:
            ConfigurationError: the name is no tool's.

        Example:
            `desk = Agent(name="desk", model=OpenAIResponses("gpt-5-mini"), tools=[agent.as_tool()])`
        """
        target = Target(agent=self.name, served=None if task_queue else self, task_queue=task_queue)
        return agent_tool(
            target, name=name, description=description or self.description, requires_confirmation=requires_confirmation
        )

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
        schema and what is declared about it. Not the code of tools and of other functions: which that was, the worker's
        build says.
        """
        model = {**asdict(self.model), "timeout": self.model.timeout.total_seconds()}
        instructions = ["function"] if callable(self.instructions) else self.instructions
        parts = [self.name, model, instructions, self.policy_version()]
        budget = None if self.budget is None else self.budget.model_dump(mode="json")
        bounds: list[object] = [self.max_turns, self.max_tool_calls, self.output_schema, budget]
        if self.max_context_tokens is not None:
            bounds.append(self.max_context_tokens)
        if self.requires_requester:
            bounds.append("requires_requester")
        if self.mcp_servers:
            bounds.append([each.declared() for each in self.mcp_servers])
        return sha256_hex(canonical([_VERSION, *parts, *bounds, [_declared(each) for each in self.all_tools]]))[:16]

    @cached_property
    def output_schema(self) -> dict[str, JsonValue] | None:
        """The JSON schema of *output_type*; None without one."""
        if self.output_type is None:
            return None
        try:
            return TypeAdapter(self.output_type).json_schema()
        except Exception as error:  # pydantic's own errors have no common root, and a type's schema hook may raise any
            refuse(self._label, f"output_type is {shown(self.output_type)}, {no_schema(error)}")


_TEXT: Final = "give text"
_COUNT: Final = "give a whole number"
_TYPES: Final[tuple[tuple[str, type | UnionType, str], ...]] = (
    ("name", str, 'give text, e.g. name="deployer"'),
    ("tools", Sequence, "give a list of functions, or of what @tool makes of them"),
    ("policy", PermissionPolicy | None, 'give a PermissionPolicy, e.g. PermissionPolicy.from_file("policy.toml")'),
    ("max_turns", int, _COUNT),
    ("max_tool_calls", int | None, _COUNT),
    ("budget", Budget | None, "give a Budget, e.g. Budget(max_tokens=100_000)"),
    ("max_context_tokens", int | None, _COUNT),
    ("handoffs", Sequence, "give a list of agents, or of names of agents"),
    ("description", str | None, _TEXT),
    ("model_task_queue", str | None, _TEXT),
    ("requires_requester", bool, "give True or False"),
    ("mcp_servers", Sequence, "give a list of MCPServer(…)"),
)
"""The options of an agent, what each must be, and what to do where it is not."""


def wrong_types(agent: Agent) -> Iterator[str]:
    """Yield what is wrong with the types of an agent's options, and what to do."""
    for name, kind, todo in _TYPES:
        value: object = getattr(agent, name)
        text_for_list = kind is Sequence and isinstance(value, str)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)) or text_for_list:
            yield f"{name} is {shown(value)}; {todo}"
    instructions = cast("object", agent.instructions)
    if not isinstance(instructions, str | None) and not (
        callable(instructions) and positional_count(instructions) == 1
    ):
        yield f"instructions is {shown(instructions)}; give text, or a function of the RunContext"
    model = cast("object", agent.model)
    if isinstance(model, str):
        yield f"model is {shown(model)}; write OpenAIResponses({model!r}), or OpenAIChat({model!r}, base_url=…)"
    elif not isinstance(model, Model):
        yield f'model is {shown(model)}; write OpenAIResponses("gpt-5-mini"), or OpenAIChat("…", base_url=…)'
    if isinstance(cast("object", agent.output_type), str):
        yield f"output_type is {shown(agent.output_type)}; give the type itself, not its name"


def _groups_problem(groups: object) -> str | None:
    if groups is None or (not isinstance(groups, Mapping) and callable(groups) and positional_count(groups) in {1, 2}):
        return None
    if not isinstance(groups, Mapping):
        return f"groups is {shown(groups)}; give a mapping, or a function of a group's name"
    for group, members in cast("Mapping[object, object]", groups).items():
        if not isinstance(group, str) or not is_members(members):
            return f'groups has {shown(group)}: {shown(members)}; give lists of names, e.g. {{"finance": ["ann"]}}'
    return None


def agent_tool(
    target: Target, *, name: str | None, description: str | None, requires_confirmation: bool | Confirmation = False
) -> Tool:
    """The tool by which a model asks another agent, in a run of its own.

    Raises:
        ConfigurationError: the name is no tool's, or the task queue's no task queue's.
    """
    where = f"{source_of()}: agent {target.agent!r}"
    queue = cast("object", target.task_queue)
    if queue is not None and not (isinstance(queue, str) and QUEUE_NAME.fullmatch(queue)):
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

    named = _checked_tool_name(name or _tool_name("ask", target.agent), target.agent, "give one: as_tool(name=…)")
    text = description or f"Give a task to the agent {target.agent}, and get its answer."
    made = tool(name=named, description=text, requires_confirmation=requires_confirmation, idempotent=True)(ask)
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

    text = f"Hand the conversation over to the agent {target.agent}, which answers from then on."
    made = tool(
        name=_checked_tool_name(_tool_name("transfer_to", target.agent), target.agent, "give the agent a shorter one"),
        description=f"{text} {description}" if description else text,
        idempotent=True,
    )(transfer)
    return replace(made, target=target, source=f"agent {target.agent!r}")


def _checked_tool_name(name: object, agent: str, what_to_do: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in RESERVED_TOOL_NAMES:
        wanted = "a name is 1 to 64 ASCII letters, digits, '_' and '-'"
        refuse(f"{source_of()}: agent {agent!r}", f"{shown(name)} is not a valid tool name: {wanted}; {what_to_do}")
    return name


def _tool_name(verb: str, agent: str) -> str:
    return _NOT_IN_TOOL_NAMES.sub("_", f"{verb}_{agent}")


def with_their_agents(agents: Iterable[Agent]) -> list[Agent]:
    """*agents*, and those that these ask or hand over to, each once: all that a worker of *agents* serves.

    Raises:
        ConfigurationError: a handoff names an agent that is not among them.
    """
    reached: list[Agent] = []
    left = list(agents)
    while left:
        agent = left.pop(0)
        if any(agent is each for each in reached):
            continue
        reached.append(agent)
        targets = [each.target for each in agent.all_tools if each.target is not None]
        left += [target.served for target in targets if isinstance(target.served, Agent)]
    names = {each.name for each in reached}
    for agent in reached:
        for target in (each.target for each in agent.all_tools):
            if target is not None and target.handoff and target.agent not in names:
                message = f"agent {agent.name!r}: handoffs names {target.agent!r}; serve that agent with it"
                raise ConfigurationError(message)
    return reached


def _declared(each: Tool) -> list[object]:
    """What a tool says of itself; a function that decides whether to ask is one, whatever it does."""
    asks = each.requires_confirmation
    flags = [each.external_execution, each.requires_user_input, each.idempotent, each.stop_after_tool_call]
    target = [] if each.target is None else [[each.target.agent, each.target.handoff, each.target.task_queue]]
    return [
        each.name,
        each.description,
        each.parameters,
        asks if isinstance(asks, bool) else "function",
        *flags,
        sorted(each.effects),
        repr(each.terms),
        None if each.options is None else each.options.model_dump(mode="json"),
        *target,
    ]
