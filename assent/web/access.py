"""Who sees what."""

from __future__ import annotations

from assent.audit.approval import Approval
from assent.web.sign_in import Person
from assent.wire.requirements import RunState


def may_see(person: Person, shown: Approval | RunState) -> bool:
    """Return whether a person may see a run and what waits in it. For now, all who are signed in see everything."""
    del person, shown
    return True
