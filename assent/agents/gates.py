"""The gate of one tool call: what the tool's own flags and the policies together ask for.

Worked out on the worker, once, when the model makes the call, and recorded in its turn. A failure
means *ask*, with the error shown to the approver: never allow.

Pure where the functions that a tool and an agent bring are; not in workflow code, which reads recorded gates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, cast

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from assent.agents.binding import as_json, binding, differences
from assent.agents.tool import PAUSES, GateContext, Tool, positional_count
from assent.wire.digest import json_size
from assent.wire.errors import ArgumentsError
from assent.wire.limits import DEFINITION_LIMIT, READ_AS_LIMIT, REASON_LIMIT, RESULT_SCHEMA_LIMIT
from assent.wire.policy import Judgement, PermissionPolicy, strictest_judgement
from assent.wire.proofs import ProofLevel, stricter_level
from assent.wire.protocol import Escalation, Gate, InputField, Verdict
from assent.wire.text import bounded, error_text, stack_text

_log = logging.getLogger(__name__)

FROM_ABOVE: Final = "by the policy of the run's request or of a parent agent"
_MEMBERS: Final = TypeAdapter(list[Annotated[str, Field(max_length=200)]])
APPROVERS: Final = 50
"""The most people who may decide one call, by name."""

Groups = Mapping[str, Sequence[str]] | Callable[..., Sequence[str] | None]
"""Who is in which group: a mapping, or a function of the group's name (and, if it takes two, of the `GateContext`).

A function answers None for what is no group, and is called on the worker, in a thread.
"""


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """What gates a call in addition to its tool: the policies in force, and the groups.

    *functions* says whether functions that tools bring are asked; without, only data is, which is what can be checked
    again at any time. With *asks*, a person is asked in any case. *proof* is the level that every decision needs.
    """

    policies: Sequence[PermissionPolicy | None] = ()
    groups: Groups | None = None
    functions: bool = True
    asks: bool = False
    proof: ProofLevel | None = None

    def gate(self, tool: Tool | None, call: GateContext, arguments: str) -> Gate:
        """The gate of one call with these raw *arguments*: the strictest of the tool's own flags and the policies.

        A tool that is not there (*tool* None) is denied; arguments that do not fit are `invalid`, so that no person is
        asked about a call that could not run. A policy that denies whatever the arguments is asked first: a denied
        tool gives the model no detail about its arguments.
        """
        if tool is None:
            return Gate(verdict="deny", reason=f"there is no tool named {bounded(repr(call.tool), REASON_LIMIT)}")
        try:
            values: dict[str, object] | None = tool.named_values(tool.validate(arguments))
            problem = ""
        except ArgumentsError as error:
            values, problem = None, str(error)
        judged = self._judge_by_policy(tool, call, values)
        if judged.decision == "deny":
            return Gate(verdict="deny", reason=_denial(call.tool, judged))
        if values is None:
            return Gate(verdict="invalid", reason=bounded(problem, REASON_LIMIT))
        return self._waiting_or_not(tool, call, arguments, values, judged)

    def _judge_by_policy(self, tool: Tool, call: GateContext, values: Mapping[str, object] | None) -> Judgement:
        if all(policy is None for policy in self.policies):
            return _of_server(tool, None)
        try:
            named = None if values is None else cast("dict[str, object]", to_jsonable_python(values, fallback=repr))
        except Exception as error:  # whatever a user's serializer raises: the rules cannot be asked
            return Judgement(
                "ask", f"the arguments cannot be shown to the policy: {error_text(error, REASON_LIMIT)}", failed=True
            )
        own, *others = [
            None if policy is None else policy.judge(tool.name, named, tool.effects, call.context)
            for policy in self.policies
        ]
        judged = strictest_judgement(*(each for each in (own, *others, _of_server(tool, own)) if each is not None))
        if judged.reason is None and judged in others and judged != own:
            # Neither the agent nor its tool has the reason, so the approver or the model needs it here.
            return replace(judged, reason=FROM_ABOVE)
        return judged

    def _waiting_or_not(
        self, tool: Tool, call: GateContext, arguments: str, values: dict[str, object], judged: Judgement
    ) -> Gate:
        asks, failed = self.asks or judged.decision == "ask", judged.failed
        notes = [judged.reason] if judged.reason else []
        reading: dict[str, object] = {}
        if asks or any(getattr(tool, flag) for flag in PAUSES):
            # Before a function of the user's has the values, which it may change.
            reading, unread = _reading(tool, arguments, values)
            notes += [unread] if unread else []
        verdict: Verdict
        if tool.external_execution or tool.requires_user_input:
            verdict = "external" if tool.external_execution else "input"
        else:
            confirms, note = self._confirms(tool, call, values)
            notes += [note] if note else []
            failed = failed or note is not None
            verdict = "ask" if asks or confirms else "allow"
        reading |= self._proof(tool, judged)
        return self._gate(tool, call, arguments, verdict, notes, asks=asks, failed=failed, reading=reading)

    def _proof(self, tool: Tool, judged: Judgement) -> dict[str, object]:
        level = stricter_level(self.proof, tool.terms.proof, judged.proof)
        return {} if level is None else {"proof": level}

    def fallback(self, tool: Tool | None, call: GateContext, arguments: str, error: Exception) -> Gate:
        """Return the gate that asks, of a call whose own gate cannot be worked out: the approver sees *error*.

        No function of the user's is called: a group that only a function knows has no members.
        """
        judged = None if tool is None else self._judge_by_policy(tool, call, None)
        if tool is None or judged is None or judged.decision == "deny":
            reason = bounded(repr(call.tool), REASON_LIMIT)
            return Gate(verdict="deny", reason=_denial(call.tool, judged) if judged else f"there is no tool {reason}")

        def unknown(_name: str) -> None:
            raise error

        groups = unknown if callable(self.groups) else self.groups
        verdict: Verdict = "ask"
        if tool.external_execution or tool.requires_user_input:
            verdict = "external" if tool.external_execution else "input"
        notes = [f"its gate could not be worked out: {error_text(error, REASON_LIMIT)}"]
        notes += [judged.reason] if judged.reason else []
        keeper = Gatekeeper(self.policies, groups, functions=self.functions, proof=self.proof)
        asks = judged.decision == "ask"
        reading: dict[str, object] = {"binding": binding(tool, None)} | self._proof(tool, judged)
        return keeper._gate(tool, call, arguments, verdict, notes, asks=asks, failed=True, reading=reading)

    def _gate(
        self,
        tool: Tool,
        call: GateContext,
        arguments: str,
        verdict: Verdict,
        notes: list[str],
        *,
        asks: bool,
        failed: bool,
        reading: dict[str, object],
    ) -> Gate:
        gate = Gate(
            verdict=verdict,
            options=tool.options,
            stop=tool.stop_after_tool_call,
            at_most_once=not (tool.idempotent or (verdict == "allow" and tool.options and tool.options.attempts)),
            agent=None if tool.target is None else tool.target.agent,
        )
        if verdict == "allow":
            return gate.without_defaults()
        terms, people = tool.terms, _People(self.groups, call, notes)
        # Groups that a function resolves are resolved once: what they were is recorded with the gate.
        named = terms.approvers if self.functions or not callable(self.groups) else None
        update: dict[str, object] = {
            "approval_type": terms.type,
            "needed": terms.approvals,
            "approvers": None if named is None else people.of(named),
            "expires_after": terms.expires_after and terms.expires_after.total_seconds(),
            "remind_every": terms.remind_every and terms.remind_every.total_seconds(),
            "escalations": [
                Escalation(after=after.total_seconds(), approvers=people.of(names))
                for after, names in sorted(terms.escalate, key=lambda step: step[0])
            ],
            # The requester may answer a plain question; an approval needs another person.
            "self_approval": terms.self_approval or (verdict == "input" and terms.type is None and not asks),
            "fields": _fields(tool, arguments, verdict),
            "checked": verdict == "external" and tool.checks_result,
            "definition": tool.definition and bounded(tool.definition.text, DEFINITION_LIMIT),
        }
        update |= {"reason": bounded("; ".join(notes), REASON_LIMIT) or None, "failed": failed or people.failed}
        return gate.model_copy(update=update | reading).without_defaults()

    def _confirms(self, tool: Tool, call: GateContext, values: dict[str, object]) -> tuple[bool, str | None]:
        """Whether the tool's own flag asks for a person, and the error where its function has none."""
        confirmation = tool.requires_confirmation
        if isinstance(confirmation, bool):
            return confirmation, None
        if not self.functions:
            return False, None
        function = cast("Callable[..., object]", confirmation)
        try:
            answer = (
                function(dict(values), _copy_for_user_code(call))
                if positional_count(function) > 1
                else function(dict(values))
            )
        except Exception as error:  # a gate that raises means ask, whatever it raises
            _log_failure(f"requires_confirmation of tool {tool.name!r}", call, error)
            return True, f"requires_confirmation raised {error_text(error, REASON_LIMIT)}"
        if not isinstance(answer, bool):
            return True, f"requires_confirmation answered {bounded(repr(answer), 100)}, which is no boolean"
        return answer, None


def _of_server(tool: Tool, own: Judgement | None) -> Judgement:
    """Return what holds for a tool of an MCP server in any case: it asks, unless the agent's *own* policy allows it.

    A rule must do so, not the default; for what the server calls destructive, a rule that means just this.
    """
    if tool.definition is None or (tool.definition.trusted and tool.read_only):
        return Judgement("allow")
    rule = own.rule if own is not None and own.decision == "allow" else None
    if rule is not None and (not tool.destructive or rule.tool == tool.name or rule.effect == "destructive"):
        return Judgement("allow")
    kind = "destructive tool" if tool.destructive else "tool"
    return Judgement("ask", f"a {kind} of the MCP server {tool.definition.server!r}, which no rule allows")


def _copy_for_user_code(call: GateContext) -> GateContext:
    """Return *call* for one function of the user's: what that does to the context, no other function sees."""
    return replace(call, context=deepcopy(call.context))


def _log_failure(what: str, call: GateContext, error: Exception) -> None:
    where = f"run {call.run_id}, call {call.call_id or '-'}"
    _log.warning("%s of agent %r failed: %s\n%s", what, call.agent, where, stack_text(error))


def is_members(members: object) -> bool:
    """Return whether *members* can be those of a group: a list of names."""
    try:
        _MEMBERS.validate_python(members)
    except ValidationError:
        return False
    return True


def budget_approvers(names: Sequence[str], groups: Groups | None, call: GateContext) -> tuple[str, ...]:
    """Resolve the groups among a budget's approvers; a group that cannot be looked up has no members.

    Not in workflow code: *groups* may be a function of the user's.
    """
    return tuple(_People(groups, call).of(names))


def _reading(tool: Tool, arguments: str, values: Mapping[str, object]) -> tuple[dict[str, object], str | None]:
    """Return what a gate says of the values that the tool gets, and what the approver must know of it.

    The conditions of a grant are asked of those. What is too long for a gate, or cannot be told, no grant covers.
    """
    try:
        read = as_json(values)
        differing = differences(tool, arguments, read)
        size = json_size(differing)
    except Exception as error:  # whatever a user's serializer raises, or a value that JSON does not have
        note = f"the values that the tool gets cannot be shown: {error_text(error, REASON_LIMIT)}"
        return {"failed": True, "binding": binding(tool, None)}, note
    bound: dict[str, object] = {"binding": binding(tool, differing)}
    if not differing:
        return bound, None
    if size <= READ_AS_LIMIT:
        return {**bound, "read_as": differing}, None
    note = f"the tool gets other values than these, too long to be shown ({size:,} bytes), of {', '.join(differing)}"
    return {**bound, "failed": True}, bounded(note, REASON_LIMIT)


def _denial(name: str, judged: Judgement) -> str:
    why = f": {judged.reason}" if judged.reason else ""
    return f"the policy does not permit the tool {bounded(repr(name), REASON_LIMIT)}{why}"


def _fields(tool: Tool, arguments: str, verdict: Verdict) -> list[InputField]:
    """Return what a person fills in, or the result that is checked, unless its schema is too long."""
    if verdict == "input":
        return tool.input_fields(arguments)
    output = tool.result_field() if verdict == "external" and tool.checks_result else None
    return [] if output is None or json_size(output.type) > RESULT_SCHEMA_LIMIT else [output]


@dataclass(slots=True)
class _People:
    """Resolve names of people and groups; *notes* has what the approver should know about it."""

    groups: Groups | None
    call: GateContext
    notes: list[str] = field(default_factory=list[str])
    failed: bool = False

    def of(self, names: Sequence[str]) -> list[str]:
        """The people that these names of people and groups mean, each once."""
        people = list(dict.fromkeys(person for name in names for person in self._members(name)))
        if not people:
            self.notes.append(f"no one can approve this: {', '.join(names)} has no members")
        if len(people) > APPROVERS:
            self.notes.append(f"only the first {APPROVERS} of {len(people)} approvers are taken")
        return people[:APPROVERS]

    def _members(self, name: str) -> Iterator[str]:
        try:
            members = self._group(name)
        except Exception as error:  # groups that cannot be looked up make no approvers
            self.failed = True
            _log_failure(f"the lookup of group {name!r}", self.call, error)
            self.notes.append(f"the group {name!r} cannot be looked up: {error_text(error, REASON_LIMIT)}")
            return
        yield from [name] if members is None else members

    def _group(self, name: str) -> list[str] | None:
        if self.groups is None:
            return None
        if isinstance(self.groups, Mapping):
            members: object = cast("Mapping[str, object]", self.groups).get(name)
        else:
            function = cast("Callable[..., object]", self.groups)
            members = (
                function(name, _copy_for_user_code(self.call)) if positional_count(function) > 1 else function(name)
            )
        return None if members is None else _MEMBERS.validate_python(members)
