"""Who may run what: ordered rules as plain data, to allow, ask or deny.

A rule matches the tool's name, its arguments and its declared effects. The gate that a call gets of a policy and of
the tool's own flags is worked out in `assent.agents.gates`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from assent.wire.declarations import declared, refuse, shown, source_of
from assent.wire.digest import Json, canonical, policy_digest
from assent.wire.errors import ConfigurationError
from assent.wire.limits import VALUE_SHOWN
from assent.wire.proofs import ProofLevel, stricter_level
from assent.wire.text import bounded, one_line

Decision = Literal["allow", "ask", "deny"]
Effect = Literal["read_only", "destructive"]

_STRICTNESS: Final[dict[Decision, int]] = {"allow": 0, "ask": 1, "deny": 2}
DEPTH: Final = 10
"""How deep policies may be nested in others."""
_ABSENT: Final = object()


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _only_what_was_given(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        # `equals: null` is a condition; a field that was left out is none, and must not become one on its way.
        fields: dict[str, object] = write(self)
        return {name: value for name, value in fields.items() if name in self.model_fields_set}


@declared
class Condition(_Data):
    """What one argument must be: every part that is given must hold.

    *equals* and *one_of* compare JSON values, *matches* is a glob on text, and the other four compare numbers. A plain
    value stands for *equals*: `{"env": "production"}` is `{"env": {"equals": "production"}}`.
    """

    equals: Json = None
    one_of: tuple[Json, ...] | None = None
    matches: str | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, value: object) -> object:
        if isinstance(value, Condition):
            return value
        return cast("dict[str, object]", value) if isinstance(value, dict) else {"equals": value}

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        # Only `equals` compares with null; any other condition would then always hold, and allow unintended calls.
        if not any(name == "equals" or getattr(self, name) is not None for name in self.model_fields_set):
            raise ValueError("a condition is empty; give equals, one_of, matches, above, at_least, below or at_most")
        return self

    def holds(self, value: object) -> bool:
        """Whether *value*, of JSON, satisfies the condition.

        Raises:
            TypeError: text is compared with a number, or anything but text with a glob.
        """
        set_fields = self.model_fields_set
        if "equals" in set_fields and not _same(value, self.equals):
            return False
        if self.one_of is not None and not any(_same(value, each) for each in self.one_of):
            return False
        if self.matches is not None and not fnmatchcase(_text(value), self.matches):
            return False
        return self._in_range(value)

    def _in_range(self, value: object) -> bool:
        bounds = (self.above, self.at_least, self.below, self.at_most)
        if all(bound is None for bound in bounds):
            return True
        number = _number(value)
        return (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )


Conditions = Mapping[str, Condition]
"""Conditions by the name of the argument; a dotted name leads into nested objects: `order.amount`."""


def conditions_hold(conditions: Conditions, values: Mapping[str, object], what: str = "argument") -> bool:
    """Whether all *conditions* hold of these JSON values, of which *what* names one. One on an absent value does not.

    Raises:
        TypeError: as `Condition.holds`.
    """
    return all(_holds(path, condition, values, what) for path, condition in conditions.items())


def _holds(path: str, condition: Condition, values: Mapping[str, object], what: str) -> bool:
    value = _value_at(path, values)
    if value is _ABSENT:
        return False
    try:
        return condition.holds(value)
    except TypeError as error:
        raise TypeError(f"{what} {path!r}: {error}") from None


def _value_at(path: str, arguments: Mapping[str, object]) -> object:
    name, _, rest = path.partition(".")
    if rest and any(key != name and f"{path}.".startswith(f"{key}.") for key in arguments):
        # A key with a dot in it could stand before what the condition means, and hide it.
        raise TypeError("its name fits more than one value")
    inner = arguments.get(name, _ABSENT)
    if not rest:
        return inner
    return _value_at(rest, cast("dict[str, object]", inner)) if rest and isinstance(inner, dict) else _ABSENT


def _same(value: object, other: object) -> bool:
    """Whether two JSON values are equal; a boolean is no number."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, int | float) and isinstance(other, int | float):
        return value == other
    return canonical(value) == canonical(other)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"it is compared with a glob, but is not text: {bounded(repr(value), VALUE_SHOWN)}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"it is compared with a number, but is not one: {bounded(repr(value), VALUE_SHOWN)}")
    return value


@declared
class Rule(_Data):
    """One rule of a policy: what happens to the calls that it matches.

    *tool* is a glob on the tool's name: `*` matches any run of characters, `?` one, `[ab]` one of a set; upper and
    lower case differ. *arguments* are conditions on the arguments, *context* on the context of the run, and *effect*
    is one that the tool declares: whatever is given must hold. The model gets the *reason* of a denial, and the
    approver sees it. *require_proof* is what shows who decided: a `person`'s own key, or at least a `service`'s word.

    Example:
        `Rule(decision="ask", tool="pay", arguments={"amount": {"above": 1000}}, reason="a large sum")`
    """

    decision: Decision
    tool: str = Field(default="*", min_length=1)
    arguments: dict[str, Condition] | None = Field(default=None, min_length=1)
    context: dict[str, Condition] | None = Field(default=None, min_length=1)
    effect: Effect | None = None
    reason: str | None = Field(default=None, min_length=1, max_length=1_000)
    require_proof: ProofLevel | None = None

    @model_validator(mode="after")
    def _proves_what_it_asks(self) -> Rule:
        if self.require_proof is not None and self.decision != "ask":
            raise ValueError(f"require_proof goes with the decision ask, not {self.decision}")
        return self

    def matches(
        self,
        tool: str,
        arguments: Mapping[str, object] | None = None,
        effects: AbstractSet[str] = frozenset(),
        context: Mapping[str, object] | None = None,
    ) -> bool:
        """Whether the rule speaks of a call of this tool. Without *arguments*, a rule on arguments does not.

        Raises:
            TypeError: as `Condition.holds`.
        """
        if not fnmatchcase(tool, self.tool) or (self.effect is not None and self.effect not in effects):
            return False
        if self.context is not None and not conditions_hold(self.context, context or {}, "context"):
            return False
        if self.arguments is None:
            return True
        return arguments is not None and conditions_hold(self.arguments, arguments)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judgement of a policy on one call. *reason* is the rule's, or the error of one that *failed*: it then asks.

    *rule* is the one that decided; None where the default did.
    """

    decision: Decision
    reason: str | None = None
    failed: bool = False
    rule: Rule | None = field(default=None, compare=False, repr=False)
    proof: ProofLevel | None = None


@declared
class PermissionPolicy(_Data):
    """Ordered rules: the first that matches decides, *default* where none does.

    A policy can only make a call stricter than the tool's own flags do: a tool that requires confirmation still asks
    when a rule allows it. A rule that cannot be evaluated means *ask*, with its error shown to the approver.
    *also* are further policies, all of which are asked: the strictest holds (see `combined`).

    Example:
        `PermissionPolicy(rules=[Rule(decision="allow", tool="get_*"), Rule(decision="deny", tool="drop_*")])`, or the
        same with `PermissionPolicy.of(allow=["get_*"], deny=["drop_*"])`, or `PermissionPolicy.from_file(path)`.
    """

    rules: tuple[Rule, ...] = ()
    default: Decision = "ask"
    also: tuple[PermissionPolicy, ...] = ()

    @model_validator(mode="after")
    def _is_not_deep(self) -> PermissionPolicy:
        # What writes and reads JSON has a limit on nesting, and what is nested deeper could begin no run and end none.
        if _depth(self) > DEPTH:
            raise ValueError(f"policies are nested in `also` more than {DEPTH} deep; list them side by side")
        return self

    @classmethod
    def of(
        cls, *, deny: Sequence[str] = (), ask: Sequence[str] = (), allow: Sequence[str] = (), default: Decision = "ask"
    ) -> PermissionPolicy:
        """A policy from lists of globs, the strict ones first: every deny, then every ask, then every allow.

        Raises:
            ConfigurationError: one of the lists is text.

        Example:
            `policy = PermissionPolicy.of(deny=["drop_*"], allow=["count_*"])`
        """
        ordered: tuple[tuple[Decision, Sequence[str]], ...] = (("deny", deny), ("ask", ask), ("allow", allow))
        for decision, globs in ordered:
            if isinstance(globs, str):  # each letter would be a glob, and `*` fits every tool
                refuse(f"{source_of()}: PermissionPolicy.of", f"{decision} is {shown(globs)}; give a list: [{globs!r}]")
        return cls(
            rules=tuple(Rule(decision=decision, tool=glob) for decision, globs in ordered for glob in globs),
            default=default,
        )

    @classmethod
    def from_toml(cls, text: str, *, where: str = "policy") -> PermissionPolicy:
        """A policy from TOML: `default`, and a table `[[rules]]` for each rule, in order. *where* starts the message.

        Raises:
            ConfigurationError: it is not TOML, or no policy; one line that says where.

        Example:
            `policy = PermissionPolicy.from_toml('default = "deny"')`
        """
        try:
            return cls.model_validate(tomllib.loads(text))
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            words = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'policy'}: {each['msg']}" for each in errors[:5])
            message = f"{where}: {one_line(words)}"
        except tomllib.TOMLDecodeError as error:
            message = f"{where}: not TOML: {one_line(str(error))}"
        raise ConfigurationError(message)

    @classmethod
    def from_file(cls, path: str | Path) -> PermissionPolicy:
        """As `from_toml`, from a file. I/O; not in workflow code.

        Raises:
            ConfigurationError: the file cannot be read, or as `from_toml`.

        Example:
            `policy = PermissionPolicy.from_file("policy.toml")`
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{path}: the policy cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigurationError(f"{path}: the policy cannot be read: {one_line(str(error))}") from None
        return cls.from_toml(text, where=str(path))

    @property
    def asks_proof(self) -> bool:
        """Whether a rule asks for proof of who decides."""
        return any(rule.require_proof for rule in self.rules) or any(policy.asks_proof for policy in self.also)

    @property
    def version(self) -> str:
        """The digest of the rules, 16 hex digits: which policy was in force."""
        # What a rule leaves out is left out, so that a policy keeps its version when rules learn to say more.
        rules = [{"tool": rule.tool, **rule.model_dump(mode="json")} for rule in self.rules]
        others = {"also": [policy.version for policy in self.also]} if self.also else {}
        return policy_digest({"rules": rules, "default": self.default, **others})

    def judge(
        self,
        tool: str,
        arguments: Mapping[str, object] | None = None,
        effects: AbstractSet[str] = frozenset(),
        context: Mapping[str, object] | None = None,
    ) -> Judgement:
        """What the rules say about a call. Without *arguments*, rules on arguments have no opinion.

        *arguments* are JSON values by name, *effects* what the tool declares, *context* is that of the run.

        Example:
            `assert policy.judge("drop_table").decision == "deny"`
        """
        own = self._judged(tool, arguments, effects, context)
        return strictest_judgement(own, *(policy.judge(tool, arguments, effects, context) for policy in self.also))

    def _judged(
        self,
        tool: str,
        arguments: Mapping[str, object] | None,
        effects: AbstractSet[str],
        context: Mapping[str, object] | None,
    ) -> Judgement:
        for number, rule in enumerate(self.rules, 1):
            try:
                if rule.matches(tool, arguments, effects, context):
                    return Judgement(rule.decision, rule.reason, rule=rule, proof=rule.require_proof)
            except Exception as error:  # a rule that cannot be evaluated means ask, whatever it raises
                return Judgement("ask", f"rule {number} of the policy cannot be evaluated: {error}", failed=True)
        return Judgement(self.default)


NO_POLICY_VERSION: Final = policy_digest([])


def policy_version(*policies: PermissionPolicy | None) -> str:
    """The version that goes into gates: of the agent's policy and, where its request has one, the run's."""
    versions = [policy.version for policy in policies if policy is not None]
    if len(versions) < 2:
        return versions[0] if versions else NO_POLICY_VERSION
    return policy_digest(versions)


def strictest_judgement(*judgements: Judgement) -> Judgement:
    """The strictest of several judgements; of equals one that failed, which no grant covers, else the first.

    Where all allow, it is one by a rule. The strictest proof that one of them asks for is asked for, whichever decides.
    """

    def strictness(each: Judgement) -> tuple[int, bool, bool]:
        return _STRICTNESS[each.decision], each.failed, each.decision == "allow" and each.rule is not None

    strictest = max(judgements, key=strictness, default=Judgement("allow"))
    asked: list[ProofLevel | None] = [each.proof for each in judgements]
    level = stricter_level(*asked)
    return strictest if level == strictest.proof else replace(strictest, proof=level)


def combined(*policies: PermissionPolicy | None) -> PermissionPolicy | None:
    """One policy that asks all of *policies*, each once, the strictest holding; None where there is none to ask."""
    by_version: dict[str, PermissionPolicy] = {}
    for policy in policies:
        for each in _single(policy):
            by_version.setdefault(each.version, each)
    if len(by_version) < 2:
        return next(iter(by_version.values()), None)
    return PermissionPolicy(default="allow", also=tuple(by_version.values()))


def _depth(policy: PermissionPolicy) -> int:
    return 1 + max(map(_depth, policy.also), default=-1)


def _single(policy: PermissionPolicy | None) -> list[PermissionPolicy]:
    """Split *policy* into single policies: itself, if it says anything, and its *also*."""
    if policy is None:
        return []
    if not policy.also:
        return [policy]
    says = bool(policy.rules) or policy.default != "allow"
    own = [PermissionPolicy(rules=policy.rules, default=policy.default)] if says else []
    return own + [single for each in policy.also for single in _single(each)]
