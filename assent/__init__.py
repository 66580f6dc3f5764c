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
from assent.audit.approval import Approval, PendingRun
from assent.audit.checks import Verification
from assent.audit.records import ApprovalRecord, Audit
from assent.client.client import AgentClient
from assent.client.paging import PendingPage
from assent.client.run_handle import RunHandle, Waiting
from assent.client.run_tree import Branch
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
from assent.wire.protocol import ChildRun, DecisionResult, ParentRun, RunRequest, RunResult, Usage
from assent.wire.requirements import Grant, Requirement, RunState

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
