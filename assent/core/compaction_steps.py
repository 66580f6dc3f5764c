"""The steps of a summary: its request, its redirection to another task queue, and its result.

The items of the model call that was due wait among the queued ones.
"""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from assent.core import compaction, model_routing
from assent.core.compaction import SummariseInput, Summary
from assent.core.events import Failure, Summarise, Summarised
from assent.core.run_state import Run, Step
from assent.wire.messages import shown
from assent.wire.parts import digests_of
from assent.wire.protocol import Item


def start_summary(run: Run, delta: Sequence[Item]) -> Step | None:
    """Request a summary before a model call with *delta*, if the conversation is too long; None if it is not."""
    state, prefix = run.compaction, run.conversation.prefix
    part = compaction.part_to_replace(state, run.turn, run.conversation.items, [*delta, *run.queued])
    if state is None or prefix is None or part is None:
        return None
    request = SummariseInput(
        agent=run.call_context.agent,
        number=state.made + 1,
        prefix=prefix,
        pinned=part.pinned,
        keep=part.keep,
        limit=part.limit,
        max_context_tokens=state.limit,
    )
    request = _routed(run, request)
    after = replace(
        run,
        compaction=replace(state, made=request.number, under_way=request),
        model_running=True,
        queued=(*delta, *run.queued),
        calls=(),
    )
    return Step(after, (Summarise(request, run.model_task_queue),))


def redirect_summary(run: Run, event: Summarised) -> Step | None:
    """Repeat the request on the task queue of the agent's model calls; None if the model was called."""
    state, queue = run.compaction, model_routing.redirect_queue(run, event)
    if state is None or state.under_way is None or queue is None:
        return None
    routed = replace(run, model_task_queue=queue)
    request = _routed(routed, state.under_way)
    return Step(replace(routed, compaction=replace(state, under_way=request)), (Summarise(request, queue),))


def _routed(run: Run, request: SummariseInput) -> SummariseInput:
    return request if run.model_task_queue is None else request.model_copy(update={"routed": True})


def finish_summary(run: Run, event: Summarised) -> Run | None:
    """Return the run after the result of a summary; None if the run waits for no summary.

    A failed summary does not fail the run. It is tried again some turns later; after the last failure, the part that
    it was to replace is left out.
    """
    state = run.compaction
    if state is None or (request := state.under_way) is None:
        return None
    summary = event.summary
    usage = run.usage if isinstance(summary, Failure) else run.usage + summary.usage
    idle = replace(run, usage=usage, model_running=False)
    text = None if isinstance(summary, Failure) else summary.summary.strip() or None
    if text is None and state.failures + 1 < compaction.TRIES:
        waits = replace(state, failures=state.failures + 1, again=run.turn + compaction.AGAIN, under_way=None)
        return replace(idle, compaction=waits)
    done = replace(state, failures=0, tokens=0, again=run.turn + 1, under_way=None)
    shorter = compaction.with_summary(run.conversation, request, text)
    named = {*digests_of(shorter.items), *digests_of(run.queued)}
    attachments = {digest: data for digest, data in run.attachments.items() if digest in named}
    return replace(idle, compaction=done, conversation=shorter, attachments=attachments)


def is_left_out(event: Summarised, before: Run, after: Run) -> bool:
    """Return whether this event leaves out the part to summarise, because its summary failed too often."""
    if before.compaction is None or after.compaction is None or after.compaction.under_way is not None:
        return False
    has_summary = isinstance(event.summary, Summary) and event.summary.summary.strip()
    return not has_summary and before.compaction.under_way is not None and after.compaction.failures == 0


def read_summary(result: object) -> Summary | Failure:
    """Return the result of `summarise_conversation`. An operator may have completed the activity with any value."""
    try:
        return Summary.model_validate(result)
    except ValidationError:
        return Failure("InvalidSummary", f"an operator set its result, which is no summary: {shown([result])}")
