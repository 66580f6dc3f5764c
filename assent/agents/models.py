"""Which model, where, and with which settings. Values only: the client that talks to it lives in `activities`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    timeout: float = Field(default=300.0, gt=0)
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = Field(default=None, gt=0)
    parallel_tool_calls: bool = True
    stream: bool = True


class OpenAIResponses(_Model):
    """A model behind the OpenAI Responses API.

    *id* is the provider's name of the model. *base_url* is where the API is; None takes `OPENAI_BASE_URL` from the
    worker's environment, then the provider's own. *api_key_env* names the environment variable **of the worker** that
    holds the key, so no key ever reaches a history. *timeout* is seconds for one HTTP call. *stream* asks for the
    answer word by word, so that who watches sees it grow; the answer is the same. The remaining fields are the
    provider's own settings, left out of the call when None. *reasoning_effort* applies to reasoning models.

    Pure; safe in workflow code.
    """

    api: Literal["responses"] = "responses"
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


class OpenAIChat(_Model):
    """A model behind the Chat Completions API: OpenAI's own, or any server that is compatible with it.

    The fields are those of `OpenAIResponses`; give *base_url* (with its `/v1`) for a compatible server.

    Pure; safe in workflow code.
    """

    api: Literal["chat"] = "chat"
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


Model = OpenAIResponses | OpenAIChat
