"""The activity `call_model`: one question to the model, and the gate of every call that it answers with."""

import asyncio
import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from temporalio import activity
from temporalio.exceptions import ApplicationError

from assent.agents.agent import Agent
from assent.agents.gates import budget_approvers
from assent.agents.tool import GateContext, RunContext, Tool, permitted_name
from assent.core.budget_rules import EXTEND
from assent.wire.budget import Budget, Price
from assent.wire.conversation import Conversation, ToolCall, tool_calls, user_message
from assent.wire.digest import json_size, text_digest
from assent.wire.errors import HistoryError
from assent.wire.limits import INSTRUCTIONS_LIMIT, REASON_LIMIT, VALUE_SHOWN
from assent.wire.messages import problems
from assent.wire.protocol import RULES_VERSION, Gate, ModelCallInput, ModelTurn, TurnInstructions, Usage
from assent.wire.text import bounded, error_text, hidden, one_line, stack_text

from . import model_routing, payload_limits, user_code
from .conversation_cache import ConversationCache
from .heartbeats import heartbeats
from .mcp_errors import ServerDownError
from .mcp_servers import McpServers
from .model_attempts import GaveUpError, ModelAttempts
from .own_run import own_run
from .proofs import Proofs
from .providers import Answer, Providers, Question, ToolSpec, portable
from .user_code import TooSlowError, UserCode, gate_or_ask

_log = logging.getLogger(__name__)

ANSWER_LIMIT: Final = 1_000_000
"""Bytes of one answer of a model."""
CALLS_LIMIT: Final = 512
"""Calls of one turn: at 2,000 activities under way, or a memo of 2 MiB, the server stops the run for good."""
GATES_LIMIT: Final = 500_000
"""Bytes of the gates of one turn."""
OUTPUT_LIMIT: Final = 1_500_000
"""Bytes of a structured answer, as text and as a value together."""
OUTPUTS_LIMIT: Final = 16_000_000
"""Bytes of what the tools of one turn give, as the history keeps it: at 50 MiB the server stops the run for good."""
EMPTY: Final = "[The model gave an empty answer.]"
"""The content of a run that ends with one."""
EMPTY_FOLLOW_UP: Final = "Your answer was empty. Say what you found or did, and what remains."
_SLOW: Final = timedelta(minutes=1)
_MARGIN: Final = timedelta(seconds=30)
"""What is left of an attempt's time for its result to reach the server; a tenth of it at most."""


class ModelCalls:
    """The model calls of a worker's agents."""

    def __init__(
        self,
        agents: Mapping[str, Agent],
        providers: Providers,
        prefixes: ConversationCache,
        users: UserCode,
        servers: McpServers,
        *,
        notices: bool,
        continue_after: int = 0,
        prices: Mapping[str, Price] | None = None,
        requires_requester: bool = False,
        proofs: Proofs,
    ) -> None:
        """*notices* says whether any are sent.

        *continue_after* is the number of events in its history after which a run continues as new, *prices* is what
        models cost, by their id, *requires_requester* that of every agent.
        """
        self._agents = agents
        self._providers = providers
        self._prefixes = prefixes
        self._users = users
        self._servers = servers
        self.attributes = False
        """Whether runs may upsert the Assent search attributes."""
        self._notices = notices
        self._continue_after = continue_after
        self._prices = prices or {}
        self._requires_requester = requires_requester
        self._proofs = proofs

    async def call_model(self, call: ModelCallInput) -> ModelTurn:
        """Ask the model, and say what each call that it makes needs before it may run.

        Raises:
            ApplicationError: the agent is not served here, or the run lacks a requester; the provider refused (final),
                or could not answer (retried); the function of the instructions failed (retried).
        """
        agent = self._agent(call)
        if (queue := model_routing.other_task_queue(agent, routed=call.routed)) is not None:
            return ModelTurn(items=[], task_queue=queue)
        attempts = ModelAttempts(call.turn, begun=call.turn > 1)
        async with heartbeats(attempts.heartbeat_details):
            conversation, attachments = await self._conversation(call)
            instructions = await self._instructions(agent, call)
            tools = await self._tools(agent)
            question = Question(
                model=agent.model,
                instructions=instructions,
                items=conversation.items,
                tools=[_spec(each) for each in tools.values()],
                output_schema=agent.output_schema,
                output_name=permitted_name(getattr(agent.output_type, "__name__", "output")),
                attachments=attachments,
            )
            try:
                answer = _with_tool_names(await attempts.ask(self._providers, question), tools)
                # Users' gates may take a while: a lost heartbeat here would pay for another answer.
                turn = await self._finish_turn(agent, call, answer, attempts)
            except GaveUpError as error:
                return _with_instructions(await self._give_up(agent, call, error), agent, call, instructions)
        self._prefixes.put(conversation.append(turn.items), call.prefix)
        return _with_instructions(turn, agent, call, instructions)

    def _agent(self, call: ModelCallInput) -> Agent:
        agent = self._agents.get(call.agent)
        if agent is None:
            kind, message = "UnknownAgent", unknown_agent_text(call.agent, self._agents)
        elif call.requested_by is None and (agent.requires_requester or self._requires_requester):
            kind = "NoRequester"
            message = "the run has no requester, and may not be without: start it with requested_by"
        else:
            return agent
        # A new run is a mistake of its starter. One that has run before must survive a worker set up wrongly.
        first = call.turn == 1 and not call.routed
        raise ApplicationError(message, type=kind, non_retryable=first, next_retry_delay=None if first else _SLOW)

    async def _instructions(self, agent: Agent, call: ModelCallInput) -> str | None:
        if not callable(agent.instructions):
            return agent.instructions
        context = RunContext(
            run_id=own_run().run_id,
            agent=agent.name,
            requested_by=call.requested_by,
            context=deepcopy(call.context or {}),
        )
        try:
            text = await self._users.awaited(partial(agent.instructions, context), _end())
            problem = _text_problem(text)
        except TooSlowError as error:
            text, problem = None, str(error)
        except Exception as error:  # whatever a user's function raises: a deployment may mend it
            _log.warning(
                "the instructions of agent %r failed: run %s\n%s", agent.name, context.run_id, stack_text(error)
            )
            text, problem = None, error_text(error, REASON_LIMIT)
        if problem is not None or not isinstance(text, str):
            message = f"the function of the instructions of agent {agent.name!r} failed: {problem}"
            raise ApplicationError(message, type="InstructionsFailed")
        return text

    async def _tools(self, agent: Agent) -> dict[str, Tool]:
        try:
            return await self._servers.listed(agent)
        except ServerDownError as error:
            raise ApplicationError(str(error), type="ServerDown") from None

    async def _conversation(self, call: ModelCallInput) -> tuple[Conversation, Mapping[str, str]]:
        try:
            conversation = await self._prefixes.conversation(call)
            return conversation, await self._prefixes.attachments(conversation)
        except HistoryError as error:
            raise ApplicationError(str(error), type="HistoryError", non_retryable=True) from error

    async def _finish_turn(
        self, agent: Agent, call: ModelCallInput, answer: Answer, attempts: ModelAttempts
    ) -> ModelTurn:
        if _asks_users(agent, self._servers, answer):
            await attempts.save_answer()
        try:
            turn = await self._bounded(agent, call, answer)
        except ApplicationError as error:
            raise attempts.not_kept(error, answer) from None
        except Exception as error:  # whatever a codec, or a fault of this code, raises: the answer was paid for
            failed = ApplicationError(error_text(error, REASON_LIMIT), type=type(error).__name__)
            raise attempts.not_kept(failed, answer) from None
        if attempts.wasted_usage == Usage():
            return turn
        return turn.model_copy(update={"wasted": with_cost(agent, attempts.wasted_usage, self._prices)})

    async def _give_up(self, agent: Agent, call: ModelCallInput, error: GaveUpError) -> ModelTurn:
        """The turn of a model call that gave no answer of use: what it used counts, and the run ends."""
        nothing = Answer(items=[], usage=Usage(), model="", text=None)
        fields = await self._facts(agent, call, nothing)
        # A turn without items would be taken to the other task queue, and asked for again there.
        fields.pop("task_queue", None)
        fields |= {"wasted": with_cost(agent, error.wasted, self._prices), "failure": error.failure}
        return ModelTurn.model_validate(fields)

    async def _bounded(self, agent: Agent, call: ModelCallInput, answer: Answer) -> ModelTurn:
        if (size := _size(answer)) > ANSWER_LIMIT:
            return await self._too_long(agent, call, answer, size)
        if (number := len(tool_calls(answer.items))) > CALLS_LIMIT:
            message = f"the model made {number} calls at once; a turn may have {CALLS_LIMIT}"
            raise ApplicationError(message, type="TooManyCalls", non_retryable=True)
        turn = await self._turn(agent, call, answer)
        if await payload_limits.fits(turn):
            return turn
        if payload_limits.is_stored(turn):
            message = "the external storage is down, and does not take the model's answer"
            raise ApplicationError(message, type="StorageDown", next_retry_delay=_SLOW)
        return await self._too_long(agent, call, answer, size)

    async def _turn(self, agent: Agent, call: ModelCallInput, answer: Answer) -> ModelTurn:
        fields = await self._facts(agent, call, answer) | {"items": answer.items}
        if calls := tool_calls(answer.items):
            fields |= {"agent_version": agent.version} | await self._gates(agent, call, calls)
        elif agent.output_type is not None:
            fields |= await self._output(agent.output_type, answer.text or "")
        elif all(each == " " or hidden(each) for each in answer.text or ""):
            fields |= _empty(call)
        return ModelTurn.model_validate(fields)

    async def _facts(self, agent: Agent, call: ModelCallInput, answer: Answer) -> dict[str, object]:
        # Only what is not the default is set: turns are stored, one by one, for as long as the history is.
        usage = with_cost(agent, answer.usage, self._prices)
        fields: dict[str, object] = {"items": [], "usage": usage, "model": answer.model}
        if call.turn == 1:
            fields |= {"rules_version": RULES_VERSION, "max_turns": agent.max_turns, "attributes": self.attributes}
            fields |= {"continue_after": self._continue_after, "agent_version": agent.version}
            if agent.max_tool_calls is not None:
                fields["max_tool_calls"] = agent.max_tool_calls
            if agent.budget is not None:
                fields["budget"] = await self._budget(agent, agent.budget, call)
            if self._proofs.level is not None:
                fields["proof"] = self._proofs.level
            if agent.max_context_tokens is not None:
                fields["max_context_tokens"] = agent.max_context_tokens
        if call.routed and (queue := model_routing.moved_task_queue(agent)) is not None:
            fields["task_queue"] = queue
        return fields

    async def _too_long(self, agent: Agent, call: ModelCallInput, answer: Answer, size: int) -> ModelTurn:
        """The turn of an answer that no history takes: the model is told, and its tokens are counted."""
        # A result that the server refuses would make the paid call again, for ever.
        follow_up = (
            f"Your answer was {size} bytes long, with {len(tool_calls(answer.items))} tool calls, and was not kept: an "
            f"answer may have {ANSWER_LIMIT} bytes. Answer again, shorter, or with fewer calls at once."
        )
        note = {"role": "assistant", "content": f"[an answer of {size} bytes, which was not kept]"}
        fields = await self._facts(agent, call, answer) | {"items": [note], "follow_up": follow_up}
        return ModelTurn.model_validate(fields)

    async def _gates(self, agent: Agent, call: ModelCallInput, calls: list[ToolCall]) -> dict[str, object]:
        """What the turn says of how its calls are gated: worked out here, once, and recorded with it."""
        keeper, gates = self._proofs.gatekeeper(agent, call.policy), dict[str, Gate]()
        end = min(asyncio.get_running_loop().time() + user_code.TURN_LIMIT, _end())
        for each in calls:
            tool, context = self._servers.known(agent, each.tool), _context(agent, call, each.call_id, each.tool)
            gates[each.call_id] = await gate_or_ask(self._users, keeper, tool, context, each.arguments, end=end)
        if (share := OUTPUTS_LIMIT // len(calls)) < payload_limits.OUTPUT_LIMIT:
            gates = {name: gate.model_copy(update={"output_limit": share}) for name, gate in gates.items()}
        if sum(len(gate.definition or "") for gate in gates.values()) > GATES_LIMIT // 2:
            gates = {name: gate.model_copy(update={"definition": None}) for name, gate in gates.items()}
        if (size := sum(len(gate.model_dump_json()) for gate in gates.values())) > GATES_LIMIT:
            message = f"the gates of the turn are {size} bytes long; they may have {GATES_LIMIT}"
            raise ApplicationError(message, type="GatesTooLarge", non_retryable=True)
        fields: dict[str, object] = {"gates": gates, "policy_version": agent.policy_version(call.policy)}
        if self._notices:
            fields["notices"] = True
        return fields

    async def _budget(self, agent: Agent, budget: Budget, call: ModelCallInput) -> Budget:
        """The agent's budget, with the people that its approvers are by now."""
        groups = self._proofs.gatekeeper(agent, call.policy).groups
        if budget.approvers is None or groups is None:
            return budget
        work = partial(budget_approvers, budget.approvers, groups, _context(agent, call, "", EXTEND))
        try:
            people = await self._users.answer(work, _end())
        except Exception:  # whatever a user's function raises: a group that cannot be looked up has no members
            people = ()
        return budget.model_copy(update={"approvers": people})

    async def _output(self, output_type: type[object], text: str) -> dict[str, object]:
        try:
            return await self._users.answer(partial(_output, output_type, text), _end())
        except TooSlowError as error:
            message = f"the output_type could not check the answer: {error}"
            raise ApplicationError(message, type="OutputCheckTooSlow", non_retryable=True) from None


def unknown_agent_text(name: str, agents: Mapping[str, Agent]) -> str:
    """Say that an agent is not one of those that a worker serves."""
    return f"no agent is named {name!r} on this worker; it serves: {', '.join(sorted(agents)) or 'none'}"


def with_cost(agent: Agent, usage: Usage, prices: Mapping[str, Price]) -> Usage:
    """Return *usage* with what it costs, where the worker knows the price of the model."""
    price = prices.get(agent.model.id)
    if price is None:
        return usage
    return usage.model_copy(update={"cost": price.cost(usage.input_tokens, usage.output_tokens)})


def _text_problem(text: object) -> str | None:
    """What is wrong with what a function gave as instructions; None if nothing is."""
    if not isinstance(text, str):
        return f"it gave {bounded(one_line(repr(text)), VALUE_SHOWN)}, which is no text"
    if (size := len(text.encode())) > INSTRUCTIONS_LIMIT:
        return f"it gave {size} bytes; instructions may have {INSTRUCTIONS_LIMIT}"
    return None


def _with_instructions(turn: ModelTurn, agent: Agent, call: ModelCallInput, text: str | None) -> ModelTurn:
    """*turn* with the instructions that the model got, if a function gave them: the text once, then its digest."""
    if text is None or not callable(agent.instructions):
        return turn
    digest = text_digest(text)
    problem = (
        TurnInstructions(sha256=digest) if digest == call.instructions else TurnInstructions(sha256=digest, text=text)
    )
    return turn.model_copy(update={"instructions": problem})


def _context(agent: Agent, call: ModelCallInput, call_id: str, tool: str) -> GateContext:
    return GateContext(
        run_id=own_run().run_id,
        call_id=call_id,
        tool=tool,
        agent=agent.name,
        requested_by=call.requested_by,
        context=call.context or {},
    )


def _end() -> float:
    """When the attempt has to give its result, in the loop's time. Past that, its answer would be paid for again."""
    info, now = activity.info(), asyncio.get_running_loop().time()
    if info.start_to_close_timeout is None:
        return now + user_code.TURN_LIMIT
    # The server cuts an activity's time to that of its run, which may have been started with seconds.
    margin = min(_MARGIN, info.start_to_close_timeout / 10)
    return now + (info.started_time + info.start_to_close_timeout - margin - datetime.now(UTC)).total_seconds()


def _empty(call: ModelCallInput) -> dict[str, object]:
    """What the turn of an empty answer says. The model is asked again, once; the second ends the run, and shows it."""
    fields: dict[str, object] = {"items": [{"role": "assistant", "content": EMPTY}]}
    return fields if user_message(EMPTY_FOLLOW_UP) in call.delta else fields | {"follow_up": EMPTY_FOLLOW_UP}


def _asks_users(agent: Agent, servers: McpServers, answer: Answer) -> bool:
    """Whether code of users decides what becomes of the answer: it may end the process."""
    if not (calls := tool_calls(answer.items)):
        return agent.output_type is not None
    tools = [servers.known(agent, each.tool) for each in calls]
    return callable(agent.groups) or any(tool is not None and callable(tool.requires_confirmation) for tool in tools)


def _size(answer: Answer) -> int:
    """Bytes of what the run takes from an answer. Ids of calls come back with what the calls are answered."""
    return json_size(answer.items) + sum(json_size(each.call_id) for each in tool_calls(answer.items))


def _output(output_type: type[object], text: str) -> dict[str, object]:
    try:
        TypeAdapter(output_type).validate_json(text)
        # The result of a run holds both, and the server lets no run end with more than 2 MiB.
        if json_size(from_json(text)) + json_size(text) > OUTPUT_LIMIT:
            return {"follow_up": "Your answer is too long. Answer again, shorter."}
    except Exception as error:  # a validator of the user's own types may raise anything
        problem = problems(error) if isinstance(error, ValidationError) else error_text(error, REASON_LIMIT)
        return {"follow_up": f"Your answer does not fit the required output: {problem}. Answer again."}
    return {"structured": True}


def _with_tool_names(answer: Answer, tools: Mapping[str, Tool]) -> Answer:
    """*answer* with the tools' own names in it: a name with a dot, as tools of MCP servers have, no provider takes."""
    names = {each.model_name: name for name, each in tools.items() if each.model_name != name}
    if not names:
        return answer
    calls = (each.get("type") == "function_call" and str(each.get("name")) in names for each in answer.items)
    items = [
        {**each, "name": names[str(each["name"])]} if is_call else each
        for each, is_call in zip(answer.items, calls, strict=True)
    ]
    return replace(answer, items=items)


@lru_cache(maxsize=4096)
def _spec(each: Tool) -> ToolSpec:
    return ToolSpec(name=each.model_name, description=each.description, parameters=portable(each.parameters))
