"""Talking to model providers: one question and one answer, in the same form over both of OpenAI's APIs."""

from .call_ids import with_unique_call_ids
from .clients import Providers, is_loopback, missing_key, warm_up
from .errors import ONE_ANSWER, SLOW, CallError, ErrorHandling, as_application_error, posture, to_application_error
from .exchange import Answer, Question, ToolSpec
from .strict_schema import portable

__all__ = [
    "ONE_ANSWER",
    "SLOW",
    "Answer",
    "CallError",
    "ErrorHandling",
    "Providers",
    "Question",
    "ToolSpec",
    "as_application_error",
    "is_loopback",
    "missing_key",
    "portable",
    "posture",
    "to_application_error",
    "warm_up",
    "with_unique_call_ids",
]
