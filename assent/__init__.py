"""Assent: LLM agents as Temporal workflows that wait for a person.

Write agents with `Agent`, `tool` and `approval`; serve them with `worker.py`; start, follow and decide runs with
`AgentClient` or any Temporal client. The names in `__all__` are the public API; `assent.testing` is the test kit.
"""

from assent._version import __version__
from assent.agent import Agent
from assent.audit import ApprovalRecord, Audit
from assent.budget import Budget
from assent.client import AgentClient
from assent.converter import data_converter
from assent.decorators import tool
from assent.errors import (
    AssentError,
    ConfigurationError,
    DecisionError,
    HistoryError,
    MessageError,
    NoWorkerError,
    RequirementNotFoundError,
    RunFailedError,
    RunNotFoundError,
    ServerUnreachableError,
)
from assent.handle import RunHandle, Waiting
from assent.inbound import Remember
from assent.marking import approval
from assent.models import OpenAIChat, OpenAIResponses
from assent.paging import PendingPage
from assent.policy import Condition, PermissionPolicy, Rule
from assent.protocol import ChildRun, DecisionResult, ParentRun, RunRequest, RunResult, Usage
from assent.questions import ask_user
from assent.records import Approval, PendingRun
from assent.requirements import Grant, Requirement, RunState
from assent.tools import GateContext, Tool, ToolContext
from assent.tree import Branch
from assent.verdicts import Verification
from assent.watching import RunEvent
from assent.webhooks import Webhook

__all__ = [
    "Agent",
    "AgentClient",
    "Approval",
    "ApprovalRecord",
    "AssentError",
    "Audit",
    "Branch",
    "Budget",
    "ChildRun",
    "Condition",
    "ConfigurationError",
    "DecisionError",
    "DecisionResult",
    "GateContext",
    "Grant",
    "HistoryError",
    "MessageError",
    "NoWorkerError",
    "OpenAIChat",
    "OpenAIResponses",
    "ParentRun",
    "PendingPage",
    "PendingRun",
    "PermissionPolicy",
    "Remember",
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
    "Verification",
    "Waiting",
    "Webhook",
    "__version__",
    "approval",
    "ask_user",
    "data_converter",
    "tool",
]
