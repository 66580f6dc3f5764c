"""Assent: LLM agents as Temporal workflows that wait for a person.

Write agents with `Agent`, `tool` and `approval`; serve them with `assent worker`; start, follow and decide runs with
`AgentClient` or any Temporal client. The names in `__all__` are the public API; `assent.testing` is the test kit.
"""

from typing import TYPE_CHECKING

from assent._version import __version__ as __version__

if TYPE_CHECKING:  # The same names as in the table below, for type checkers.
    __all__: list[str]
    from assent.agents.agent import Agent as Agent
    from assent.agents.approval_decorator import approval as approval
    from assent.agents.ask_user import ask_user as ask_user
    from assent.agents.mcp_server import MCPServer as MCPServer
    from assent.agents.models import OpenAIChat as OpenAIChat
    from assent.agents.models import OpenAIResponses as OpenAIResponses
    from assent.agents.tool import GateContext as GateContext
    from assent.agents.tool import RunContext as RunContext
    from assent.agents.tool import Tool as Tool
    from assent.agents.tool import ToolContext as ToolContext
    from assent.agents.tool_decorator import tool as tool
    from assent.audit.approval import Approval as Approval
    from assent.audit.approval import ApprovalContext as ApprovalContext
    from assent.audit.checks import Check as Check
    from assent.audit.checks import Problem as Problem
    from assent.audit.checks import Verification as Verification
    from assent.audit.decision_statistics import DeciderStatistics as DeciderStatistics
    from assent.audit.decision_statistics import Statistics as Statistics
    from assent.audit.decision_statistics import ToolStatistics as ToolStatistics
    from assent.audit.records import ApprovalRecord as ApprovalRecord
    from assent.audit.records import Audit as Audit
    from assent.audit.records import CallRecord as CallRecord
    from assent.audit.records import ChildRecord as ChildRecord
    from assent.audit.records import Citation as Citation
    from assent.audit.records import GrantRecord as GrantRecord
    from assent.audit.records import HandoffRecord as HandoffRecord
    from assent.audit.records import MessageRecord as MessageRecord
    from assent.audit.records import RunRecord as RunRecord
    from assent.audit.records import SentMessage as SentMessage
    from assent.audit.records import SummaryPart as SummaryPart
    from assent.audit.records import TextDigest as TextDigest
    from assent.audit.records import ToolRun as ToolRun
    from assent.audit.records import TurnRecord as TurnRecord
    from assent.client.attachments import attachment as attachment
    from assent.client.client import AgentClient as AgentClient
    from assent.client.filters import Filters as Filters
    from assent.client.filters import Sort as Sort
    from assent.client.paging import Page as Page
    from assent.client.run_handle import RunHandle as RunHandle
    from assent.client.run_tree import RunTree as RunTree
    from assent.core.notices import Notice as Notice
    from assent.history.resets import Reset as Reset
    from assent.runtime.converter import data_converter as data_converter
    from assent.runtime.webhooks import Webhook as Webhook
    from assent.views.run_events import RunEvent as RunEvent
    from assent.views.run_events import RunEventKind as RunEventKind
    from assent.wire.budget import Budget as Budget
    from assent.wire.errors import AssentError as AssentError
    from assent.wire.errors import ConfigurationError as ConfigurationError
    from assent.wire.errors import DecisionError as DecisionError
    from assent.wire.errors import HistoryError as HistoryError
    from assent.wire.errors import MessageError as MessageError
    from assent.wire.errors import NoWorkerError as NoWorkerError
    from assent.wire.errors import RequirementNotFoundError as RequirementNotFoundError
    from assent.wire.errors import RunFailedError as RunFailedError
    from assent.wire.errors import RunNotFoundError as RunNotFoundError
    from assent.wire.errors import ServerUnreachableError as ServerUnreachableError
    from assent.wire.messages import Remember as Remember
    from assent.wire.parts import FilePart as FilePart
    from assent.wire.parts import ImagePart as ImagePart
    from assent.wire.parts import Part as Part
    from assent.wire.parts import TextPart as TextPart
    from assent.wire.policy import Condition as Condition
    from assent.wire.policy import Judgement as Judgement
    from assent.wire.policy import PermissionPolicy as PermissionPolicy
    from assent.wire.policy import Rule as Rule
    from assent.wire.proofs import DecisionProof as DecisionProof
    from assent.wire.proofs import DecisionStatement as DecisionStatement
    from assent.wire.proofs import Proof as Proof
    from assent.wire.proofs import ServiceProof as ServiceProof
    from assent.wire.proofs import SshProof as SshProof
    from assent.wire.proofs import VerifiedProof as VerifiedProof
    from assent.wire.proofs import WebAuthnProof as WebAuthnProof
    from assent.wire.protocol import ApprovalType as ApprovalType
    from assent.wire.protocol import ChildRun as ChildRun
    from assent.wire.protocol import Decision as Decision
    from assent.wire.protocol import DecisionOutcome as DecisionOutcome
    from assent.wire.protocol import DecisionResult as DecisionResult
    from assent.wire.protocol import DecisionStatus as DecisionStatus
    from assent.wire.protocol import Escalation as Escalation
    from assent.wire.protocol import Gate as Gate
    from assent.wire.protocol import InputField as InputField
    from assent.wire.protocol import ParentRun as ParentRun
    from assent.wire.protocol import RequirementKind as RequirementKind
    from assent.wire.protocol import RunRequest as RunRequest
    from assent.wire.protocol import RunResult as RunResult
    from assent.wire.protocol import RunStatus as RunStatus
    from assent.wire.protocol import Usage as Usage
    from assent.wire.protocol import WorkflowCall as WorkflowCall
    from assent.wire.requirements import EscalationStep as EscalationStep
    from assent.wire.requirements import Grant as Grant
    from assent.wire.requirements import IgnoredMessage as IgnoredMessage
    from assent.wire.requirements import Requirement as Requirement
    from assent.wire.requirements import RequirementStatus as RequirementStatus
    from assent.wire.requirements import RunState as RunState
    from assent.wire.requirements import Vote as Vote
    from assent.wire.visibility import ParentEntry as ParentEntry
else:
    _NAMES = {
        "agents.agent": "Agent",
        "agents.approval_decorator": "approval",
        "agents.ask_user": "ask_user",
        "agents.mcp_server": "MCPServer",
        "agents.models": "OpenAIChat OpenAIResponses",
        "agents.tool": "GateContext RunContext Tool ToolContext",
        "agents.tool_decorator": "tool",
        "audit.approval": "Approval ApprovalContext",
        "audit.checks": "Check Problem Verification",
        "audit.decision_statistics": "DeciderStatistics Statistics ToolStatistics",
        "audit.records": (
            "ApprovalRecord Audit CallRecord ChildRecord Citation GrantRecord HandoffRecord MessageRecord "
            "RunRecord SentMessage SummaryPart TextDigest ToolRun TurnRecord"
        ),
        "client.attachments": "attachment",
        "client.client": "AgentClient",
        "client.filters": "Filters Sort",
        "client.paging": "Page",
        "client.run_handle": "RunHandle",
        "client.run_tree": "RunTree",
        "core.notices": "Notice",
        "history.resets": "Reset",
        "runtime.converter": "data_converter",
        "runtime.webhooks": "Webhook",
        "views.run_events": "RunEvent RunEventKind",
        "wire.budget": "Budget",
        "wire.errors": (
            "AssentError ConfigurationError DecisionError HistoryError MessageError NoWorkerError "
            "RequirementNotFoundError RunFailedError RunNotFoundError ServerUnreachableError"
        ),
        "wire.messages": "Remember",
        "wire.parts": "FilePart ImagePart Part TextPart",
        "wire.policy": "Condition Judgement PermissionPolicy Rule",
        "wire.proofs": "DecisionProof DecisionStatement Proof ServiceProof SshProof VerifiedProof WebAuthnProof",
        "wire.protocol": (
            "ApprovalType ChildRun Decision DecisionOutcome DecisionResult DecisionStatus Escalation Gate "
            "InputField ParentRun RequirementKind RunRequest RunResult RunStatus Usage WorkflowCall"
        ),
        "wire.requirements": "EscalationStep Grant IgnoredMessage Requirement RequirementStatus RunState Vote",
        "wire.visibility": "ParentEntry",
    }
    _MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
    __all__ = sorted(  # noqa: PLE0605 - of the table: ruff wants a display
        ["__version__", *_MODULES], key=lambda name: (not name[0].isupper(), name)
    )

    def __getattr__(name: str) -> object:
        """Import a public name when it is used first (PEP 562): `assent --help` and an agent's module need few."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Not `importlib.import_module`: in a workflow's sandbox it would load a second copy of the module.
        value = globals()[name] = getattr(__import__(f"{__name__}.{_MODULES[name]}", fromlist=[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
