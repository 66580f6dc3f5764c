"""The task queue on which an agent's model is asked, so that a rate limit of that queue bounds model calls alone.

Whoever starts a run knows no agents, and the run does not either. So its first model call goes to its own task queue.
The worker there answers it with the name of the agent's task queue, without having asked the model; the run asks
again there, and from then on at once.

Pure; safe in workflow code.
"""

from __future__ import annotations

from assent.core.compaction import Summary
from assent.core.events import Event, ModelAnswered, Summarised
from assent.core.run_state import Run
from assent.wire.protocol import ModelTurn


def redirect_queue(run: Run, event: Event) -> str | None:
    """The task queue on which the very same is to be asked again; None where the model was asked.

    Pure; safe in workflow code.
    """
    if run.model_task_queue is not None:
        return None
    match event:
        case ModelAnswered(turn=ModelTurn(items=[], task_queue=queue)):
            return queue or None
        case Summarised(summary=Summary(summary="", task_queue=queue)):
            return queue or None
        case _:
            return None


def queue_after(run: Run, turn: ModelTurn) -> str | None:
    """The task queue of the model calls that follow *turn*; None: the run's own, whose worker may know another.

    Pure; safe in workflow code.
    """
    return run.model_task_queue if turn.task_queue is None else turn.task_queue or None
