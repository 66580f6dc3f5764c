"""Where an agent's model is asked: on its own task queue, if it has one, wherever the run is."""

from temporalio import activity

from assent.agents.agent import Agent


def other_task_queue(agent: Agent, *, routed: bool) -> str | None:
    """The task queue on which the model is to be asked in the place of this one; None: it is asked here.

    A *routed* call is where it was sent: two workers that disagree send no call to and fro.
    """
    queue = agent.model_task_queue
    return None if routed or queue is None or queue == activity.info().task_queue else queue


def moved_task_queue(agent: Agent) -> str | None:
    """What a routed call answers beside its turn where the agent's task queue is another by now; empty: it has none."""
    queue = agent.model_task_queue or ""
    return None if queue == activity.info().task_queue else queue
