"""Settings from the environment: `ASSENT_AGENTS`, `ASSENT_TASK_QUEUE` and so on.

How to reach Temporal is not here: that is `TEMPORAL_ADDRESS` and the profile file that the `temporal` CLI reads too.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path, PurePath
from types import ModuleType
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from assent.agents.agent import Agent
from assent.runtime.webhooks import Webhook
from assent.wire.budget import Price
from assent.wire.errors import ConfigurationError
from assent.wire.names import TASK_QUEUE
from assent.wire.proofs import ProofLevel
from assent.wire.text import bounded

_WORDS: Final = 300
"""Characters of an error of a user's module that are shown."""
_NOT_THE_USERS: Final = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    str(Path(__file__).parents[1]),
)
"""Where code lies that no user wrote: Python's own, installed packages, and Assent."""

_OTHER_VARIABLES: Final = {"ASSENT_BIND", "ASSENT_DEBUG", "ASSENT_SCREENSHOTS", "ASSENT_SIGNING_PASSPHRASE"}
_BY_KUBERNETES: Final = re.compile(r"_(?:SERVICE_HOST|SERVICE_PORT|PORT)(?:_|$)")
_log = logging.getLogger(__name__)

Versioning = Literal["auto-upgrade", "pinned"]


class Settings(BaseSettings):
    """The settings of a worker; docs/reference/settings.md is made of the text below each field."""

    model_config = SettingsConfigDict(
        env_prefix="ASSENT_", extra="ignore", hide_input_in_errors=True, validate_assignment=True
    )

    agents: Annotated[list[str], NoDecode] = []
    """Modules whose agents the worker serves, with commas between: `module,module`."""
    task_queue: str = TASK_QUEUE
    """The task queue on which runs are started and served."""
    prefix_cache: int = 64 * 1024 * 1024
    """Bytes of conversations that a worker keeps. What is not kept is rebuilt from the run's history."""
    cached_runs: int = 1_000
    """Runs that a worker keeps in memory."""
    webhooks: list[Webhook] = []
    """Where the worker sends notices: a JSON list."""
    continue_after: Annotated[int, Field(ge=0)] = 0
    """Events of its history after which a run continues as new; 0: only when the server suggests it."""
    prices: dict[str, Price] = {}
    """What models cost for a million tokens, by their id: `{"gpt-5-mini": {"input": 0.25, "output": 2}}`."""
    requires_requester: bool = False
    """`1`: a run without `requested_by` fails, whatever its agent says."""
    approvers: str = ""
    """The path of the file that says which keys speak for whom."""
    require_proof: ProofLevel | None = None
    """The proof that every decision needs: `person` or `service`."""
    payload_codec: str = ""
    """`module:NAME` of the codec that encrypts all that is stored. Clients and commands read it too."""
    storage: str = ""
    """Where large payloads are kept outside of histories: `directory:/path` or `s3://bucket/prefix`."""
    storage_threshold: Annotated[int, Field(ge=16 * 1024)] = 128 * 1024
    """Payloads of so many bytes and more are kept there; at least 16,384."""
    deployment: str = ""
    """The Temporal deployment of the worker. With a build, it switches worker versioning on."""
    build_id: str = ""
    """The build of the worker in that deployment."""
    versioning: Versioning = "auto-upgrade"
    """What active runs do when another build becomes current: `auto-upgrade` or `pinned`."""
    metrics_address: str = ""
    """`HOST:PORT` where the worker serves metrics for Prometheus."""
    max_activities_per_second: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """The limit of model and tool calls per second, for all workers of the task queue together."""

    @classmethod
    def read(cls, **values: object) -> Settings:
        """The settings of the environment, but for *values* that are not None.

        Raises:
            ConfigurationError: a variable cannot be read. One line, which does not repeat its value.
        """
        warn_of_unknown_variables()
        try:
            settings = cls()
            for name, value in values.items():
                if value is not None:
                    setattr(settings, name, value)
        except ValidationError as error:
            raise ConfigurationError(_variable(error)) from None
        except SettingsError as error:
            # pydantic-settings: `error parsing value for field "webhooks" from source …`.
            name = next((name for name in cls.model_fields if f'"{name}"' in str(error)), "")
            raise ConfigurationError(f"ASSENT_{name.upper()} is not JSON") from None
        return settings

    @field_validator("agents", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


@cache
def warn_of_unknown_variables() -> None:
    """Log a warning for each variable `ASSENT_…` that Assent does not know: it has no effect.

    It is not refused: Kubernetes sets `ASSENT_SERVICE_HOST` and the like, and a webhook's secret may have any name.
    """
    known = {f"ASSENT_{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    for name in sorted(os.environ):
        if not name.startswith("ASSENT_") or name in known or _BY_KUBERNETES.search(name):
            continue
        if name.startswith("ASSENT_WEB_") or name in os.environ.get("ASSENT_WEBHOOKS", ""):
            continue
        near = get_close_matches(name, known, 1, 0.8)
        hint = f"; did you mean {near[0]}?" if near else ""
        _log.warning("the variable %s is not one of Assent's settings and has no effect%s", name, hint)


def _variable(error: ValidationError) -> str:
    """Return the first of the errors of the settings, by the name of its variable."""
    name, *_ = error.errors()[0]["loc"]
    return f"ASSENT_{str(name).upper()}{_first(error).removeprefix(str(name))}"


def _first(error: ValidationError) -> str:
    """Return the first of the errors, without what was given: a URL may hold a token."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
    return f"{where}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def load_agents(modules: Sequence[str]) -> list[Agent]:
    """The agents that these modules define at their top level, in order, each once.

    The working directory is searched too, as `python -m` does.

    Raises:
        ConfigurationError: no module was named, one does not import, or one defines no agent. One line each.
    """
    if not modules:
        message = "no agents: name the modules that define them with --agents MODULE, or in ASSENT_AGENTS=module,module"
        raise ConfigurationError(message)
    by_id: dict[int, Agent] = {}
    for name in modules:
        agents = [value for value in vars(load_module(name)).values() if isinstance(value, Agent)]
        if not agents:
            message = f"module {name!r} defines no agent: assign an assent.Agent to a name at its top level"
            raise ConfigurationError(message)
        by_id |= {id(agent): agent for agent in agents}
    return list(by_id.values())


def load_module(name: str) -> ModuleType:
    """Import a module by its name; the working directory is searched too.

    Raises:
        ConfigurationError: it does not import. One line.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        words = _first(error) if isinstance(error, ValidationError) else next(iter(str(error).splitlines()), "")
        text = ": ".join(filter(None, [type(error).__name__, bounded(words, _WORDS)]))
        raise ConfigurationError(f"module {name!r} does not import: {text}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """Return the last line of the user's own code that an error came through; empty where it came through none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith(("<", *_NOT_THE_USERS))]
    return f" ({PurePath(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
