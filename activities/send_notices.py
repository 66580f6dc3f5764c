"""The activity `send_notices`: every notice to every webhook that wants it, signed, at least once or given up.

Each webhook is served on its own, so that one that is down keeps no other waiting. What was delivered, or refused for
good, is kept in the activity's heartbeat details, and the next attempt leaves it out.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, NamedTuple

import httpx
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from assent.core.approvals import edited_text
from assent.core.measurements import NOTICES_REFUSED
from assent.core.notices import Notice, NoticesInput
from assent.runtime import webhooks
from assent.runtime.webhooks import Arguments, Webhook
from assent.wire import visibility
from assent.wire.errors import ConfigurationError
from assent.wire.requirements import PendingRequirement
from assent.wire.text import visible

from .own_run import own_client, own_run
from .providers import is_loopback
from .providers.errors import retry_delay

POST_TIMEOUT: Final = 15.0
"""Seconds for one POST, from the name look-up to the status of the answer."""
CONNECT_TIMEOUT: Final = 5.0
ATTEMPT_TIMEOUT: Final = 40.0
"""Seconds that one attempt spends on a webhook; what is left is sent with the next."""
DESCRIBE_TIMEOUT: Final = timedelta(seconds=5)
_UNREADABLE: Final = Arguments(left_out="they could not be read; assent show has them")
_NO_LONGER: Final = Arguments(left_out="the call no longer waits; assent show has them")
_PENDING: Final = TypeAdapter(PendingRequirement | None)

_log = logging.getLogger(__name__)
_posting: ContextVar[bool] = ContextVar("_posting", default=False)


class _UrlLogFilter(logging.Filter):
    """httpx writes the whole URL of a request to its log, and that of a webhook may hold a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        del record
        return not _posting.get()


logging.getLogger("httpx").addFilter(_UrlLogFilter())


class Outcome(NamedTuple):
    """What became of one POST. *wait* is what the receiver asked for; *said* is one line without the URL."""

    kind: Literal["delivered", "refused", "gone", "again"]
    said: str = ""
    wait: timedelta | None = None
    answered: bool = True


@dataclass(slots=True)
class Endpoint:
    """A webhook with its keys and its connections. *id* names it in heartbeat details without giving anything away."""

    webhook: Webhook
    keys: tuple[bytes, ...]
    id: str
    client: httpx.AsyncClient | None = None
    is_gone: bool = False

    @classmethod
    def of(cls, webhook: Webhook, environment: Mapping[str, str]) -> Endpoint:
        """The endpoint, with the secret that the worker's *environment* holds.

        Raises:
            ConfigurationError: it holds none, or not one that can be used, or the URL is none.
        """
        try:
            keys = webhooks.signing_keys(environment.get(webhook.secret_env, ""))
            _ = httpx.URL(webhook.url)
        except ConfigurationError as error:
            message = f"webhook {webhook.origin}: the secret in the environment variable {webhook.secret_env} {error}"
            raise ConfigurationError(message) from None
        except httpx.InvalidURL:
            raise ConfigurationError(f"webhook {webhook.origin}: its url cannot be used") from None
        named = hmac.new(keys[0], webhook.model_dump_json().encode(), hashlib.sha256)
        return cls(webhook, keys, named.hexdigest()[:16])

    async def post(self, message_id: str, body: bytes) -> Outcome:
        """Send one notice, once."""
        at = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": "assent",
            "webhook-id": message_id,
            "webhook-timestamp": str(at),
            "webhook-signature": webhooks.signature(self.keys, message_id, at, body),
        }
        token = _posting.set(True)
        try:
            async with (
                asyncio.timeout(POST_TIMEOUT),
                self._client().stream("POST", self.webhook.url, content=body, headers=headers) as response,
            ):
                # Only the status is read: a receiver's answer does not matter, and may be endless.
                return outcome_of(response.status_code, response.headers)
        except Exception as error:  # Whatever is wrong with one webhook, the others are sent.
            # Not its words: they may have the URL in them.
            return Outcome("again", type(error).__name__, answered=False)
        finally:
            _posting.reset(token)

    def _client(self) -> httpx.AsyncClient:
        if self.client is None:
            # A proxy cannot reach this machine's own loopback address.
            here = is_loopback(self.webhook.url)
            timeout = httpx.Timeout(POST_TIMEOUT, connect=CONNECT_TIMEOUT)
            self.client = httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=not here)
        return self.client


def outcome_of(status: int, headers: Mapping[str, str]) -> Outcome:
    """What an answer means: 2xx is delivered; 408, 429 and 5xx are tried again; everything else is final."""
    if 200 <= status < 300:
        return Outcome("delivered")
    problem = f"status {status}"
    if status in {408, 429} or status >= 500:
        return Outcome("again", problem, retry_delay(headers))
    return Outcome("gone" if status == 410 else "refused", problem)


class Progress(BaseModel):
    """What earlier attempts left: *done* is settled, *not_before* is when (Unix time) a webhook may be tried again."""

    done: set[str] = Field(default_factory=set[str])
    not_before: dict[str, float] = Field(default_factory=dict[str, float])

    @classmethod
    def of(cls, details: Sequence[object]) -> Progress:
        """What the heartbeat details say; what cannot be read counts as nothing."""
        try:
            return cls.model_validate(details[0] if details else {})
        except ValidationError:
            return cls()

    def save(self) -> None:
        """Leave it to the next attempt."""
        activity.heartbeat(self.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class _Delayed:
    """A webhook to which something is still to be sent, why, and the seconds that it asked for."""

    said: str
    wait: float | None


class Notices:
    """The notices of a worker."""

    def __init__(self, hooks: Sequence[Webhook]) -> None:
        """Read the secrets.

        Raises:
            ConfigurationError: one is missing or cannot be used.
        """
        self.endpoints = [Endpoint.of(webhook, os.environ) for webhook in hooks]

    async def send_notices(self, batch: NoticesInput) -> None:
        """Send each notice to each webhook.

        Raises:
            ApplicationError: something is still to be sent; it is retried.
        """
        progress = Progress.of(activity.info().heartbeat_details)
        arguments = await self._arguments(batch)
        work = [_Queue(endpoint, batch, arguments, progress).send() for endpoint in self.endpoints]
        waiting = [each for each in await asyncio.gather(*work) if each is not None]
        if waiting:
            waits = [each.wait for each in waiting if each.wait is not None]
            # Where one asked for nothing, Temporal's own backoff is soon enough for it, and keeps the others waiting.
            delay = timedelta(seconds=min(waits)) if len(waits) == len(waiting) else None
            message = f"notices not delivered: {'; '.join(each.said for each in waiting)}"
            raise ApplicationError(message, type="NoticesNotDelivered", next_retry_delay=delay)

    async def close(self) -> None:
        """Close all connections."""
        for endpoint in self.endpoints:
            if endpoint.client is not None:
                await endpoint.client.aclose()
                endpoint.client = None

    async def _arguments(self, batch: NoticesInput) -> Mapping[str, Arguments] | None:
        """What the calls that wait have as arguments, by requirement; None where they cannot be read."""
        asking = [endpoint.webhook for endpoint in self.endpoints if endpoint.webhook.arguments]
        if not any(
            hook.is_subscribed(notice) and notice.status == "pending" for hook in asking for notice in batch.notices
        ):
            return {}
        run = own_run()
        try:
            handle = own_client().get_workflow_handle(run.run_id, run_id=run.execution_id)
            memo = await (await handle.describe(rpc_timeout=DESCRIBE_TIMEOUT)).memo()
            waiting = [_PENDING.validate_python(memo[name]) for name in visibility.pending_keys(memo)]
        except (RPCError, ValueError, RuntimeError, TypeError, KeyError):
            # A notice without arguments is better than none.
            _log.warning("the arguments of run %r could not be read for its notices", run.run_id)
            return None
        return {each.id: _arguments(each) for each in waiting if each is not None}


@dataclass(slots=True)
class _Queue:
    """The notices of one batch on their way to one webhook."""

    endpoint: Endpoint
    batch: NoticesInput
    arguments: Mapping[str, Arguments] | None
    progress: Progress
    waits: _Delayed | None = None

    async def send(self) -> _Delayed | None:
        """Send what is not settled, in order; answer with what keeps the rest, if anything does."""
        endpoint, now = self.endpoint, time.time()
        if (until := self.progress.not_before.get(endpoint.id, 0)) > now and self._left():
            return _Delayed(f"{endpoint.webhook.origin} asked to wait", until - now)
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                await self._send_each()
        except TimeoutError:
            self._keep_for_later(Outcome("again", "it takes too long"))
        return self.waits

    def _left(self) -> list[tuple[str, Notice]]:
        if self.endpoint.is_gone:
            return []
        wanted = [each for each in self.batch.notices if self.endpoint.webhook.is_subscribed(each)]
        named = [(webhooks.message_id(each), each) for each in wanted]
        return [(name, each) for name, each in named if self._key(name) not in self.progress.done]

    async def _send_each(self) -> None:
        for name, notice in self._left():
            outcome = await self.endpoint.post(name, self._body(notice))
            if outcome.kind == "again":
                self._keep_for_later(outcome)
                # No answer, or asked to wait: the other notices would fail too.
                if not outcome.answered or outcome.wait is not None:
                    return
                continue
            if outcome.kind != "delivered":
                self._given_up(notice, outcome)
            self.progress.done.add(self._key(name))
            self.progress.save()
            if outcome.kind == "gone":
                self.endpoint.is_gone = True
                return

    def _keep_for_later(self, outcome: Outcome) -> None:
        wait = None if outcome.wait is None else outcome.wait.total_seconds()
        self.waits = _Delayed(f"{self.endpoint.webhook.origin}: {outcome.said}", wait)
        if wait is not None:
            self.progress.not_before[self.endpoint.id] = time.time() + wait
            self.progress.save()

    def _given_up(self, notice: Notice, outcome: Outcome) -> None:
        origin, run_id = self.endpoint.webhook.origin, own_run().run_id
        refused = activity.metric_meter().create_counter(NOTICES_REFUSED.name, NOTICES_REFUSED.text)
        refused.add(1, {"webhook": origin})
        _log.warning("%s refused the notice %s of run %r: %s", origin, notice.type, run_id, outcome.said)
        if outcome.kind == "gone":
            _log.error("%s wants no more notices (status 410): it gets none until this worker is restarted", origin)

    def _key(self, message_id: str) -> str:
        return f"{self.endpoint.id} {message_id}"

    def _body(self, notice: Notice) -> bytes:
        shown = _UNREADABLE if self.arguments is None else self.arguments.get(notice.requirement_id, _NO_LONGER)
        return webhooks.body(
            self.endpoint.webhook, own_run().run_id, self.batch, notice,
            shown if notice.status == "pending" else _NO_LONGER,
        )  # fmt: skip


def _arguments(waiting: PendingRequirement) -> Arguments:
    if waiting.arguments is None:
        return Arguments(left_out=f"{waiting.arguments_size} bytes are too long for a notice; assent show has them")
    in_effect = None if waiting.read_as is None else visible(edited_text(waiting.read_as))
    return Arguments(visible(waiting.arguments), in_effect=in_effect)
