"""Rebuilds a run from its recorded history: each event is decided again by the core that decided it first."""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from temporalio.api.history.v1 import HistoryEvent

from assent.core.events import AskBudget, BudgetReached, Event, Started
from assent.core.run_state import Run, Step
from assent.core.state_machine import decide
from assent.history import event_types
from assent.history.event_types import time_of
from assent.history.reader import SourcedEvent, TaskReader, is_continued, nonces_of
from assent.history.workflow_tasks import TaskGrouper, WorkflowTask
from assent.runtime.payload_codec import encoding_problem
from assent.wire.errors import HistoryError

_UNREADABLE: Final = (KeyError, IndexError, ValueError, TypeError, AttributeError, StopIteration)


@dataclass(frozen=True, slots=True)
class Transition:
    """One event of a run: the run before it, the step that it led to, and the event of the history that it is from."""

    event: Event
    before: Run
    step: Step
    source: HistoryEvent


@dataclass(slots=True)
class HistoryFold:
    """Folds a history page by page. *run* is the run as of the last page; *run_id* and *execution_id* name it."""

    run_id: str = ""
    execution_id: str = ""
    run: Run = field(default_factory=Run)
    _grouper: TaskGrouper = field(default_factory=TaskGrouper)
    _reader: TaskReader = field(init=False)

    def __post_init__(self) -> None:
        """Read under the same ids."""
        self._reader = TaskReader(self.run_id, self.execution_id)

    @property
    def unread_signals(self) -> list[HistoryEvent]:
        """The signals that no workflow task has handled yet."""
        return [event for event in self._grouper.inbound if event.event_type == event_types.SIGNALED]

    def add(
        self, page: Iterable[HistoryEvent], until: Callable[[WorkflowTask], bool] | None = None
    ) -> Iterator[Transition]:
        """Yield the transitions of a page, in order; with *until*, up to the first task that satisfies it.

        Raises:
            HistoryError: the history is cut, or not one of a run.
        """
        for task in self._grouper.tasks(page):
            for sourced in self._events(task):
                fresh = isinstance(sourced.event, Started) and sourced.event.continued
                step = yield from self._advance(Run() if fresh else self.run, sourced)
                for command in step.commands:
                    if isinstance(command, AskBudget):  # The run asks for more budget at once, under a new nonce.
                        reached = BudgetReached(sourced.event.at, nonces_of(task.commands))
                        yield from self._advance(self.run, SourcedEvent(reached, sourced.source))
            if until is not None and until(task):
                return
        if not self.run.id:
            self.run = self._carried_state()

    def _advance(self, before: Run, sourced: SourcedEvent) -> Generator[Transition, None, Step]:
        step = _decide(before, sourced)
        self.run = step.run
        yield Transition(sourced.event, before, step, sourced.source)
        return step

    def _carried_state(self) -> Run:
        """Return the state that a continued execution begins with, while no worker has taken it up yet."""
        first = next(iter(self._grouper.inbound), None)
        if first is None or not is_continued(first):
            return self.run
        return _decide(Run(), SourcedEvent(self._reader.started(first, time_of(first), {}), first)).run

    def _events(self, task: WorkflowTask) -> list[SourcedEvent]:
        try:
            return self._reader.events(task)
        except _UNREADABLE as error:
            raise _unreadable((task.inbound or task.commands or [HistoryEvent()])[0], error) from None


def _decide(run: Run, sourced: SourcedEvent) -> Step:
    try:
        return decide(run, sourced.event)
    except KeyError as error:
        message = f"the history lacks the memo with the nonce of call {error}; it is cut, or not of a run"
        raise HistoryError(message) from None
    except _UNREADABLE as error:
        raise _unreadable(sourced.source, error) from None


def _unreadable(event: HistoryEvent, error: Exception) -> HistoryError:
    """Return the error for a history that no run can have made: the core never refuses an event by raising."""
    if (problem := encoding_problem(error)) is not None:
        return HistoryError(f"the history cannot be read at event {event.event_id}: its payloads are {problem}")
    what = f"{type(error).__name__}: {error}".splitlines()[0]  # More lines would quote what was sent.
    return HistoryError(f"the history cannot be read at event {event.event_id}: it is cut, or was changed ({what})")


def fold(
    events: Iterable[HistoryEvent],
    *,
    run_id: str = "",
    execution_id: str = "",
    until: Callable[[WorkflowTask], bool] | None = None,
) -> Run:
    """Return the run that a history records; with *until*, as it was after the first task that satisfies it.

    Ids that are not given are read from the first event.

    Raises:
        HistoryError: the history is cut, or not one of a run.
    """
    folded = HistoryFold(run_id, execution_id)
    for _ in folded.add(events, until):
        pass
    return folded.run
