"""Who may run what: rules to allow, ask or deny, and the gate that one tool call gets.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from assent.digest import policy_digest
from assent.errors import ArgumentsError
from assent.protocol import Gate, Verdict
from assent.render import bounded
from assent.tools import Tool

Decision = Literal["allow", "ask", "deny"]


class Rule(BaseModel):
    """One rule of a policy: what happens to calls of the tools whose name matches the glob *tool*.

    `*` matches any run of characters, `?` one, `[ab]` one of a set; upper and lower case differ.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Decision
    tool: str = Field(min_length=1)

    def matches(self, tool: str) -> bool:
        """Whether the rule speaks of the tool of this name."""
        return fnmatchcase(tool, self.tool)


class PermissionPolicy(BaseModel):
    """Ordered rules on tool names: the first that matches decides, *default* where none does.

    A policy can only make a call stricter than the tool's own flags do: a tool that requires confirmation still asks
    when a rule allows it.

    Example:
        `PermissionPolicy(rules=[Rule(decision="allow", tool="get_*"), Rule(decision="deny", tool="drop_*")])`, or the
        same with `PermissionPolicy.of(allow=["get_*"], deny=["drop_*"])`.

    Pure; safe in workflow code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...] = ()
    default: Decision = "ask"

    @classmethod
    def of(
        cls,
        *,
        deny: Sequence[str] = (),
        ask: Sequence[str] = (),
        allow: Sequence[str] = (),
        default: Decision = "ask",
    ) -> PermissionPolicy:
        """A policy from lists of globs, the strict ones first: every deny, then every ask, then every allow."""
        ordered: tuple[tuple[Decision, Sequence[str]], ...] = (("deny", deny), ("ask", ask), ("allow", allow))
        return cls(
            rules=tuple(Rule(decision=decision, tool=glob) for decision, globs in ordered for glob in globs),
            default=default,
        )

    @property
    def version(self) -> str:
        """The digest of the rules, 16 hex digits: which policy was in force."""
        return policy_digest(self.model_dump(mode="json"))

    def decide(self, tool: str) -> Decision:
        """What the rules say about the tool of this name."""
        for rule in self.rules:
            if rule.matches(tool):
                return rule.decision
        return self.default


REASON = 2_000
NO_POLICY_VERSION = policy_digest([])


def policy_version(policy: PermissionPolicy | None) -> str:
    """The version that goes into gates, also where an agent has no policy."""
    return NO_POLICY_VERSION if policy is None else policy.version


def gate_for(tool: Tool | None, name: str, arguments: str, policy: PermissionPolicy | None) -> Gate:
    """The gate of one call: the strictest of the tool's own flags and the policy.

    A tool that is not there (*tool* None) is denied; arguments that do not fit are `invalid`, so that no person is
    asked about a call that could not run. A policy that denies is asked first: a denied tool tells the model nothing
    about its arguments.

    Pure; safe in workflow code.
    """
    if tool is None:
        return Gate(verdict="deny", reason=f"there is no tool named {bounded(repr(name), REASON)}")
    decision = "allow" if policy is None else policy.decide(name)
    if decision == "deny":
        return Gate(verdict="deny", reason=f"the policy does not permit the tool {bounded(repr(name), REASON)}")
    try:
        tool.validate(arguments)
    except ArgumentsError as error:
        return Gate(verdict="invalid", reason=bounded(str(error), REASON))
    return _gate(_verdict(tool, decision), tool)


def _verdict(tool: Tool, decision: Decision) -> Verdict:
    if tool.external_execution:
        return "external"
    return "ask" if tool.requires_confirmation or decision == "ask" else "allow"


def _gate(verdict: Verdict, tool: Tool) -> Gate:
    # Only what differs from the default is set: gates are stored in every turn of a history.
    fields: dict[str, object] = {"verdict": verdict}
    if tool.options is not None:
        fields["options"] = tool.options
    if verdict != "allow":
        fields["approval_type"] = tool.approval_type
        fields["at_most_once"] = not tool.idempotent
    return Gate.model_validate(fields)
