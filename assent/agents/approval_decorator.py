"""`@approval`: what marks a tool's calls as approvals, and says who approves them and until when."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar, cast, get_args, overload

from assent.agents.tool import PAUSES, ApprovalTerms, P, R, Tool
from assent.wire.declarations import refuse, shown, source_of, unknown_options
from assent.wire.proofs import ProofLevel
from assent.wire.protocol import ApprovalType

F = TypeVar("F", bound=Callable[..., object])

MOST_APPROVALS: Final = 10
LONGEST_TIME: Final = timedelta(days=3_650)
MARK: Final = "__assent_approval__"
"""The attribute of a function that keeps what `@approval` said until `@tool` makes a tool of it."""


@overload
def approval(target: F, /) -> F: ...


@overload
def approval(
    *,
    type: ApprovalType = "required",
    approvals: int = 1,
    approvers: Sequence[str] | None = None,
    expires_after: timedelta | None = None,
    remind_every: timedelta | None = None,
    escalate: Sequence[tuple[timedelta, Sequence[str]]] = (),
    self_approval: bool = False,
    proof: ProofLevel | None = None,
) -> Callable[[F], F]: ...


def approval(
    target: F | None = None,
    /,
    *,
    type: ApprovalType = "required",
    approvals: int = 1,
    approvers: Sequence[str] | None = None,
    expires_after: timedelta | None = None,
    remind_every: timedelta | None = None,
    escalate: Sequence[tuple[timedelta, Sequence[str]]] = (),
    self_approval: bool = False,
    proof: ProofLevel | None = None,
    **unknown: object,
) -> F | Callable[[F], F]:
    """Record each call of a tool as an approval, and say who approves it. Stands above or below `@tool`.

    Args:
        target: a tool, or a function that becomes one.
        type: `required`: each call is recorded when it begins to wait. A tool that would not pause then requires
            confirmation. `audit`: recorded once decided, for a tool that pauses anyway.
        approvals: how many different people must approve. One rejection rejects the call.
        approvers: who may decide: names of people, and of groups in the agent's `groups`. By default anyone but the
            requester.
        expires_after: how long a call waits. Then it is rejected, and the model learns why. By default it waits for
            ever.
        remind_every: how often a notice reminds of a call that waits.
        escalate: pairs of a time and of more people or groups. They may decide too, and a notice is sent, once a call
            has waited so long.
        self_approval: whether the requester may approve.
        proof: what must show who decided. `person`: a signature by the person's own key. `service`: at least the
            signature of a service that signed the person in. By default the name in a decision is a claim.
        unknown: there is no other option; a misspelt one is refused.

    Raises:
        ConfigurationError: an option is unknown or of the wrong kind, the target is marked already or is not a
            function or tool, or `audit` is given for a tool that does not pause.

    Example:
        ```python
        @approval(approvals=2, approvers=["finance"], expires_after=timedelta(days=2))
        @tool
        def pay(to: str, cents: int) -> str:
            "Make a payment."
            return "paid"
        ```
    """
    wrong = unknown_options(unknown, [each.name for each in fields(ApprovalOptions) if each.name != "wrong"])
    options = ApprovalOptions(
        type, approvals, approvers, expires_after, remind_every, escalate, self_approval, proof, wrong
    )
    return partial(_approve, options) if target is None else _approve(options, target)


@dataclass(frozen=True)
class ApprovalOptions:
    """What `@approval(...)` was given; *wrong* is what is wrong with the names of its options."""

    type: ApprovalType
    approvals: int
    approvers: Sequence[str] | None
    expires_after: timedelta | None
    remind_every: timedelta | None
    escalate: Sequence[tuple[timedelta, Sequence[str]]]
    self_approval: bool
    proof: ProofLevel | None
    wrong: str | None = None

    def terms(self) -> ApprovalTerms:
        """The same as values that cannot change."""
        return ApprovalTerms(
            type=self.type,
            approvals=self.approvals,
            approvers=None if self.approvers is None else tuple(self.approvers),
            expires_after=self.expires_after,
            remind_every=self.remind_every,
            escalate=tuple((after, tuple(names)) for after, names in self.escalate),
            self_approval=self.self_approval,
            proof=self.proof,
        )

    def problem(self) -> str | None:
        """What is wrong with it, and what to do; None if nothing is."""
        return next(self._problems(), None)

    def _problems(self) -> Iterator[str]:
        if self.wrong is not None:
            yield self.wrong
        yield from self._who_problems()
        if self.type not in get_args(ApprovalType):
            yield f'@approval has no type {self.type!r}; use type="required" or type="audit"'
        if not _is_count(self.approvals):
            yield f"approvals is {self.approvals!r}; give a whole number from 1 to {MOST_APPROVALS}"
        for option in ("expires_after", "remind_every"):
            if getattr(self, option) is not None and not is_time(getattr(self, option)):
                problem = "give a positive timedelta, up to ten years, e.g. timedelta(hours=4)"
                yield f"{option} is {getattr(self, option)!r}; {problem}"
        for step in self.escalate if isinstance(self.escalate, list | tuple) else [self.escalate]:
            if not _is_step(step):
                yield f"escalate has {step!r}; give pairs such as (timedelta(hours=4), ['head-of-finance'])"

    def _who_problems(self) -> Iterator[str]:
        if not isinstance(cast("object", self.self_approval), bool):
            yield f"self_approval is {shown(self.self_approval)}; give True or False"
        if self.proof is not None and self.proof not in get_args(ProofLevel):
            yield f'proof is {shown(self.proof)}; give "person" or "service"'
        if self.approvers is not None and (problem := _names_problem(self.approvers)):
            yield f"approvers is {self.approvers!r}; {problem}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_APPROVALS


def _is_step(step: object) -> bool:
    pair = cast("tuple[object, ...]", step) if isinstance(step, tuple) else ()
    return len(pair) == 2 and is_time(pair[0]) and _names_problem(pair[1]) is None


def is_time(value: object) -> bool:
    """Return whether a value is a time that an option takes."""
    return isinstance(value, timedelta) and timedelta(0) < value <= LONGEST_TIME


def _names_problem(names: object) -> str | None:
    listed = isinstance(names, list | tuple | set | frozenset)
    listed_names = cast("Sequence[object]", names) if listed else ()
    if not listed_names or not all(isinstance(name, str) and name.strip() for name in listed_names):
        return 'give a list of names of people or groups, e.g. ["finance", "ann"]'
    return None


def approval_options(gate: object) -> ApprovalOptions | None:
    """Return what `approval(…)` was given, of what it returned before it was put on a tool; None for anything else."""
    if not isinstance(gate, partial) or not gate.args:
        return None
    options: object = gate.args[0]
    return options if isinstance(options, ApprovalOptions) else None


def _approve(options: ApprovalOptions, target: F) -> F:
    if isinstance(target, Tool):
        return cast("F", marked(cast("Tool", target), options))
    refuse_non_function(target, "approval")
    problem = options.problem() or _duplicate_problem(getattr(target, MARK, None))
    if problem:
        refuse(f"{source_of(target)}: tool {target.__name__!r}", problem)
    setattr(target, MARK, options)
    return target


def marked(tool: Tool[P, R], options: ApprovalOptions) -> Tool[P, R]:
    """The tool with what `@approval` said of it.

    Raises:
        ConfigurationError: as `approval`.
    """
    pauses = any(getattr(tool, flag) for flag in PAUSES)
    if problem := options.problem() or _duplicate_problem(tool.approval_type):
        refuse(tool.label, problem)
    if options.type == "audit" and not pauses:
        refuse(tool.label, '@approval(type="audit") is for a tool that pauses; add requires_confirmation=True')
    confirmation = True if not pauses else tool.requires_confirmation
    return replace(tool, terms=options.terms(), requires_confirmation=confirmation)


def _duplicate_problem(before: object) -> str | None:
    return None if before is None else "@approval is applied twice; keep one"


def refuse_non_function(target: object, decorator: str) -> None:
    """Refuse what @*decorator* cannot make a tool of.

    Raises:
        ConfigurationError: *target* is no plain function; one line that says where, and what to do.
    """
    if inspect.isfunction(target) or inspect.ismethod(target):
        if target.__name__ == "<lambda>":
            refuse(f"{source_of(target)}: @{decorator}", "a lambda has no annotations; define a function with def")
    elif isinstance(target, Tool):
        refuse(f"{target.source}: tool {target.name!r}", "@tool is applied twice; keep one")
    else:
        what = f"class {target.__name__!r}" if inspect.isclass(target) else repr(target)
        refuse(f"{source_of(target)}: @{decorator}", f"{what} is not a function; put it on one, options by keyword")
