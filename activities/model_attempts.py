"""A bounded number of attempts at one turn of the model, counted across attempts and workers of its activity.

Temporal retries a model call for as long as it takes, which is right while no provider answers. An answer that cannot
be used is paid for: there are few of those, and what they used counts. The heartbeat carries the count to the next
attempt (the SDK sends the last one before it reports a failure), also to another worker.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from assent.runtime import tracing
from assent.runtime.converter import PLAIN
from assent.wire.conversation import tool_calls
from assent.wire.limits import REASON_LIMIT
from assent.wire.live_text import LiveText, TextSoFar, WastedAnswers
from assent.wire.protocol import TurnFailure, Usage
from assent.wire.text import error_text

from .own_run import encoded, own_client, own_run
from .providers import ONE_ANSWER, SLOW, Answer, ErrorHandling, Providers, Question, posture, to_application_error

ANSWERS_LIMIT: Final = 5
"""Answers for one turn that cannot be used."""
SAME_FAILURE_LIMIT: Final = 30
"""How often in a row one turn may fail in the same way, where that is no outage: about half an hour."""
REFUSAL_LIMIT: Final = 1_440
"""How often in a row a run that has begun may be refused in words that Assent does not know: about a day."""
_SAVE_LIMIT: Final = timedelta(seconds=5)
_ONE_FAILED: Final = Usage(failed=1)
_PROBE: Final = PLAIN.to_payloads(["assent"])
_LOST: Final = "The worker was lost, or stopped, while the model answered."


class GaveUpError(Exception):
    """No more attempts at this turn are made: the *failure* for the run, and what the attempts used."""

    def __init__(self, failure: TurnFailure, wasted: Usage) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.wasted = wasted


class ModelAttempts:
    """The attempts at one turn so far. Belongs to one attempt of the activity."""

    def __init__(self, turn: int, *, begun: bool = False) -> None:
        """Count on from what the heartbeat of the attempt before says. *turn* is for who looks on.

        *begun*: the run has done something, which a failure would lose. It waits for an operator.
        """
        self._begun = begun
        info = activity.info()
        self._turn, self._attempt = turn, info.attempt
        before = _told(info.heartbeat_details[0] if info.heartbeat_details else None)
        self.so_far = TextSoFar(wasted=before.wasted)
        if before.begun:  # It did not come to count its answer itself.
            self.so_far.fail(_add_failure(before.wasted, _LOST, ONE_ANSWER, limited=False))

    @property
    def wasted_usage(self) -> Usage:
        """What the answers that could not be used have used."""
        return self.so_far.wasted.usage

    def heartbeat_details(self) -> LiveText | None:
        """What the heartbeat says: the words so far, and the count."""
        return self.so_far.snapshot(self._turn, self._attempt)

    async def ask(self, providers: Providers, question: Question) -> Answer:
        """Ask the model, once.

        Raises:
            GaveUpError: that was the last attempt, or one too many was made.
            ApplicationError: it is to be retried, or the provider refused for good.
        """
        if self.so_far.wasted.answers >= ANSWERS_LIMIT:
            raise self._give_up_error(ErrorHandling("UnusableAnswers", self.so_far.wasted.failure, retry=False))
        has_codec = await _check_codec()
        try:
            with tracing.chat(question.model, question.instructions, question.items, own_run().run_id) as span:
                answer = await providers.ask(question, self.so_far)
                span.answered(answer.model, answer.usage, answer.items)
        except Exception as error:
            raise self._failed(posture(error)) from None  # A chained error would be written to the history too.
        if not self.so_far.begun:  # It came whole.
            for call in tool_calls(answer.items):
                self.so_far.call(call.tool)
            self.so_far.say(answer.text or "(an empty answer)")
        if has_codec:  # It may refuse the result, once this code has ended.
            self.note_answer()
        return answer

    def note_answer(self) -> None:
        """Have the answer count if this attempt does not come to report it."""
        if (details := self.heartbeat_details()) is not None:
            activity.heartbeat(encoded(details))

    async def save_answer(self) -> None:
        """Have the answer count, and wait until the server knows of it: what follows may end the worker at once."""
        if (details := self.heartbeat_details()) is None:
            return
        handle = own_client().get_async_activity_handle(task_token=activity.info().task_token)
        try:
            await handle.heartbeat(encoded(details), rpc_timeout=_SAVE_LIMIT)
        except Exception:  # the server is away, the call is to be cancelled, or whatever a codec raises
            self.note_answer()

    def not_kept(self, error: ApplicationError, answer: Answer) -> Exception:
        """What to raise when the *answer* cannot be kept because of *error*."""
        kind, delay = error.type or "Error", error.next_retry_delay
        return self._failed(ErrorHandling(kind, error.message, not error.non_retryable, delay, paid=answer.usage))

    def _failed(self, handling: ErrorHandling) -> Exception:
        """Count the failure; what to raise for it."""
        if handling.unknown and self._begun:
            handling = replace(handling, retry=True, delay=handling.delay or SLOW, limited=True)
        limit = REFUSAL_LIMIT if handling.unknown else SAME_FAILURE_LIMIT
        paid = handling.paid or (ONE_ANSWER if self.so_far.begun else None)
        wasted = _add_failure(
            self.so_far.wasted, f"{handling.kind}: {handling.message}", paid, limited=handling.limited
        )
        self.so_far.fail(wasted)
        why = f" It came {wasted.times} times in a row." if wasted.times >= limit else ""
        over = wasted.answers >= ANSWERS_LIMIT or wasted.times >= limit
        if over or (not handling.retry and (wasted.answers or wasted.usage.failed > 1)):
            return self._give_up_error(handling, why)
        if handling.retry and (details := self.heartbeat_details()) is not None:
            activity.heartbeat(encoded(details))
        return to_application_error(handling)

    def _give_up_error(self, handling: ErrorHandling, why: str = "") -> GaveUpError:
        wasted = self.so_far.wasted
        if not why and (handling.retry or handling.kind == "UnusableAnswers"):
            why = f" The model was asked {wasted.answers} times for this turn, and no answer could be used."
        return GaveUpError(TurnFailure(kind=handling.kind, message=f"{handling.message}{why}"), wasted.usage)


async def _check_codec() -> bool:
    """Check, before an answer is paid for, that its codec can encode a result; whether there is a codec.

    Raises:
        ApplicationError: it cannot now; to be retried.
    """
    codec = own_client().data_converter.payload_codec
    if codec is None:
        return False
    try:
        await codec.encode(_PROBE)
    except Exception as error:  # a codec may raise anything
        why = error_text(error, REASON_LIMIT)
        message = f"the payload codec cannot encode an answer, so the model is not asked: {why}"
        raise ApplicationError(message, type="CodecFailed") from None
    return True


def _add_failure(before: WastedAnswers, failure: str, paid: Usage | None, *, limited: bool) -> WastedAnswers:
    times = before.times + 1 if limited and failure == before.failure else int(limited)
    return WastedAnswers(
        answers=before.answers + (paid is not None),
        usage=before.usage + (paid or _ONE_FAILED),
        failure=failure,
        times=times,
    )


def _told(details: object) -> LiveText:
    try:
        return LiveText.model_validate(details)
    except ValidationError:  # There is none, or another version wrote it
        return LiveText(turn=0)
