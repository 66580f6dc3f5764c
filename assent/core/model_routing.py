"""The task queue of an agent's model calls, so that a rate limit of that queue limits model calls alone.

A run knows no agents, so its first model call goes to its own task queue. The worker there does not call the model: it
answers with the name of the agent's task queue. The run repeats the call there, and sends all later calls there.
"""

from assent.core.compaction import Summary
from assent.core.events import Event, ModelAnswered, Summarised
from assent.core.run_state import Run
from assent.wire.protocol import ModelTurn


def redirect_queue(run: Run, event: Event) -> str | None:
    """Return the task queue on which the run must repeat the call; None if the model was called."""
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
    """Return the task queue of the model calls after *turn*; None: the run's own, whose worker may know another."""
    return run.model_task_queue if turn.task_queue is None else turn.task_queue or None
