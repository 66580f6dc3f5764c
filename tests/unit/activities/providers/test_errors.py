"""What a failure means: the pure part, without a server."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIStatusError

from assent.activities.providers import CallError, ErrorHandling, as_application_error, posture
from assent.activities.providers.errors import LONGEST_DELAY, MESSAGE_LIMIT, retry_delay

DATE = "Thu, 01 Jan 2026 12:00:00 GMT"


def refusal(status: int, *, body: object = None, headers: dict[str, str] | None = None) -> APIStatusError:
    request = httpx2.Request("POST", "https://api.example/v1/responses")
    response = httpx2.Response(status, headers=headers, request=request)
    return APIStatusError("Error code", response=response, body=body)


def test_milliseconds_beat_seconds() -> None:
    headers = {"retry-after-ms": "1500", "retry-after": "9"}
    assert retry_delay(headers) == timedelta(seconds=1.5)


def test_an_http_date_is_measured_by_the_providers_clock() -> None:
    headers = {"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT", "date": DATE}
    assert posture(refusal(503, headers=headers)).delay == timedelta(seconds=30)


@pytest.mark.parametrize("value", ["", "soon", "-3", "0", "nan", "inf", "Wed, 31 Dec 2025 12:00:00 GMT"])
def test_a_retry_after_that_is_no_time_to_come_leaves_it_to_the_backoff(value: str) -> None:
    assert retry_delay({"retry-after": value, "date": DATE}) is None


@given(st.text(max_size=40) | st.floats().map(str) | st.integers().map(str))
def test_any_retry_after_is_survived_and_bounded(value: str) -> None:
    for name in ("retry-after", "retry-after-ms"):
        delay = retry_delay({name: value, "date": DATE})
        assert delay is None or timedelta(0) <= delay <= LONGEST_DELAY


@pytest.mark.parametrize(("status", "said", "retry"), [(400, "true", True), (500, "false", False), (500, "?", True)])
def test_the_provider_has_the_last_word_on_retrying(status: int, said: str, retry: bool) -> None:
    assert posture(refusal(status, headers={"x-should-retry": said})).retry is retry


def test_an_expired_key_is_survived_even_if_the_provider_says_not_to_retry() -> None:
    found = posture(refusal(401, headers={"x-should-retry": "false"}))
    assert (found.kind, found.retry, found.delay) == ("AuthenticationFailed", True, timedelta(seconds=60))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ModelNotFound", "/chat/completions: Invalid model name passed in model=gpt-9. Call `/v1/models` to view."),
        ("ModelNotFound", "gpt-9/x is not a valid model ID"),
        ("ModelNotFound", "The provided model identifier is invalid."),
        ("ModelNotFound", "The model `llama-4.1` has been decommissioned and is no longer supported."),
        ("ModelNotFound", "Invalid model: mistral-9"),
        ("ModelNotFound", "The model gpt-9 does not exist or you do not have access to it."),
        ("AuthenticationFailed", "No connected db."),
        ("AuthenticationFailed", "API key not valid. Please pass a valid API key."),
        ("AuthenticationFailed", "Incorrect API key provided: xa***"),
        ("AuthenticationFailed", "Authentication Error, Invalid proxy server token passed."),
        ("QuotaExceeded", "Your credit balance is too low to access the Anthropic API."),
        ("QuotaExceeded", "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0"),
        ("PermissionDenied", "User location is not supported for the API use."),
        ("PermissionDenied", "Organization has been restricted."),
    ],
)
def test_what_an_operator_mends_is_waited_for_also_in_a_400(kind: str, message: str) -> None:
    for body in ({"message": message}, {"error": {"message": message}}, {"detail": [{"msg": message}]}):
        found = posture(refusal(400, body=body))
        assert (found.kind, found.retry, found.delay) == (kind, True, timedelta(seconds=60))


@pytest.mark.parametrize(
    "message",
    [
        "This model does not support tools.",
        "Unsupported value: 'temperature' does not support 0 with this model.",
        "No tool call found for function call output with call_id c1.",
        "Invalid schema for function 'pay': the model cannot take it.",
        "Invalid value: 'reasoning.encrypted_content'.",
    ],
)
def test_a_request_that_no_operator_mends_is_final(message: str) -> None:
    found = posture(refusal(400, body={"message": message}))
    assert (found.kind, found.retry) == ("ProviderRejected", False)


def test_an_unpaid_bill_is_waited_for() -> None:
    found = posture(refusal(429, body={"code": "insufficient_quota", "message": "Pay."}))
    assert found == ErrorHandling("QuotaExceeded", "Pay.", True, timedelta(seconds=60))


@pytest.mark.parametrize(
    "body",
    [
        {"code": "context_length_exceeded", "message": "Too long."},
        {"code": None, "message": "This model's maximum context length is 8192 tokens."},
        {"message": "Your input exceeds the context window of this model."},
    ],
)
def test_a_conversation_that_is_too_long_is_not_retried(body: object) -> None:
    found = posture(refusal(400, body=body))
    assert (found.kind, found.retry) == ("ContextTooLong", False)


def test_messages_are_bounded() -> None:
    assert len(posture(refusal(400, body={"message": "x" * 9000})).message) == MESSAGE_LIMIT


def test_an_image_that_a_server_repeats_is_not_kept() -> None:
    said = posture(refusal(400, body={"message": "Input 'data:image/png;base64,iVBORw0KGgo=' is no image"})).message
    assert said == "Input 'data:image/png;base64,…' is no image"


def test_an_unknown_error_is_retried_because_a_fixed_worker_may_come() -> None:
    assert posture(RuntimeError("bug")) == ErrorHandling("ModelCallFailed", "RuntimeError: bug", retry=True)


def test_the_delay_reaches_temporal() -> None:
    error = as_application_error(refusal(429, headers={"retry-after": "7"}))
    assert (error.type, error.non_retryable, error.next_retry_delay) == ("RateLimited", False, timedelta(seconds=7))
    fatal = as_application_error(CallError(ErrorHandling("ProviderRejected", "No.", retry=False)))
    assert (fatal.non_retryable, fatal.next_retry_delay) == (True, None)


def test_importing_the_providers_does_not_import_the_package() -> None:
    code = "import sys, activities.providers; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
