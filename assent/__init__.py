"""Assent: LLM agents as Temporal workflows that wait for a person.

Write agents with `Agent`, `tool` and `approval`; serve them with `assent worker`; start, follow and decide runs with
`AgentClient` or any Temporal client. The names in `__all__` are the public API; `assent.testing` is the test kit.
"""

from assent._version import __version__
from assent.agents.agent import Agent
from assent.agents.approval_decorator import approval
from assent.agents.ask_user import ask_user
from assent.agents.models import OpenAIChat, OpenAIResponses
from assent.agents.tool import GateContext, Tool, ToolContext
from assent.agents.tool_decorator import tool
from assent.audit.approval import Approval, ApprovalContext
from assent.audit.checks import Verification
from assent.audit.records import ApprovalRecord, Audit
from assent.client.client import AgentClient
from assent.client.filters import Filters, Sort
from assent.client.paging import Page
from assent.client.run_handle import RunHandle
from assent.client.run_tree import RunTree
from assent.runtime.converter import data_converter
from assent.runtime.webhooks import Webhook
from assent.views.run_events import RunEvent
from assent.wire.budget import Budget
from assent.wire.errors import (
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
from assent.wire.inbound import Remember
from assent.wire.policy import Condition, PermissionPolicy, Rule
from assent.wire.protocol import ChildRun, DecisionOutcome, DecisionResult, ParentRun, RunRequest, RunResult, Usage
from assent.wire.requirements import Grant, Requirement, RunState

__all__ = [
    "Agent",
    "AgentClient",
    "Approval",
    "ApprovalContext",
    "ApprovalRecord",
    "AssentError",
    "Audit",
    "Budget",
    "ChildRun",
    "Condition",
    "ConfigurationError",
    "DecisionError",
    "DecisionOutcome",
    "DecisionResult",
    "Filters",
    "GateContext",
    "Grant",
    "HistoryError",
    "MessageError",
    "NoWorkerError",
    "OpenAIChat",
    "OpenAIResponses",
    "Page",
    "ParentRun",
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
    "RunTree",
    "ServerUnreachableError",
    "Sort",
    "Tool",
    "ToolContext",
    "Usage",
    "Verification",
    "Webhook",
    "__version__",
    "approval",
    "ask_user",
    "data_converter",
    "tool",
]
