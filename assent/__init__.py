"""Assent: LLM agents as Temporal workflows that wait for a person.

Write agents with `Agent`, `tool` and `approval`; serve them with `assent worker`; start, follow and decide runs with
`AgentClient` or any Temporal client. The names in `__all__` are the public API; `assent.testing` is the test kit.
"""

from typing import TYPE_CHECKING

from assent._version import __version__

if TYPE_CHECKING:
    from assent.agents.agent import Agent
    from assent.agents.approval_decorator import approval
    from assent.agents.ask_user import ask_user
    from assent.agents.mcp_server import MCPServer
    from assent.agents.models import OpenAIChat, OpenAIResponses
    from assent.agents.tool import GateContext, RunContext, Tool, ToolContext
    from assent.agents.tool_decorator import tool
    from assent.audit.approval import Approval, ApprovalContext
    from assent.audit.checks import Check, Problem, Verification
    from assent.audit.decision_statistics import Decider, Figures, Statistics
    from assent.audit.records import (
        ApprovalRecord,
        Audit,
        CallRecord,
        ChildRecord,
        Citation,
        GrantRecord,
        HandoffRecord,
        MessageRecord,
        RunRecord,
        SentMessage,
        SummaryPart,
        TextDigest,
        ToolRun,
        TurnRecord,
    )
    from assent.client.attachments import attachment
    from assent.client.client import AgentClient
    from assent.client.filters import Filters, Sort
    from assent.client.paging import Page
    from assent.client.run_handle import RunHandle
    from assent.client.run_tree import RunTree
    from assent.core.notices import Notice
    from assent.history.resets import Reset
    from assent.runtime.converter import data_converter
    from assent.runtime.webhooks import Webhook
    from assent.views.run_events import RunEvent, RunEventKind
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
    from assent.wire.messages import Remember
    from assent.wire.parts import FilePart, ImagePart, Part, TextPart
    from assent.wire.policy import Condition, Judgement, PermissionPolicy, Rule
    from assent.wire.proofs import (
        DecisionProof,
        DecisionStatement,
        Proof,
        ServiceProof,
        SshProof,
        VerifiedProof,
        WebAuthnProof,
    )
    from assent.wire.protocol import (
        ApprovalType,
        ChildRun,
        Decision,
        DecisionOutcome,
        DecisionResult,
        DecisionStatus,
        Escalation,
        Gate,
        InputField,
        ParentRun,
        RequirementKind,
        RunRequest,
        RunResult,
        RunStatus,
        Usage,
        WorkflowCall,
    )
    from assent.wire.requirements import (
        EscalationStep,
        Grant,
        IgnoredMessage,
        Requirement,
        RequirementStatus,
        RunState,
        Vote,
    )
    from assent.wire.visibility import RunAbove
else:
    _NAMES = {
        "agents.agent": ("Agent",),
        "agents.approval_decorator": ("approval",),
        "agents.ask_user": ("ask_user",),
        "agents.mcp_server": ("MCPServer",),
        "agents.models": ("OpenAIChat", "OpenAIResponses"),
        "agents.tool": ("GateContext", "RunContext", "Tool", "ToolContext"),
        "agents.tool_decorator": ("tool",),
        "audit.approval": ("Approval", "ApprovalContext"),
        "audit.checks": ("Check", "Problem", "Verification"),
        "audit.decision_statistics": ("Decider", "Figures", "Statistics"),
        "audit.records": (
            "ApprovalRecord",
            "Audit",
            "CallRecord",
            "ChildRecord",
            "Citation",
            "GrantRecord",
            "HandoffRecord",
            "MessageRecord",
            "RunRecord",
            "SentMessage",
            "SummaryPart",
            "TextDigest",
            "ToolRun",
            "TurnRecord",
        ),
        "client.attachments": ("attachment",),
        "client.client": ("AgentClient",),
        "client.filters": ("Filters", "Sort"),
        "client.paging": ("Page",),
        "client.run_handle": ("RunHandle",),
        "client.run_tree": ("RunTree",),
        "core.notices": ("Notice",),
        "history.resets": ("Reset",),
        "runtime.converter": ("data_converter",),
        "runtime.webhooks": ("Webhook",),
        "views.run_events": ("RunEvent", "RunEventKind"),
        "wire.budget": ("Budget",),
        "wire.errors": (
            "AssentError",
            "ConfigurationError",
            "DecisionError",
            "HistoryError",
            "MessageError",
            "NoWorkerError",
            "RequirementNotFoundError",
            "RunFailedError",
            "RunNotFoundError",
            "ServerUnreachableError",
        ),
        "wire.messages": ("Remember",),
        "wire.parts": ("FilePart", "ImagePart", "Part", "TextPart"),
        "wire.policy": ("Condition", "Judgement", "PermissionPolicy", "Rule"),
        "wire.proofs": (
            "DecisionProof",
            "DecisionStatement",
            "Proof",
            "ServiceProof",
            "SshProof",
            "VerifiedProof",
            "WebAuthnProof",
        ),
        "wire.protocol": (
            "ApprovalType",
            "ChildRun",
            "Decision",
            "DecisionOutcome",
            "DecisionResult",
            "DecisionStatus",
            "Escalation",
            "Gate",
            "InputField",
            "ParentRun",
            "RequirementKind",
            "RunRequest",
            "RunResult",
            "RunStatus",
            "Usage",
            "WorkflowCall",
        ),
        "wire.requirements": (
            "IgnoredMessage",
            "EscalationStep",
            "Grant",
            "Requirement",
            "RequirementStatus",
            "RunState",
            "Vote",
        ),
        "wire.visibility": ("RunAbove",),
    }

    def __getattr__(name: str) -> object:
        """Import a public name when it is used first (PEP 562): `assent --help` and an agent's module need few."""
        for module, names in _NAMES.items():
            if name in names:
                # Not `importlib.import_module`: in a workflow's sandbox it would load a second copy of the module.
                value = globals()[name] = getattr(__import__(f"{__name__}.{module}", fromlist=[name]), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "Agent",
    "AgentClient",
    "Approval",
    "ApprovalContext",
    "ApprovalRecord",
    "ApprovalType",
    "AssentError",
    "Audit",
    "Budget",
    "CallRecord",
    "Check",
    "ChildRecord",
    "ChildRun",
    "Citation",
    "Condition",
    "ConfigurationError",
    "Decider",
    "Decision",
    "DecisionError",
    "DecisionOutcome",
    "DecisionProof",
    "DecisionResult",
    "DecisionStatement",
    "DecisionStatus",
    "Escalation",
    "EscalationStep",
    "Figures",
    "FilePart",
    "Filters",
    "Gate",
    "GateContext",
    "Grant",
    "GrantRecord",
    "HandoffRecord",
    "HistoryError",
    "IgnoredMessage",
    "ImagePart",
    "InputField",
    "Judgement",
    "MCPServer",
    "MessageError",
    "MessageRecord",
    "NoWorkerError",
    "Notice",
    "OpenAIChat",
    "OpenAIResponses",
    "Page",
    "ParentRun",
    "Part",
    "PermissionPolicy",
    "Problem",
    "Proof",
    "Remember",
    "Requirement",
    "RequirementKind",
    "RequirementNotFoundError",
    "RequirementStatus",
    "Reset",
    "Rule",
    "RunAbove",
    "RunContext",
    "RunEvent",
    "RunEventKind",
    "RunFailedError",
    "RunHandle",
    "RunNotFoundError",
    "RunRecord",
    "RunRequest",
    "RunResult",
    "RunState",
    "RunStatus",
    "RunTree",
    "SentMessage",
    "ServerUnreachableError",
    "ServiceProof",
    "Sort",
    "SshProof",
    "Statistics",
    "SummaryPart",
    "TextDigest",
    "TextPart",
    "Tool",
    "ToolContext",
    "ToolRun",
    "TurnRecord",
    "Usage",
    "Verification",
    "VerifiedProof",
    "Vote",
    "WebAuthnProof",
    "Webhook",
    "WorkflowCall",
    "__version__",
    "approval",
    "ask_user",
    "attachment",
    "data_converter",
    "tool",
]
