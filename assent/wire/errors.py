"""Every error that Assent raises on purpose.

AssentError                  all of them
├── ConfigurationError       a setting, a module, an agent or a tool is wrong: what, where, what to do
│   └── DatabaseInUseError   another embedded server has the database file open
├── ArgumentsError           a model's tool arguments do not parse or do not fit the tool's schema
├── MessageError             an inbound signal, update or API argument that cannot be read
├── RunNotFoundError         no run has this id
├── RequirementNotFoundError no requirement of the run, or more than one, matches an id
├── ServerUnreachableError   no Temporal server answers at the address
├── NoWorkerError            the server answers, but no worker that could
├── DecisionError            a decision did not count
├── RunFailedError           a run ended without a result: failed, cancelled or terminated
├── HistoryError             a recorded history cannot be read as a run
└── BundleError              an audit bundle cannot be written or read, or is not what it claims to be
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assent.wire.protocol import DecisionOutcome


class AssentError(Exception):
    """The root of every error that Assent raises on purpose."""


class ConfigurationError(AssentError, ValueError):
    """A setting, a module, an agent or a tool is wrong. The message is one line: what, where, what to do."""


class DatabaseInUseError(ConfigurationError):
    """Another embedded server has the database file open."""


class ArgumentsError(AssentError, ValueError):
    """A model's tool arguments do not parse or do not fit the tool's schema. The message is written for the model."""


class MessageError(AssentError, ValueError):
    """An inbound message that cannot be read. The message names the field and what was expected."""


class RunNotFoundError(AssentError, LookupError):
    """No run has this id."""


class RequirementNotFoundError(AssentError, LookupError):
    """No requirement of the run matches an id, or more than one does."""


class ServerUnreachableError(AssentError, ConnectionError):
    """No Temporal server answers at the address."""


class NoWorkerError(AssentError, TimeoutError):
    """The server answers, but no worker that could answer for the run."""


class DecisionError(AssentError):
    """A decision did not count: refused, late, a duplicate. *outcome* says which, where one decision was sent."""

    def __init__(self, message: str, outcome: DecisionOutcome | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome


class RunFailedError(AssentError):
    """A run ended without a result: failed, cancelled, terminated or timed out. *kind* is the failure's type name."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class HistoryError(AssentError, ValueError):
    """A recorded history cannot be read as a run."""


class BundleError(AssentError, ValueError):
    """An audit bundle cannot be written or read, or is not what it claims to be."""
