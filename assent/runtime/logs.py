"""Logs of a worker: one line an event by structlog, with the run, the activity and the trace that it is about."""

import logging
import sys
from typing import Final

import structlog
from structlog.types import EventDict, WrappedLogger
from temporalio import activity
from temporalio.exceptions import ApplicationError

from assent.runtime import tracing

# Their INFO lines, one an HTTP request or a task, would bury what an operator looks for.
_QUIET: Final = ("httpx", "httpx2", "httpcore", "openai", "temporalio")


def configure_logs() -> None:
    """Send the logs of this process to standard error: readable on a terminal, JSON lines elsewhere."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_activity,
        add_trace,
        structlog.processors.format_exc_info,
    ]
    terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    handler.addFilter(_expected)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _expected(record: logging.LogRecord) -> bool:
    """Say an expected failure in one line: an `ApplicationError` is how an activity fails on purpose."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ApplicationError):
        record.msg, record.args, record.exc_info = f"{record.getMessage().split(' (')[0]}: {error}", (), None
    return True


def add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the trace and span that a line is about, where the process makes spans."""
    for name, value in tracing.trace_ids().items():
        event.setdefault(name, value)
    return event


def add_activity(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the run and of the activity that a line is about, where it is about one."""
    if activity.in_activity():
        info = activity.info()
        event.setdefault("run_id", info.workflow_id)
        event.setdefault("activity", f"{info.activity_type} {info.activity_id}")
        event.setdefault("attempt", info.attempt)
    return event
