"""Assent: LLM agents as Temporal workflows that wait for a person.

Write agents with `Agent`, `tool` and `approval`; serve them with `worker.py`; start, follow and decide runs with
`AgentClient` or any Temporal client. The names in `__all__` are the public API; `assent.testing` is the test kit.
"""

from assent._version import __version__
from assent.agent import Agent
from assent.client import AgentClient
from assent.converter import data_converter
from assent.errors import (
    AssentError,
    ConfigurationError,
    DecisionError,
    MessageError,
    NoWorkerError,
    RequirementNotFoundError,
    RunFailedError,
    RunNotFoundError,
    ServerUnreachableError,
)
from assent.handle import RunHandle
from assent.models import OpenAIChat, OpenAIResponses
from assent.policy import PermissionPolicy, Rule
from assent.protocol import DecisionResult, RunRequest, RunResult, Usage
from assent.records import Approval
from assent.requirements import Requirement, RunState
from assent.tools import Tool, ToolContext, approval, tool
from assent.watching import RunEvent

__all__ = [
    "Agent",
    "AgentClient",
    "Approval",
    "AssentError",
    "ConfigurationError",
    "DecisionError",
    "DecisionResult",
    "MessageError",
    "NoWorkerError",
    "OpenAIChat",
    "OpenAIResponses",
    "PermissionPolicy",
    "Requirement",
    "RequirementNotFoundError",
    "Rule",
    "RunEvent",
    "RunFailedError",
    "RunHandle",
    "RunNotFoundError",
    "RunRequest",
    "RunResult",
    "RunState",
    "ServerUnreachableError",
    "Tool",
    "ToolContext",
    "Usage",
    "__version__",
    "approval",
    "data_converter",
    "tool",
]
