"""Which model, where, and with which settings. Values only: the client that talks to it lives in `activities`."""

import re
from dataclasses import KW_ONLY
from datetime import timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

from assent.wire.declarations import declared
from assent.wire.duration import Duration

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The address of a model may hold a token, and a key may be given where the name of its variable should be.
_CONFIG: Final = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, config=_CONFIG)
class _Model:
    id: str = Field(min_length=1)
    _: KW_ONLY
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    timeout: Duration = timedelta(minutes=5)
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = Field(default=None, gt=0)
    parallel_tool_calls: bool = True
    tool_choice: str | None = Field(default="auto", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    stream: bool = True

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, base_url: str | None) -> str | None:
        parts = None if base_url is None else urlsplit(base_url)
        if parts is not None and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError('must begin with http:// or https:// and a host, e.g. "http://localhost:8000/v1"')
        return base_url

    @field_validator("api_key_env")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if not _VARIABLE.fullmatch(name):
            raise ValueError("must be the name of an environment variable of the worker, never the key itself")
        return name


@declared
@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class OpenAIResponses(_Model):
    """A model behind the OpenAI Responses API.

    *id* is the provider's name of the model. *base_url* is where the API is; None takes `OPENAI_BASE_URL` from the
    worker's environment, then the provider's own. *api_key_env* names the environment variable **of the worker** that
    holds the key, so no key ever reaches a history. *timeout* is for one HTTP call. With *stream*, people who watch see
    the answer while it is written; the answer is the same. *tool_choice* is sent if the agent has tools. `"auto"` is
    the provider's default, but some servers drop the tools without it. `"required"`, or the name of a tool, demands a
    call in the first answer to each message. None sends nothing. The remaining fields are the provider's own settings,
    left out if None. *reasoning_effort* applies to reasoning models.

    Example:
        `OpenAIResponses("gpt-5-mini")`

    Raises:
        ConfigurationError: a field is missing, unknown or of the wrong type.
    """

    api: Literal["responses"] = "responses"
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


@declared
@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class OpenAIChat(_Model):
    """A model behind the Chat Completions API: OpenAI's own, or any server that is compatible with it.

    The fields are those of `OpenAIResponses`; give *base_url* (with its `/v1`) for a compatible server.
    *max_tokens_name* is the parameter for *max_output_tokens*: some servers ignore the newer of the two names.

    Raises:
        ConfigurationError: a field is missing, unknown or of the wrong type.
    """

    api: Literal["chat"] = "chat"
    max_tokens_name: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


Model = OpenAIResponses | OpenAIChat
