"""One request, as the page shows it: everything that a person needs to decide it, from one read of the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from assent.client import read
from assent.client.client import AgentClient
from assent.client.signals import locate
from assent.core.approvals import fold_name, is_approver, may_approve
from assent.core.run_state import Run, state_of
from assent.views.commands import Choice, assent_command, choices, format_json
from assent.views.facts import (
    Fact,
    approval_options,
    choices_of,
    earlier,
    facts_of,
    may_reject_further,
    model_words,
    newest_calls,
    read_as,
)
from assent.views.field_values import schema_of
from assent.views.json_layout import wrap_json
from assent.views.web_ui import ASKS
from assent.web.forms import field_key
from assent.web.values import Row, differences, editable, rows_of, title_of
from assent.wire.conversation import ToolCall
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError
from assent.wire.protocol import InputField, RequirementKind
from assent.wire.requirements import IgnoredMessage, Requirement, RunState
from assent.wire.text import bounded

BEFORE: Final = 5
"""Earlier calls that are shown."""
IGNORED: Final = 10
EXACT: Final = 8_000
"""Characters of the exact arguments on the page; a link has all of them."""
_WORDS: Final = 4_000
_SHOWN_ELSEWHERE: Final = {"field", "until", "values", "votes", "edited"}
_ASKED: Final = {"question", "choices"}
_HEADINGS: Final[dict[RequirementKind, str]] = {
    "confirmation": "What would run", "external": "What is to be done", "input": "What it is for",
    "outcome": "What may have run", "budget": "What was used",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Control:
    """A form control for one field: *options* where it is a choice, each with its text and the value that it sends."""

    key: str
    field: InputField
    kind: str
    options: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request in its run. *etag* changes when the history of the run does."""

    run: Run
    state: RunState
    requirement: Requirement
    etag: str

    @property
    def asks(self) -> str:
        """What a person is asked for."""
        return ASKS[self.requirement.kind]

    @property
    def title(self) -> str:
        """What the request is called."""
        return title_of(self.requirement.tool, self.arguments)

    @property
    def question(self) -> bool:
        """Whether an agent asks a question."""
        return self.title != self.requirement.tool

    @property
    def heading(self) -> str:
        """What the arguments are."""
        return _HEADINGS[self.requirement.kind] if self.requirement.status == "pending" else "The call"

    @property
    def edit(self) -> list[tuple[str, str | None, str | None]]:
        """What an edit changed in the arguments."""
        before = earlier(self.requirement, self.state.requirements)
        if self.requirement.edited_by is None or before is None:
            return []
        return differences(before.tool_args, self.arguments)

    @property
    def arguments(self) -> dict[str, JsonValue] | None:
        """The arguments; None if they are gone or no JSON object."""
        if self.requirement.shortened:
            return None
        try:
            return parse_arguments(self.requirement.arguments)
        except ArgumentsError:
            return None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The arguments, a row each."""
        arguments = self.arguments or {}
        return rows_of({name: each for name, each in arguments.items() if not self.question or name not in _ASKED})

    @property
    def values(self) -> tuple[Row, ...]:
        """What was filled in, a row each."""
        return rows_of(self.requirement.values or {})

    @property
    def path(self) -> list[str]:
        """The agents from the outermost parent run to the one that asks."""
        return [*(each.agent for each in self.state.parents), self.requirement.agent or self.state.agent]

    @property
    def ignored(self) -> list[IgnoredMessage]:
        """The newest messages about it that had no effect."""
        about = [each for each in self.state.ignored_messages if each.requirement_id == self.requirement.id]
        return about[-IGNORED:]

    @property
    def exact(self) -> str:
        """The exact arguments, their white space changed, or their beginning."""
        return bounded(wrap_json(self.requirement.arguments[: 2 * EXACT]), EXACT)

    @property
    def size(self) -> int:
        """Bytes of the exact arguments."""
        return len(self.requirement.arguments.encode("utf-8", "surrogatepass"))

    @property
    def is_cut(self) -> bool:
        """Whether the page shows the beginning of the exact arguments alone."""
        return len(self.requirement.arguments) > EXACT

    @property
    def editable(self) -> str | None:
        """The arguments for a text area; None if an approval may not change them."""
        arguments = self.arguments
        if arguments is None or not approval_options(self.requirement, self.run.caller):
            return None
        return editable(arguments)

    @property
    def may_remember(self) -> bool:
        """Whether an approval may let further calls through."""
        return len(approval_options(self.requirement, self.run.caller)) > 1

    @property
    def may_reject_further(self) -> bool:
        """Whether a rejection may reject further calls too."""
        return may_reject_further(self.requirement, self.run.caller)

    @property
    def facts(self) -> list[Fact]:
        """What else there is to know before a decision."""
        if self.requirement.status != "pending":
            return list(read_as(self.requirement))
        named = _SHOWN_ELSEWHERE | {each.label for each in self.choices}
        facts = facts_of(self.requirement, self.state.requirements, self.state.requested_by, self.state.context)
        return [each for each in facts if each.label not in named]

    @property
    def choices(self) -> list[Choice]:
        """The ways to decide it."""
        return choices(self.requirement.kind, self.requirement.fields)

    @property
    def controls(self) -> list[Control]:
        """The form controls of its fields."""
        return [_control(index, each) for index, each in enumerate(self.requirement.fields)]

    @property
    def before(self) -> tuple[list[tuple[ToolCall, str]], int]:
        """The last calls of the run, and how many there are."""
        return newest_calls(self.run, BEFORE)

    @property
    def words(self) -> str:
        """What the model said with the call."""
        return bounded(model_words(self.run), _WORDS) if self.requirement.status == "pending" else ""

    @property
    def next(self) -> Requirement | None:
        """The request that follows this one for the same call: after an edit, for example."""
        return next((each for each in self.state.requirements if each.follows == self.requirement.id), None)

    @property
    def command(self) -> str:
        """The command that decides it with an SSH key."""
        return assent_command("assent", self.state.id, self.requirement.short_id, self.choices[0], sign=True)

    def may_reject(self, name: str) -> bool:
        """Return whether a person may reject it; where no one may approve it, everyone may."""
        return is_approver(name, self.requirement.approvers or None)

    def objection(self, name: str) -> str | None:
        """Return why a person may not approve it, or hand in its result; None if they may."""
        requirement = self.requirement
        own = self.state.requested_by is not None and fold_name(self.state.requested_by) == fold_name(name)
        if may_approve(
            name, kind=requirement.kind, approvers=requirement.approvers, self_approval=requirement.self_approval,
            requested_by=self.state.requested_by,
        ):  # fmt: skip
            return "You have approved it." if is_approver(name, requirement.approved_by) else None
        return "You asked for this, so another person decides." if own else "You are not among those who may decide it."


def _control(index: int, field: InputField) -> Control:
    schema = schema_of(field)
    listed = choices_of(schema)
    kind = str(schema.get("type"))
    if listed:
        texts = [each if isinstance(each, str) else format_json(each, ", ") for each in listed]
        return Control(field_key(index), field, "choice", [(each, each) for each in texts])
    if kind == "boolean":
        return Control(field_key(index), field, "choice", [("Yes", "true"), ("No", "false")])
    kinds = {"integer": "number", "number": "number", "string": "text"}
    return Control(field_key(index), field, kinds.get(kind, "json"))


async def read_request(client: AgentClient, run_id: str, requirement_id: str) -> RequestView:
    """Read a request by the id of its run, and its own or a unique prefix of it.

    Raises:
        RunNotFoundError: there is no run of this id.
        RequirementNotFoundError: no request of it, or more than one, has the id.
        HistoryError: the workflow of this id is not a run of Assent.
        ServerUnreachableError: the server does not answer.
    """
    description = await read.describe(client.temporal, run_id)
    run, position = await read.read(client.temporal, run_id, description)
    state = state_of(run)
    return RequestView(run, state, locate(state, requirement_id), f'"{position.execution_id}-{position.event_id}"')
