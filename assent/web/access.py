"""Who sees what."""

from __future__ import annotations

from assent.audit.approval import Approval
from assent.web.sign_in import Person
from assent.wire.requirements import RunState


def may_see(person: Person, record: Approval | RunState) -> bool:
    """Return whether a person may see a run and what waits in it.

    With an approvers file those whom it names see everything, and others nothing; without one, all who are signed in.
    """
    del record
    return person.listed
