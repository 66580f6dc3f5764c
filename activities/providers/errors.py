"""What a failed model call means: may it be made again, and when. One pure function, `posture`.

The order in which the headers are read (`retry-after-ms`, `retry-after`, `x-should-retry`) and the retried statuses are
those of Temporal's OpenAI plugin and of the `openai` package itself. Two things differ: a long-lived run has to survive
an expired key or a model that is not rolled out yet, so 401, 403 and 404 are retried, slowly and visibly; and the
client's own retries are off, because Temporal's are durable.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from temporalio.exceptions import ApplicationError

from assent.wire.errors import AssentError
from assent.wire.protocol import Usage

from .refusals import error_messages

if TYPE_CHECKING:
    from openai import APIConnectionError, APIError, APIStatusError

MESSAGE_LIMIT: Final = 2000
LONGEST_DELAY: Final = timedelta(minutes=10)
SLOW: Final = timedelta(seconds=60)
ONE_ANSWER: Final = Usage(requests=1)
"""What an answer used at the least, where it does not say."""

_SLOW_KINDS: Final = {401: "AuthenticationFailed", 402: "QuotaExceeded", 403: "PermissionDenied", 404: "ModelNotFound"}
_REFUSALS: Final = frozenset({400, 422})
_QUOTA_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_PROMPT_CODES: Final = frozenset({"invalid_prompt", "content_policy_violation", "content_filter"})
_FINAL_KINDS: Final = frozenset({"invalid_request_error", "invalid_prompt"})
_CONTEXT: Final = re.compile(r"context[_ ](length|window)|maximum context|prompt is too long", re.IGNORECASE)
_MENDABLE: Final = {
    "QuotaExceeded": r"credit balance is too low|insufficient[ _](balance|credits|funds|quota)|billing_hard_limit"
    r"|budget_exceeded|budget has been exceeded|exceeded budget|billing (is )?not (active|enabled)",
    "AuthenticationFailed": r"no connected db|authentication[ _]error|unauthori[sz]ed"
    r"|api[ _-]?key[ _](is )?(not valid|not found|invalid|missing|expired)"
    r"|(invalid|incorrect|missing|expired|unknown)[ _](api[ _-]?key|proxy server token|token passed)",
    "ModelNotFound": r"(invalid|unknown|no such) model\b|not a valid model|model identifier is invalid"
    r"|model_(not_found|decommissioned)|deploymentnotfound|unable to access model"
    r"|model\b.{0,80}\b(not found|not exist|decommissioned|not available|no longer available|not accessible)",
    "PermissionDenied": r"(location|region|territory) (is )?not supported|unsupported_country|permission_denied"
    r"|organization (must be verified|has been (restricted|disabled))|organization_restricted",
}
"""What gateways say in a 400 that an operator mends, where others send 401, 402, 403 or 404."""
_DATA: Final = re.compile(r"(data:[^;,\s]*;base64,)[A-Za-z0-9+/=]+")
_KEY: Final = re.compile(r"\b(sk-|Bearer\s+)[^\s'\",}]{6,}", re.IGNORECASE)


@dataclass(frozen=True)
class ErrorHandling:
    """What a failure means. *delay* None leaves the time of the next attempt to Temporal's backoff.

    *kind* is the failure's type name in history, *message* is bounded to `MESSAGE_LIMIT` and never holds a key.
    *paid* is what the model's answer used, where there was one that could not be used; None where nothing was paid.
    *limited*: one that comes again and again in the same words is no outage, and ends. *unknown*: a refusal in words
    that are not known: the fault of the prompt, or of what an operator mends.
    """

    kind: str
    message: str
    retry: bool
    delay: timedelta | None = None
    paid: Usage | None = field(default=None, compare=False)
    limited: bool = field(default=False, compare=False)
    unknown: bool = field(default=False, compare=False)


class CallError(AssentError):
    """A model call that failed on our side of the wire, or with an answer that is none. It knows its *posture*."""

    def __init__(self, posture: ErrorHandling) -> None:
        super().__init__(posture.message)
        self.posture = posture


class EmptyStreamError(CallError):
    """A stream without an event: some servers fail so where they cannot stream what they are asked for."""

    def __init__(self) -> None:
        super().__init__(
            ErrorHandling("UnreadableAnswer", "The provider's stream was empty.", retry=True, limited=True)
        )


def unreadable(message: str, *, paid: Usage | None = ONE_ANSWER) -> CallError:
    """The error for an answer that cannot be read: not JSON, cut off, or without what an answer must have.

    *paid* is what it used, as far as that is known; None where no model can have made it.
    """
    return CallError(ErrorHandling("UnreadableAnswer", message[:MESSAGE_LIMIT], retry=True, paid=paid, limited=True))


def not_json(error: ValueError) -> CallError:
    """The error for a body that is not JSON: the first half of an answer, or another program's page."""
    body = str(error.doc).lstrip() if isinstance(error, json.JSONDecodeError) else ""
    paid = ONE_ANSWER if body.startswith("{") else None
    return unreadable(f"The provider's answer is not JSON: {error}", paid=paid)


def posture(error: Exception) -> ErrorHandling:
    """What *error*, anything that `Providers.ask` raises, means."""
    if isinstance(error, CallError):
        return error.posture
    # Imported here: it takes half a second, and a caller with one of its errors has imported it already.
    from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

    if isinstance(error, TimeoutError | APITimeoutError):
        return ErrorHandling("ProviderTimeout", "The provider did not answer in time.", retry=True, limited=True)
    if isinstance(error, APIStatusError):
        return _of_status(error)
    if isinstance(error, APIConnectionError):
        return ErrorHandling("ProviderUnavailable", _connection_message(error), retry=True)
    if isinstance(error, APIError):
        return in_stream(error.code, error.type, _bounded(error.message, secret=_key_of(error)))
    # A bug of ours, or of the package: the run waits for a while for a fixed worker rather than being lost.
    return ErrorHandling("ModelCallFailed", _bounded(f"{type(error).__name__}: {error}"), retry=True, limited=True)


def in_stream(code: object, kind: object, message: str) -> ErrorHandling:
    """What an error means that came in a stream, where the status had said that all is well.

    *code* and *kind* are those of OpenAI's error object; some compatible servers put an HTTP status into *code*.
    What is not known to be final is retried.
    """
    kinds = {str(code), str(kind)}
    message = _bounded(message or f"The provider stopped in the middle of its answer: {code or kind}")
    status = int(str(code)) if re.fullmatch(r"[45]\d\d", str(code)) else None
    if kinds & _QUOTA_CODES:
        return ErrorHandling("QuotaExceeded", message, retry=True, delay=SLOW)
    if _CONTEXT.search(f"{code} {message}") and (status is None or status < 500):
        return ErrorHandling("ContextTooLong", message, retry=False)
    slow = (
        _mendable_kind(f"{code} {kind} {message}") if status is None or status in _REFUSALS else _SLOW_KINDS.get(status)
    )
    if slow is not None or status is not None:
        retry = slow is not None or _should_retry(status or 0, {})
        unknown = not retry and not kinds & _PROMPT_CODES
        return ErrorHandling(slow or _kind(status or 0), message, retry=retry, delay=_slow(slow), unknown=unknown)
    if kinds & _FINAL_KINDS:
        return ErrorHandling("ProviderRejected", message, retry=False, unknown=not kinds & _PROMPT_CODES)
    return ErrorHandling(
        "RateLimited" if "rate_limit" in " ".join(kinds) else "ProviderUnavailable", message, retry=True
    )


def _slow(kind: str | None) -> timedelta | None:
    return SLOW if kind else None


def as_application_error(error: Exception) -> ApplicationError:
    """*error*, anything that `Providers.ask` raises, as Temporal wants it.

    Raise it `from None`: the message has all there is to say, and a chained error would be written to history too.
    """
    return to_application_error(posture(error))


def to_application_error(handling: ErrorHandling) -> ApplicationError:
    """What *handling* is to Temporal: a type, whether to retry, and when."""
    return ApplicationError(
        handling.message,
        type=handling.kind,
        non_retryable=not handling.retry,
        next_retry_delay=handling.delay if handling.retry else None,
    )


def _of_status(error: APIStatusError) -> ErrorHandling:
    status, headers, message = error.status_code, error.response.headers, _status_message(error)
    delay = retry_delay(headers)
    if status == 413 or (status == 400 and _CONTEXT.search(f"{error.code} {message}")):
        return ErrorHandling("ContextTooLong", message, retry=False)
    if slow := _slow_kind(error, message):
        return ErrorHandling(slow, message, retry=True, delay=delay or SLOW)
    retry = _should_retry(status, headers)
    # Some servers answer 500 to what they do not understand, and to nothing else.
    unknown = not retry and error.code not in _PROMPT_CODES
    # The delay counts where an unknown refusal is waited for.
    return ErrorHandling(_kind(status), message, retry=retry, delay=delay, limited=status == 500, unknown=unknown)


def _slow_kind(error: APIStatusError, message: str) -> str | None:
    """The kind of a failure that an operator ends: by renewing a key, paying a bill or rolling out a model."""
    if error.status_code == 429 and (error.code in _QUOTA_CODES or error.type in _QUOTA_CODES):
        return "QuotaExceeded"
    if error.status_code in _REFUSALS:
        return _mendable_kind(f"{error.code} {error.type} {message}")
    return _SLOW_KINDS.get(error.status_code)


def _mendable_kind(text: str) -> str | None:
    return next((kind for kind, words in _MENDABLE.items() if re.search(words, text, re.IGNORECASE)), None)


def _kind(status: int) -> str:
    if status == 429:
        return "RateLimited"
    if status == 408:
        return "ProviderTimeout"
    return "ProviderUnavailable" if status == 409 or status >= 500 else "ProviderRejected"


def _should_retry(status: int, headers: Mapping[str, str]) -> bool:
    header = headers.get("x-should-retry", "").strip().lower()
    if header in {"true", "false"}:
        return header == "true"
    return status in {408, 409, 429} or status >= 500


def retry_delay(headers: Mapping[str, str]) -> timedelta | None:
    """How long the provider asks to wait; None when it does not say, or says something that is no time to come.

    *headers* are looked up in lower case. An HTTP date is measured from the response's own `date`, so that a clock of
    ours that is wrong makes no difference.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return _bounded_delay(milliseconds / 1000)
    after = headers.get("retry-after")
    if (seconds := _number(after)) is not None:
        return _bounded_delay(seconds)
    until, sent = _date(after), _date(headers.get("date"))
    return _bounded_delay((until - sent).total_seconds()) if until and sent else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    # A date with the zone `-0000` comes back without one; RFC 9110 has it that HTTP dates are UTC.
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _bounded_delay(seconds: float) -> timedelta | None:
    return timedelta(seconds=min(seconds, LONGEST_DELAY.total_seconds())) if seconds > 0 else None


def _status_message(error: APIStatusError) -> str:
    messages = "; ".join(dict.fromkeys(error_messages(error.body)))
    shown = f"Error code: {error.status_code} - {error.body}" if error.body else error.message
    return _bounded(messages or shown, secret=_key_of(error))


def _key_of(error: APIError) -> str:
    return error.request.headers.get("authorization", "").removeprefix("Bearer ")


def _connection_message(error: APIConnectionError) -> str:
    return _bounded(f"No answer from {error.request.url.host}: {error.__cause__ or error.message}")


def _bounded(message: str, *, secret: str = "") -> str:
    # Some compatible servers repeat the whole key in a 401, or an image that they refuse; histories are kept for years.
    if len(secret) >= 6:
        message = message.replace(secret, "[key]")
    return _DATA.sub(r"\1…", _KEY.sub("[key]", message))[:MESSAGE_LIMIT]
