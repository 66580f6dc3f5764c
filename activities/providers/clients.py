"""The clients that talk to providers: one for each address, key and timeout, with pooled connections.

The `openai` package takes half a second to import. Nothing here imports it before it is needed, so that a worker polls
at once; `warm_up` does it in a thread meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx
from cachetools import LRUCache

from assent.agents.models import Model, OpenAIResponses
from assent.wire.digest import canonical
from assent.wire.live_text import TextSoFar

from . import chat, responses
from .call_ids import call_ids_of, short_id, with_short_ids, with_unique_call_ids
from .errors import SLOW, CallError, EmptyStreamError, ErrorHandling, not_json, posture
from .exchange import Answer, Question, without_surrogates
from .opaque import binding, without_opaque
from .refusals import Refusable, refused_parameter, refuses_call_ids

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_logger: Final = logging.getLogger(__name__)
_CONNECT_TIMEOUT: Final = 10.0
_REMEMBERED: Final = 10_000
"""Items of conversations of which it is remembered that a model cannot read them."""
_NO_KEY: Final = "none"
"""What a compatible server on this machine is sent when no key is set: it needs none, the client insists on one."""


def warm_up() -> None:
    """Import what the first call needs. Meant for a thread; blocks for about half a second, once."""
    import openai

    # Only an attribute access makes the lazily loaded client module load.
    _ = openai.AsyncOpenAI


@dataclass(frozen=True)
class _Address:
    base_url: str | None
    key_env: str
    timeout: float


class Providers:
    """Asks models. One for each worker process; belongs to one event loop."""

    def __init__(self) -> None:
        self._clients: dict[_Address, AsyncOpenAI] = {}
        self._refused: dict[tuple[str, str | None, str, str], set[Refusable]] = {}
        self._uncounted: set[tuple[str, str | None, str]] = set()
        # By item, never by model: one run's data teaches nothing about another run's.
        self._unreadable: LRUCache[tuple[str, str | None, str, str], bool] = LRUCache(_REMEMBERED)
        self._shortened: LRUCache[tuple[str, str | None, str, str], bool] = LRUCache(_REMEMBERED)
        self._warm = False

    async def ask(self, question: Question, so_far: TextSoFar | None = None) -> Answer:
        """Ask the model, once. Every call id in the answer is new to the conversation.

        Its words go to *so_far* as they come, where the model is asked for a stream.

        Raises:
            Exception: anything that `failures.posture` explains; use `failures.as_application_error`.
        """
        if not self._warm:
            await asyncio.to_thread(warm_up)
            self._warm = True
        client = self._client(question.model)
        try:
            # The client's own timeout is for each read: a server that trickles would never reach it.
            async with asyncio.timeout(question.model.timeout.total_seconds()):
                answer = without_surrogates(await self._asked(client, question, so_far or TextSoFar()))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise not_json(error) from error
        return replace(answer, items=with_unique_call_ids(answer.items, question.items))

    async def close(self) -> None:
        """Close all connections."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()

    async def _asked(self, client: AsyncOpenAI, question: Question, so_far: TextSoFar) -> Answer:
        model = question.model
        ask = responses.ask if isinstance(model, OpenAIResponses) else chat.ask
        known = self._refused.setdefault(_learnt_of(question), set())
        without, whole, empty = set(known), question, False
        question, short = self._readable(question), self._short(question)
        while True:
            try:
                sent = replace(question, items=with_short_ids(question.items, short))
                answer = await ask(client, sent, so_far, without)
            except Exception as error:
                # What models and servers refuse to be asked for is learnt, because no list of names stays right.
                if (part := refused_parameter(error, question, without)) is not None:
                    without.add(part)
                elif refuses_call_ids(error) and (named := call_ids_of(question.items)) - short:
                    short = named
                elif (bare := self._unbound(question, error)) is not None:
                    question = bare
                elif isinstance(error, EmptyStreamError):
                    empty = True
                    without.add("stream")
                else:
                    raise
            else:
                # A stream that was empty once may not be so again.
                known |= without - {"stream"} if empty else without
                self._note_unreadable(whole, question)
                self._note_short(model, short)
                self._note_usage(model, answer)
                return answer

    def _short(self, question: Question) -> set[str]:
        """Return the ids of calls that were refused before, in this conversation."""
        if not self._shortened:
            return set()
        key = _key_of(question.model)
        return {each for each in call_ids_of(question.items) if (*key, short_id(each)) in self._shortened}

    def _note_short(self, model: Model, call_ids: Iterable[str]) -> None:
        for call_id in call_ids:
            self._shortened[*_key_of(model), short_id(call_id)] = True

    def _note_usage(self, model: Model, answer: Answer) -> None:
        usage, key = answer.usage, _key_of(model)
        if usage.input_tokens + usage.output_tokens == 0 and key not in self._uncounted:
            self._uncounted.add(key)
            _logger.warning(
                "The provider does not say how many tokens the model %r uses: limits of tokens and cost cannot "
                "be counted. Set max_model_calls and max_time in the budget.",
                model.id,
            )

    def _note_unreadable(self, whole: Question, asked: Question) -> None:
        """Remember the items that were not sent as they are."""
        model, sent = whole.model, {id(item) for item in asked.items}
        for item in whole.items if asked is not whole else ():
            if id(item) not in sent and (name := binding(item)) is not None:
                self._unreadable[*_key_of(model), name] = True

    def _readable(self, question: Question) -> Question:
        """*question* without the parts of its items that were refused before, in this conversation."""
        key, unreadable = _key_of(question.model), self._unreadable
        if not unreadable:
            return question
        known = [(item, binding(item)) for item in question.items]
        lost = {name for _, name in known if (*key, name or "") in unreadable}
        if not lost:
            return question
        items = [without_opaque(item) if name in lost else item for item, name in known]
        return replace(question, items=[item for item in items if item is not None])

    def _unbound(self, question: Question, error: Exception) -> Question | None:
        """*question* without all that binds it to a model, if *error* may be about that; None when it is not."""
        if posture(error).kind != "ProviderRejected" or not any(map(binding, question.items)):
            return None
        items = [without_opaque(item) for item in question.items]
        return replace(question, items=[item for item in items if item is not None])

    def _client(self, model: Model) -> AsyncOpenAI:
        base_url = _base_url(model)
        key = _key(model)
        address = _Address(base_url, model.api_key_env, model.timeout.total_seconds())
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = _open_client(address, key)
        client.api_key = key  # read at every call, so that a renewed key needs no new worker
        return client


def _key_of(model: Model) -> tuple[str, str | None, str]:
    return model.api, model.base_url, model.id


def _learnt_of(question: Question) -> tuple[str, str | None, str, str]:
    """For what it is learnt what is refused: a model, at an address; and a schema, which alone may be the trouble."""
    model, schema = question.model, question.output_schema
    return model.api, model.base_url, model.id, "" if schema is None else canonical(schema).decode()


def _open_client(address: _Address, key: str) -> AsyncOpenAI:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

    return AsyncOpenAI(
        api_key=key,
        base_url=address.base_url,
        timeout=Timeout(address.timeout, connect=min(address.timeout, _CONNECT_TIMEOUT)),
        max_retries=0,
        # A proxy cannot reach this machine's own loopback address.
        http_client=DefaultAsyncHttpxClient(trust_env=False, verify=_tls()) if is_loopback(address.base_url) else None,
    )


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)  # Reading all certificates takes 60 ms


def missing_key(model: Model) -> str | None:
    """What is missing to call *model*, in one line; None when nothing is. A server on this machine needs no key."""
    if os.environ.get(model.api_key_env, "").strip() or is_loopback(_base_url(model)):
        return None
    provider = _provider_name(model)
    return f"The environment variable {model.api_key_env} of the worker holds no API key for {provider}: set it."


def _key(model: Model) -> str:
    problem = missing_key(model)
    if problem is not None:
        raise CallError(ErrorHandling("AuthenticationFailed", problem, retry=True, delay=SLOW))
    return os.environ.get(model.api_key_env, "").strip() or _NO_KEY


def _base_url(model: Model) -> str | None:
    return model.base_url or os.environ.get("OPENAI_BASE_URL") or None


def _provider_name(model: Model) -> str:
    return _base_url(model) or "OpenAI"


def is_loopback(url: str | None) -> bool:
    """Whether a URL names this machine itself."""
    host = urlsplit(url or "").hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
