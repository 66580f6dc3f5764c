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
    """*agents* are the modules whose agents a worker serves; in the environment `ASSENT_AGENTS=module,module`.

    *task_queue* is where runs are started and served. *prefix_cache* is bytes of conversation that a worker keeps,
    *cached_runs* the runs it keeps in memory. *webhooks* are where it sends notices; in the environment
    `ASSENT_WEBHOOKS`, a JSON list. *continue_after* makes a run continue as new after so
    many events of its history, in addition to when the server suggests it; 0: only then. *payload_codec* is the
    `module:NAME` of what encrypts all that is stored (`assent.runtime.payload_codec`); every `connect` reads it too.
    *storage* keeps payloads of *storage_threshold* bytes and more outside of histories (`runtime.storage`), likewise.
    *deployment* and *build_id* switch Temporal's worker versioning on, *versioning* is what it does to runs that are
    under way. *max_activities_per_second* limits the task queue, all its workers together.
    *prices* is what models cost, by their id: `{"gpt-5-mini": {"input": 0.25, "output": 2}}`, for a million tokens.
    *metrics_address* is the `HOST:PORT` where a worker serves metrics for Prometheus; empty: nowhere.
    *requires_requester* makes runs without a `requested_by` fail, whatever their agent says. *approvers* is the path of
    the approvers file, *require_proof* the level of proof that every decision needs: `person` or `service`.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASSENT_", extra="ignore", hide_input_in_errors=True, validate_assignment=True
    )

    agents: Annotated[list[str], NoDecode] = []
    task_queue: str = TASK_QUEUE
    prefix_cache: int = 64 * 1024 * 1024
    cached_runs: int = 1_000
    webhooks: list[Webhook] = []
    continue_after: Annotated[int, Field(ge=0)] = 0
    prices: dict[str, Price] = {}
    requires_requester: bool = False
    approvers: str = ""
    require_proof: ProofLevel | None = None
    payload_codec: str = ""
    storage: str = ""
    storage_threshold: Annotated[int, Field(ge=16 * 1024)] = 128 * 1024
    deployment: str = ""
    build_id: str = ""
    versioning: Versioning = "auto-upgrade"
    metrics_address: str = ""
    max_activities_per_second: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None

    @classmethod
    def read(cls, **given: object) -> Settings:
        """The settings of the environment, but for what is *given* and not None. I/O; not in workflow code.

        Raises:
            ConfigurationError: a variable cannot be read. One line, which does not repeat its value.
        """
        warn_of_unknown_variables()
        try:
            settings = cls()
            for name, value in given.items():
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
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"]).removeprefix(".")
    return f"{where}: {found['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def load_agents(modules: Sequence[str]) -> list[Agent]:
    """The agents that these modules define at their top level, in order, each once.

    The working directory is searched too, as `python -m` does. I/O; not in workflow code.

    Raises:
        ConfigurationError: no module was named, one does not import, or one defines no agent. One line each.
    """
    if not modules:
        message = "no agents: name the modules that define them with --agents MODULE, or in ASSENT_AGENTS=module,module"
        raise ConfigurationError(message)
    found: dict[int, Agent] = {}
    for name in modules:
        agents = [value for value in vars(load_module(name)).values() if isinstance(value, Agent)]
        if not agents:
            message = f"module {name!r} defines no agent: assign an assent.Agent to a name at its top level"
            raise ConfigurationError(message)
        found |= {id(agent): agent for agent in agents}
    return list(found.values())


def load_module(name: str) -> ModuleType:
    """Import a module by its name; the working directory is searched too. I/O; not in workflow code.

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
        told = ": ".join(filter(None, [type(error).__name__, bounded(words, _WORDS)]))
        message = f"module {name!r} does not import: {told}{_place(error)}"
        raise ConfigurationError(message) from error


def _place(error: BaseException) -> str:
    """Return the last line of the user's own code that an error came through; empty where it came through none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith(("<", *_NOT_THE_USERS))]
    return f" ({PurePath(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
