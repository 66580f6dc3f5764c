"""The activities of a set of agents: `call_model`, one for each tool, one for tools that are gone, and notices."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Final

from temporalio.client import Client

from assent.agents.agent import Agent, with_their_agents
from assent.agents.tool import Tool
from assent.proof.verification import check_installed
from assent.runtime.webhooks import Webhook
from assent.wire import protocol
from assent.wire.budget import Price
from assent.wire.errors import ConfigurationError

from .call_model import ModelCalls
from .check_call import Checks
from .conversation_cache import ConversationCache
from .guard import Guard
from .mcp_servers import McpServers
from .own_run import as_activity
from .proofs import Proofs
from .providers import Providers, missing_key, warm_up
from .run_tool import ToolCalls
from .send_notices import Notices
from .summarise import Summaries
from .user_code import UserCode

PREFIX_CACHE: Final = 64 * 1024 * 1024
"""Bytes of conversation that a worker's process keeps, so that a model call carries only what is new."""
THREADS: Final = 64
RESERVED: Final = (protocol.CALL_MODEL, protocol.SUMMARISE, protocol.CHECK_CALL, protocol.SEND_NOTICES)
"""The activities that every worker of Assent has."""


class Activities:
    """The activities of *agents*, and of those that they ask or hand over to, for `Worker(activities=…)`.

    *prefix_cache* is in bytes; 0 rebuilds every conversation from history. *webhooks* are where notices are sent: the
    same on every worker of a task queue. *continue_after* makes a run continue as new after so many events of its
    history, in addition to when the server suggests it; 0: only then. *prices* is what models cost, by their id.
    *requires_requester* is that of every agent. *proofs* says who may prove a decision. Close it when its
    worker has stopped.

    Raises:
        ConfigurationError: two agents have one name, or two different tools do (the activity type is the tool's
            name), or the environment holds no key for an agent's model, or no usable secret for a webhook, or
            *continue_after* is negative, or an agent's budget bounds its cost and its model has no price; or an MCP
            server cannot be used here (`McpServers`).
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        *,
        prefix_cache: int = PREFIX_CACHE,
        webhooks: Sequence[Webhook] = (),
        continue_after: int = 0,
        prices: Mapping[str, Price] | None = None,
        requires_requester: bool = False,
        proofs: Proofs | None = None,
    ) -> None:
        proofs = proofs or Proofs()
        self.check(agents, prices=prices, proofs=proofs)
        if continue_after < 0:
            message = f"continue_after is {continue_after}; give a number of events, or 0 for the server's suggestion"
            raise ConfigurationError(message)
        self._notices = Notices(webhooks)
        agents = with_their_agents(agents)
        self.agents = _by_name(agents)
        self.tools = _tools(agents)
        self._providers = Providers()
        Thread(target=warm_up, name="assent-warm-up", daemon=True).start()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="assent-tool")
        self._decided = ThreadPoolExecutor(THREADS, thread_name_prefix="assent-decided-tool")
        self._users = UserCode()
        prefixes = ConversationCache(prefix_cache)
        self.servers = McpServers(agents)
        Thread(target=self.servers.warm_up, name="assent-warm-up-mcp", daemon=True).start()
        self._models = ModelCalls(
            self.agents,
            self._providers,
            prefixes,
            self._users,
            self.servers,
            notices=bool(webhooks),
            continue_after=continue_after,
            prices=prices,
            requires_requester=requires_requester,
            proofs=proofs,
        )
        self._summaries = Summaries(self.agents, self._providers, prefixes, prices)
        self._checks = Checks(self.agents, self._users, self.servers, proofs)
        self._calls = ToolCalls(self.agents, self._threads, self._decided, self._users, self.servers, proofs)

    @property
    def attributes(self) -> bool:
        """Whether runs may upsert the Assent search attributes; none, until it is set."""
        return self._models.attributes

    @attributes.setter
    def attributes(self, usable: bool) -> None:
        self._models.attributes = usable

    @property
    def sends_notices(self) -> bool:
        """Whether there is a webhook that notices go to."""
        return bool(self._notices.endpoints)

    def guard(self, client: Client, theirs: Sequence[str], gated: Sequence[str], *, trace_content: bool) -> Guard:
        """The interceptor of a worker with other activities, *theirs*, of which those *gated* run only as approved."""
        own = [*RESERVED, *(each.name for each in self.tools)]
        return Guard(client, self._calls, own, theirs, gated, trace_content=trace_content)

    @staticmethod
    def check(
        agents: Sequence[Agent],
        webhooks: Sequence[Webhook] = (),
        prices: Mapping[str, Price] | None = None,
        proofs: Proofs | None = None,
    ) -> None:
        """Refuse agents that cannot be served together, or not here, and webhooks without a secret.

        Raises:
            ConfigurationError: as the class.
        """
        agents = with_their_agents(agents)
        _by_name(agents)
        _tools(agents)
        _check_keys(agents)
        _check_prices(agents, prices or {})
        McpServers(agents)
        if proofs is not None:
            _check_proofs(agents, proofs)
        Notices(webhooks)

    @property
    def functions(self) -> list[Callable[..., object]]:
        """Every activity, ready for a worker."""
        return [
            as_activity(self._models.call_model, protocol.CALL_MODEL),
            as_activity(self._summaries.summarise_conversation, protocol.SUMMARISE),
            as_activity(self._checks.check_call, protocol.CHECK_CALL),
            *(as_activity(self._calls.running(each), each.name) for each in self.tools),
            as_activity(self._notices.send_notices, protocol.SEND_NOTICES),
        ]

    async def close(self) -> None:
        """Close the connections to providers and webhooks, and let go of the threads."""
        await self.servers.close()
        await self._providers.close()
        await self._notices.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._decided.shutdown(wait=False, cancel_futures=True)
        self._users.close()


def _by_name(agents: Sequence[Agent]) -> Mapping[str, Agent]:
    by_name: dict[str, Agent] = {}
    for agent in agents:
        if by_name.get(agent.name, agent) is not agent:
            raise ConfigurationError(f"two agents are named {agent.name!r}; give one another name")
        by_name[agent.name] = agent
    return by_name


def _check_keys(agents: Sequence[Agent]) -> None:
    for agent in agents:
        problem = missing_key(agent.model)
        if problem is not None:
            raise ConfigurationError(f"agent {agent.name!r}: {problem}")


def _check_prices(agents: Sequence[Agent], prices: Mapping[str, Price]) -> None:
    for agent in agents:
        if agent.budget is not None and agent.budget.max_cost is not None and agent.model.id not in prices:
            message = (
                f"agent {agent.name!r} has a budget with max_cost, and there is no price of model {agent.model.id!r}: "
                f'ASSENT_PRICES={{"{agent.model.id}": {{"input": 0.25, "output": 2}}}}, for a million tokens'
            )
            raise ConfigurationError(message)


def _check_proofs(agents: Sequence[Agent], proofs: Proofs) -> None:
    if proofs.approvers is not None:
        check_installed()
        return
    asking = [f"tool {each.name!r}" for agent in agents for each in agent.all_tools if each.terms.proof]
    asking += [f"the policy of agent {agent.name!r}" for agent in agents if agent.policy and agent.policy.asks_proof]
    asking += ["require_proof"] if proofs.level else []
    if asking:
        message = f"{asking[0]} asks for proof of who decides, and the worker has no approvers file: ASSENT_APPROVERS"
        raise ConfigurationError(message)


def _tools(agents: Sequence[Agent]) -> list[Tool]:
    tools: dict[str, tuple[Tool, str]] = {}
    for agent in agents:
        for each in agent.all_tools:
            other, owner = tools.setdefault(each.name, (each, agent.name))
            if other.function is not each.function and not (other.target is not None and other.target == each.target):
                message = (
                    f"agents {owner!r} and {agent.name!r} have different tools named {each.name!r}; "
                    "rename one, or serve them on different task queues"
                )
                raise ConfigurationError(message)
    return [each for each, _ in tools.values()]
