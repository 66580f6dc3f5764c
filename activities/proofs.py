"""Proof of who decided, as a worker asks for it and checks it: as a decision arrives, and before its call runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import JsonValue
from temporalio import activity

from assent.agents.agent import Agent
from assent.agents.gates import Gatekeeper
from assent.core.approvals import fold_name
from assent.proof.approvers import Approvers
from assent.proof.verification import ProofError, covers, recheck, verify
from assent.wire.digest import parse_arguments
from assent.wire.errors import ConfigurationError
from assent.wire.policy import PermissionPolicy
from assent.wire.proofs import ProofLevel, ProofToCheck, VerifiedProof, digest_of, satisfies, stricter_level
from assent.wire.protocol import Authorization

from .own_run import own_run


@dataclass(frozen=True, slots=True)
class Proofs:
    """Who may prove a decision, by the approvers file of a worker (None: no one can), and the *level* that all need."""

    approvers: Callable[[], Approvers] | None = None
    level: ProofLevel | None = None

    def gatekeeper(self, agent: Agent, policy: PermissionPolicy | None) -> Gatekeeper:
        """What gates the calls of an agent on this worker. An agent without groups has those of the approvers file."""
        keeper = agent.gatekeeper(policy)
        if keeper.groups is None and self.approvers is not None:
            keeper = replace(keeper, groups=self._members)
        return keeper if self.level is None else replace(keeper, proof=self.level)

    def _members(self, group: str) -> list[str] | None:
        return self.groups.get(group)

    @property
    def groups(self) -> Mapping[str, list[str]]:
        """The groups of the approvers file. Raises ConfigurationError where it cannot be read."""
        return {} if self.approvers is None else self.approvers().groups

    def verify(self, to_check: ProofToCheck, requested_by: str | None) -> VerifiedProof:
        """Return what a proof shows.

        Raises:
            ProofError: it does not hold, or cannot be checked here.
        """
        if self.approvers is None:
            raise ProofError("the worker has no approvers file, so it cannot check a proof: set ASSENT_APPROVERS")
        statement = to_check.statement.model_copy(update={"namespace": activity.info().namespace})
        to_check = to_check.model_copy(update={"statement": statement})
        return verify(to_check, self._known(), requested_by=requested_by)

    def _known(self) -> Approvers:
        try:
            return self.approvers() if self.approvers is not None else Approvers()
        except ConfigurationError as error:
            raise ProofError(str(error)) from None

    def problem(
        self,
        authorization: Authorization,
        arguments: str,
        values: Mapping[str, JsonValue] | None = None,
        *,
        since: datetime,
    ) -> str | None:
        """Return why the proofs of an approved call do not hold as it is about to run; None if they do.

        Each is checked again from its bytes, by today's approvers file as of the time of the decision; of one that the
        run carried, as of *since*, when the current execution began: the carried state alone says when it was decided.
        """
        # A run about an activity may be started with any terms.
        level = stricter_level(authorization.proof, self.level)
        if level is None and not authorization.proofs:
            return None
        try:
            known = self._known()
        except ProofError as error:
            return str(error)
        proven: set[str] = set()
        for each in authorization.proofs:
            problem = recheck(each, known, since) or covers(
                each,
                namespace=activity.info().namespace,
                run_id=own_run().run_id,
                execution_id=authorization.execution_id,
                tool=activity.info().activity_type,
                requirement_id=authorization.requirement_id,
                arguments=_digest(parse_arguments(arguments)),
                values=None if values is None else _digest(dict(values)),
            )
            if problem is not None:
                return f"the proof of {each.statement.by!r} does not hold any more: {problem}"
            if satisfies(each.verified.level, level):
                proven.add(fold_name(each.statement.by))
        counted = proven & {fold_name(name) for name in authorization.approved_by}
        if level is not None and len(counted) < authorization.needed:
            return f"the call has {len(counted)} of {authorization.needed} approvals with a proof"
        return None


def _digest(value: dict[str, JsonValue]) -> str:
    try:
        return digest_of(value)
    except ValueError:  # No one can have signed this.
        return ""
