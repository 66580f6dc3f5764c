"""Agents that follow a script in the place of a model, as `assent worker --scripted` serves them: no key is needed."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import cast

from assent.agents.agent import with_their_agents
from assent.runtime.settings import load_agents, load_module
from assent.testing._script import Step
from assent.testing.model_server import ModelServer
from assent.wire.errors import ConfigurationError


@contextmanager
def scripted(modules: Sequence[str]) -> Generator[str]:
    """Let the agents of *modules* follow the list `script` of their module while the block runs.

    A `ModelServer` on this machine stands in for their models, and the process's `OPENAI_BASE_URL` names it. The value
    is its address.

    Raises:
        ConfigurationError: a module does not import or has no agent or no `script`, or an agent's model has a
            `base_url` of its own. One line.
    """
    with ModelServer.in_thread() as server:
        for name in modules:
            script = getattr(load_module(name), "script", None)
            if not isinstance(script, list) or not script:
                message = (
                    f"module {name!r} has no list `script`, which --scripted plays, such as script = [says('Hello.')]"
                )
                raise ConfigurationError(message)
            for agent in with_their_agents(load_agents([name])):
                if agent.model.base_url is not None:
                    message = f"the model of agent {agent.name!r} has a base_url, which --scripted cannot replace"
                    raise ConfigurationError(message)
                server.script(agent.model.id, *cast("list[Step]", script))
        os.environ["OPENAI_BASE_URL"] = server.url
        yield server.url
