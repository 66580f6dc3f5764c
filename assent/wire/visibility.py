"""What visibility holds of a run, within its bounds: search attributes, and the memo for where there are none."""

import json
import re
from collections.abc import Iterable
from typing import Final, cast

from pydantic import Field, ValidationError

from assent.wire.limits import KEYWORD_LIMIT
from assent.wire.protocol import MEMO_PENDING, RunRequest, Stored

ABOVE: Final = 20
"""The limit of parent runs that a memo names."""
_PENDING_KEY: Final = re.compile(f"{MEMO_PENDING}_([0-9]{{1,6}})", re.ASCII)


class ParentEntry(Stored):
    """A run that another works for: its id and agent."""

    run_id: str = Field(max_length=1_000)
    agent: str = Field(max_length=100)


def pending_key(slot: int) -> str:
    """Return the name of the memo of a pending requirement. *slot* is its place among the requirements of its turn."""
    return f"{MEMO_PENDING}_{slot}"


def pending_keys(names: Iterable[str]) -> list[str]:
    """Return those of the *names* of memos that are of pending requirements, in the order of their slots."""
    slots = {name: found[1] for name in names if (found := _PENDING_KEY.fullmatch(name))}
    return sorted(slots, key=lambda name: int(slots[name]))


class RequestMemo(Stored):
    """The memo `assent_request`, as far as it can be read."""

    agent: str = ""
    requested_by: str | None = None
    parents: list[ParentEntry] = Field(default_factory=list[ParentEntry], max_length=ABOVE)
    caller: str | None = None


def request_memo(request: RunRequest | None, agent: str | None = None, caller: str | None = None) -> dict[str, object]:
    """The memo `assent_request`: who asked which agent, for inboxes where no search attributes are registered.

    *agent* is the one that continues the conversation after a handoff. Child runs have the ids and agents of their
    parents, the outermost first. *caller* is `Run.caller`.
    """
    if request is None:
        return {}
    memo: dict[str, object] = {"agent": agent or request.agent}
    if request.requested_by:
        memo["requested_by"] = request.requested_by
    if request.parents:
        memo["parents"] = [{"run_id": each.run_id, "agent": each.agent} for each in request.parents]
    if caller is not None:
        memo["caller"] = caller
    return memo


def read_request_memo(memo: object, parent: str | None = None) -> RequestMemo:
    """Read a memo `assent_request`. A client can put anything there; what does not fit counts as empty.

    Parents count as none unless the last one is *parent*, the workflow that started the run according to Temporal. A
    caller is always that one.
    """
    memo_fields = cast("dict[str, object]", memo) if isinstance(memo, dict) else {}
    fields = {name: memo_fields[name] for name in ("agent", "requested_by") if isinstance(memo_fields.get(name), str)}
    if isinstance(memo_fields.get("caller"), str):
        fields["caller"] = parent or ""
    try:
        read = RequestMemo.model_validate({**fields, "parents": memo_fields.get("parents", [])})
    except ValidationError:
        return RequestMemo.model_validate(fields)
    genuine = not read.parents or read.parents[-1].run_id == parent
    return read if genuine else read.model_copy(update={"parents": []})


ANY_TOOL: Final = "*"
"""Stands in `AssentWaitingOn` for more tools than fit."""


def keyword(text: str) -> str:
    """The beginning of *text* that fits into a search attribute."""
    while len(json.dumps(text)) > KEYWORD_LIMIT:
        text = text[:-1]
    return text
