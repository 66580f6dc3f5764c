"""A run that replaces the old turns of its conversation by a summary: the step that asks for it, and what it becomes.

The question that the model would have been asked waits among what is queued for it.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from assent.core import compaction, model_routing
from assent.core.compaction import SummariseInput, Summary
from assent.core.events import Failure, Summarise, Summarised
from assent.core.run_state import Run, Step
from assent.wire.messages import shown
from assent.wire.protocol import Item


def start_summary(run: Run, delta: Sequence[Item]) -> Step | None:
    """Ask for a summary before the model is told *delta*, where the conversation is too long; None where it is not."""
    state, prefix = run.compaction, run.conversation.prefix
    part = compaction.part_to_replace(state, run.turn, run.conversation.items, [*delta, *run.queued])
    if state is None or prefix is None or part is None:
        return None
    wanted = SummariseInput(
        agent=run.call_context.agent,
        number=state.made + 1,
        prefix=prefix,
        pinned=part.pinned,
        keep=part.keep,
        limit=part.limit,
        max_context_tokens=state.limit,
    )
    wanted = _on(run, wanted)
    after = replace(
        run,
        compaction=replace(state, made=wanted.number, under_way=wanted),
        model_running=True,
        queued=(*delta, *run.queued),
        calls=(),
    )
    return Step(after, (Summarise(wanted, run.model_task_queue),))


def redirect_summary(run: Run, event: Summarised) -> Step | None:
    """Ask for the same summary where the agent's model is asked; None where the model was asked."""
    state, queue = run.compaction, model_routing.redirect_queue(run, event)
    if state is None or state.under_way is None or queue is None:
        return None
    routed = replace(run, model_task_queue=queue)
    wanted = _on(routed, state.under_way)
    return Step(replace(routed, compaction=replace(state, under_way=wanted)), (Summarise(wanted, queue),))


def _on(run: Run, wanted: SummariseInput) -> SummariseInput:
    return wanted if run.model_task_queue is None else wanted.model_copy(update={"routed": True})


def finish_summary(run: Run, event: Summarised) -> Run | None:
    """The run once a summary was made, or was not; None where it waits for none.

    A summary that fails does not fail the run. It is tried again some turns later; the last time that it fails, what
    it was to replace is left out.
    """
    state = run.compaction
    if state is None or (wanted := state.under_way) is None:
        return None
    found = event.summary
    spent = run.usage if isinstance(found, Failure) else run.usage + found.usage
    idle = replace(run, usage=spent, model_running=False)
    text = None if isinstance(found, Failure) else found.summary.strip() or None
    if text is None and state.failures + 1 < compaction.TRIES:
        waits = replace(state, failures=state.failures + 1, again=run.turn + compaction.AGAIN, under_way=None)
        return replace(idle, compaction=waits)
    done = replace(state, failures=0, tokens=0, again=run.turn + 1, under_way=None)
    return replace(idle, compaction=done, conversation=compaction.with_summary(run.conversation, wanted, text))


def is_left_out(event: Summarised, before: Run, after: Run) -> bool:
    """Whether what was to be summarised is left out now, because it failed too often."""
    if before.compaction is None or after.compaction is None or after.compaction.under_way is not None:
        return False
    made = isinstance(event.summary, Summary) and event.summary.summary.strip()
    return not made and before.compaction.under_way is not None and after.compaction.failures == 0


def read_summary(result: object) -> Summary | Failure:
    """What `summarise_conversation` answered; a result that somebody put in by hand may be anything at all."""
    try:
        return Summary.model_validate(result)
    except ValidationError:
        return Failure("InvalidSummary", f"its result was put in by hand, and is no summary: {shown([result])}")
