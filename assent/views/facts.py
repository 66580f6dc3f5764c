"""What people are told about a call that waits: who may decide, by when, why, and what else it turns on.

One list of facts for the terminal, the Temporal Web UI and notices: each lays them out its own way, none has its own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from pydantic import JsonValue

from assent.core.approvals import excludes_requester, fold_names, may_approve
from assent.core.run_state import Run
from assent.views.commands import choices, format_json, resolved
from assent.wire.conversation import ToolCall, text_of, tool_calls
from assent.wire.protocol import ChildRun, InputField, Item
from assent.wire.requirements import Grant, Requirement
from assent.wire.text import UntrustedText, Words, one_line

REMEMBER: Final = '`"remember": {"uses": 2}`, or `{"expires_after": 3600}`'
"""What a decision has that is remembered, in Markdown."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: *label* goes in front of it in a table, *lead* begins it in a sentence.

    *at_length* means that text of others in it is shown whole, in lines of its own where there is room.
    """

    label: str
    lead: str
    words: Words
    at_length: bool = False


def facts_of(
    requirement: Requirement,
    requirements: Sequence[Requirement],
    requested_by: str | None,
    context: Mapping[str, JsonValue] | None = None,
) -> Iterator[Fact]:
    """The facts about a requirement that waits; *requirements* are all of its run, *context* is that of the run.

    *context* is left out where it is shown beside the requirement.
    """
    yield from read_as(requirement)
    yield from context_of(context)
    yield Fact("decides", "May decide: ", _approvers_text(requirement, requested_by))
    yield from _requester(requirement, requested_by)
    if requirement.proof is not None:
        yield Fact("proof", "Proof: ", (PROOF_WORDS[requirement.proof],))
    yield from _votes(requirement)
    if requirement.expires_at is not None:
        until = f"{format_time(requirement.expires_at)}; after that, it counts as rejected"
        yield Fact("until", "Until ", (until,))
    yield from _scheduled_facts(requirement)
    if requirement.note:
        yield Fact("note", "Note: ", (UntrustedText(requirement.note),), at_length=True)
    yield from _before(requirement, requirements)
    lead = "Result to send: " if requirement.kind == "external" else "To fill in: "
    yield from (Fact("field", lead, field_words(each)) for each in requirement.fields)
    if requirement.values is not None:
        yield Fact(
            "values", "Filled in before: ", (UntrustedText(format_json(requirement.values, ", ")),), at_length=True
        )
    for choice in choices(requirement.kind, requirement.fields):
        if choice.means:
            yield Fact(choice.label, "", (UntrustedText(choice.signal), f": {choice.means}"))


PROOF_WORDS: Final = {
    "person": "a decision counts only if it is signed by the person's own key: on the approvals page, or with --sign",
    "service": "a decision counts only if it is signed, or sent by the approvals page for a person who signed in",
}


def read_as(requirement: Requirement) -> Iterator[Fact]:
    """What the tool gets where that is not what the arguments say."""
    if requirement.read_as:
        text = format_json(requirement.read_as, ", ")
        yield Fact("in effect", "In effect, with defaults and validators: ", (UntrustedText(text),), at_length=True)


def context_of(context: Mapping[str, JsonValue] | None) -> Iterator[Fact]:
    """What the run was started with, beside its prompt."""
    if context:
        yield Fact("context", "Context of the run: ", (UntrustedText(format_json({**context}, ", ")),), at_length=True)


def format_time(at: datetime) -> str:
    """A time in UTC, to the second where it has any."""
    utc = at.astimezone(UTC)
    return f"{utc:%Y-%m-%d %H:%M:%S} UTC" if utc.second or utc.microsecond else f"{utc:%Y-%m-%d %H:%M} UTC"


# -- who --------------------------------------------------------------------------------------------------------------


def _approvers_text(requirement: Requirement, requested_by: str | None) -> Words:
    names = requirement.approvers
    if names is None:
        return ("anyone",)
    if not names:
        return ("no one; anyone can reject it",)
    words: Words = (UntrustedText(", ".join(names)),)
    able = fold_names(
        [
            name
            for name in names
            if may_approve(
                name,
                kind=requirement.kind,
                approvers=names,
                self_approval=requirement.self_approval,
                requested_by=requested_by,
            )
        ]
    ) - {""}
    if len(able) >= requirement.needed or requirement.escalated < len(requirement.escalations):
        return words
    if requirement.kind in {"external", "outcome"}:  # they may hand a result in
        return words
    return (
        *words,
        f". {len(able) or 'None'} of them may approve, and it takes {requirement.needed}: \
it can only be rejected",
    )


_NOT_BY_THE_REQUESTER: Final = {
    "confirmation": "approve it", "input": "fill it in", "outcome": "have it run again", "budget": "extend it",
}  # fmt: skip


def _requester(requirement: Requirement, requested_by: str | None) -> Iterator[Fact]:
    if not excludes_requester(requirement.kind, self_approval=requirement.self_approval):
        return
    if requested_by is None:
        yield Fact("requester", "", ("This run has no named requester, so no one is excluded from approving it",))
    else:
        may_not = _NOT_BY_THE_REQUESTER[requirement.kind]
        yield Fact("requester", "", (UntrustedText(requested_by), f" asked for this run and may not {may_not}"))


def _votes(requirement: Requirement) -> Iterator[Fact]:
    if requirement.needed > 1:
        names = ", ".join(requirement.approved_by)
        so_far: Words = (UntrustedText(names),) if names else ("no one",)
        yield Fact("votes", "", (f"{requirement.needed} people must approve; so far: ", *so_far))


def _scheduled_facts(requirement: Requirement) -> Iterator[Fact]:
    for step in requirement.escalations[requirement.escalated :]:
        also = "may decide too" if requirement.approvers is not None else "are told"
        yield Fact("escalates", "", (f"From {format_time(step.at)}, if there is no decision, these {also}: ",
                                     UntrustedText(", ".join(step.approvers) or "no one")))  # fmt: skip
    if requirement.remind_every:
        so_far = f", {requirement.reminders} so far" if requirement.reminders else ""
        yield Fact(
            "reminders", "", (f"Reminders every {format_duration(requirement.remind_every.total_seconds())}{so_far}",)
        )


def format_duration(seconds: float) -> str:
    """A length of time, in its largest unit that divides it."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:g} s"


def approval_options(requirement: Requirement, caller: str | None) -> list[str]:
    """What an approval may add: other arguments, a grant for further calls. Empty if it may not.

    *caller* is `Run.caller`.
    """
    if requirement.kind != "confirmation":
        return []
    edit = '`"arguments": {…}`, all of them, which run instead'
    grant = f"{REMEMBER}, which lets further calls of the tool through"
    # One person cannot let through what takes several, and a workflow asks about one call.
    return [edit] if requirement.needed > 1 or caller is not None else [edit, grant]


def may_reject_further(requirement: Requirement, caller: str | None) -> bool:
    """Whether a rejection may be remembered for further calls of the tool. *caller* is `Run.caller`."""
    return requirement.kind not in {"outcome", "budget"} and caller is None


# -- child runs --------------------------------------------------------------------------------------------------------


def children_of(run: Run) -> list[ChildRun]:
    """The runs that other agents are at work in now, for calls of this one."""
    return [call.child for call in run.calls if call.running and call.child is not None]


def path_words(agents: Sequence[str]) -> Words:
    """Agents that work one for the other, the outermost first; with one alone, that one."""
    words: list[str | UntrustedText] = []
    for agent in agents:
        words += [" > ", UntrustedText(agent)] if words else [UntrustedText(agent)]
    return tuple(words)


def path_text(agents: Sequence[str]) -> str:
    """The same in one line of text, in which no agent's name can pass for a path."""
    return " > ".join(one_line(format_json(each, ",") if {">", '"'} & {*each} else each) for each in agents)


def caller_words(workflow: str, caller: str) -> Words:
    """The workflow that asks people, by its name and its id, if it has one."""
    return ("workflow ", UntrustedText(workflow), *((" ", UntrustedText(caller)) if caller else ()))


# -- what came before -------------------------------------------------------------------------------------------------


def earlier(requirement: Requirement, requirements: Sequence[Requirement]) -> Requirement | None:
    """The requirement that this one came after for the same call."""
    if requirement.follows is None:
        return None
    return next((each for each in reversed(requirements) if each.id == requirement.follows), None)


def edit_of(requirement: Requirement, requirements: Sequence[Requirement]) -> Fact | None:
    """Who changed the arguments, and what they were; None if they are unchanged."""
    before = earlier(requirement, requirements)
    if requirement.edited_by is None or before is None:
        return None
    changed = [part for change in changes(before.arguments, requirement.arguments) for part in change]
    words: Words = (UntrustedText(requirement.edited_by), "; ", *changed, "before: ", UntrustedText(before.arguments))
    return Fact("edited", "Edited by ", words, at_length=True)


def changes(before: str, after: str) -> list[Words]:
    """The fields in which two JSON objects differ, as `name: old → new; `; none if one of them is not an object."""
    try:
        old, new = json.loads(before), json.loads(after)
    except ValueError:
        return []
    if not isinstance(old, dict) or not isinstance(new, dict):
        return []
    known = cast("dict[str, JsonValue]", old)
    now = cast("dict[str, JsonValue]", new)
    names = [name for name in {**known, **now} if name not in known or name not in now or known[name] != now[name]]
    return [(UntrustedText(name), ": ", _value_of(known, name), " → ", _value_of(now, name), "; ") for name in names]


def _value_of(fields: dict[str, JsonValue], name: str) -> UntrustedText | str:
    return UntrustedText(json.dumps(fields[name], ensure_ascii=False)) if name in fields else "nothing"


def _before(requirement: Requirement, requirements: Sequence[Requirement]) -> Iterator[Fact]:
    edit = edit_of(requirement, requirements)
    if edit is not None:
        yield edit
        return
    before = earlier(requirement, requirements)
    if before is None:
        return
    by = f" by {before.resolved_by}" if before.resolved_by else ""
    was = UntrustedText(f"{before.short_id} {before.status}{by}")
    if requirement.kind == "outcome":
        yield Fact("follows", "", ("Unknown outcome: ", was))
    elif requirement.kind == "input":
        yield Fact("follows", "", ("Asked in the middle of the call: ", was))
    else:
        yield Fact("follows", "", ("Asked again: it takes more today than it had with ", was))


def not_started(run: Run) -> list[str]:
    """Return a line for each call that is tried again, since no worker serves it or none had a free thread."""
    waiting = [each for each in run.calls if each.again_at is not None]
    start = "has not started; it is tried again at"
    return [
        f"{one_line(each.call.tool)} {start} {each.again_at:%H:%M:%SZ}"
        + (each.again_why and f": {one_line(each.again_why)}")
        for each in waiting
    ]


def previous_calls(run: Run) -> list[tuple[ToolCall, str]]:
    """The calls of the run so far, oldest first, each with the answer that the model got."""
    return [*_answered(run.conversation.items), *_of_this_turn(run)]


def newest_calls(run: Run, count: int) -> tuple[list[tuple[ToolCall, str]], int]:
    """The last *count* of `previous_calls`, and how many there are: of thousands, the others are not looked at."""
    newest = list(_of_this_turn(run))
    items = run.conversation.items
    answered = [index for index, item in enumerate(items) if item.get("type") == "function_call_output"]
    wanted = answered[max(len(answered) + len(newest) - count, 0) :]
    before = [found for index in wanted if (found := _answered_call(items, index)) is not None]
    return [*before, *newest][-count:], len(answered) + len(newest)


def _answered_call(items: Sequence[Item], index: int) -> tuple[ToolCall, str] | None:
    """The call that an answer is to, the newest of that id before it, and the answer."""
    wanted = items[index].get("call_id")
    for at in range(index - 1, -1, -1):
        if items[at].get("type") == "function_call" and items[at].get("call_id") == wanted:
            return tool_calls([items[at]])[0], str(items[index].get("output"))
    return None


def _answered(items: Sequence[Item]) -> Iterator[tuple[ToolCall, str]]:
    # Some servers use the same call ids in every turn, so a call is met by the next answer to it.
    open_calls: dict[str, ToolCall] = {}
    for item in items:
        open_calls.update((call.call_id, call) for call in tool_calls([item]))
        if item.get("type") == "function_call_output":
            call = open_calls.pop(str(item.get("call_id")), None)
            if call is not None:
                yield call, str(item.get("output"))


def _of_this_turn(run: Run) -> Iterator[tuple[ToolCall, str]]:
    for each in run.calls:
        if each.answer is not None:
            yield each.call, each.answer
        elif each.running:
            yield each.call, "(still running)"


def model_words(run: Run) -> str:
    """What the model said with the calls that wait. It is the last thing to go by."""
    items = run.conversation.items
    begin = next((index + 1 for index in reversed(range(len(items))) if not _is_models(items[index])), 0)
    return text_of(items[begin:])


def _is_models(item: Item) -> bool:
    """Whether the item is of the model's making, and no answer to it."""
    return item.get("role") in {None, "assistant"} and item.get("type") != "function_call_output"


# -- fields -----------------------------------------------------------------------------------------------------------

_TYPES: Final = {
    "string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null",
    "array": "a list", "object": "an object",
}  # fmt: skip


def field_words(field: InputField) -> Words:
    """A field that a person fills in: its name, type, choices and description."""
    listed = choices_of(field.type)
    kind: Words = (UntrustedText(type_words(resolved(field.type, field.type.get("$defs")))),)
    if listed:
        kind = ("one of ", UntrustedText(", ".join(format_json(each, ", ") for each in listed)))
    about: Words = (": ", UntrustedText(field.description)) if field.description else ()
    return (UntrustedText(field.name), ", " if field.required else ", optional, ", *kind, *about)


def choices_of(schema: dict[str, JsonValue]) -> list[JsonValue]:
    """The values that a JSON schema lists; none where it lists none."""
    listed = schema.get("enum")
    if isinstance(listed, list):
        return listed
    return [schema["const"]] if "const" in schema else []


def type_words(schema: dict[str, JsonValue]) -> str:
    """The type that a JSON schema asks for, in words."""
    branches = schema.get("anyOf")
    if isinstance(branches, list):
        return " or ".join(type_words(each) for each in branches if isinstance(each, dict)) or "JSON"
    kind = str(schema.get("type"))
    items = schema.get("items")
    if kind == "array" and isinstance(items, dict):
        return f"a list, each {type_words(items)}"
    properties = schema.get("properties")
    if kind == "object" and isinstance(properties, dict) and properties:
        return f"an object with {', '.join(one_line(name) for name in properties)}"
    return _TYPES.get(kind, "JSON")


# -- grants -----------------------------------------------------------------------------------------------------------


def grant_words(grant: Grant) -> Words:
    """What a grant decides: how often, until when, with which arguments, and by whom."""
    rejects = "rejects " if grant.verdict == "reject" else ""
    uses = "any number of calls" if grant.uses is None else f"{grant.uses - grant.used} more of {grant.uses} calls"
    until = "" if grant.expires_at is None else f", until {format_time(grant.expires_at)}"
    return (
        UntrustedText(grant.tool),
        f": {rejects}{uses}{until}",
        *conditions_words(grant),
        "; by ",
        UntrustedText(grant.by),
    )


def conditions_words(grant: Grant) -> Words:
    """The arguments that a grant is bound to."""
    if grant.arguments is None:
        return (", whatever the arguments",)
    plain: dict[str, JsonValue] = {
        name: condition.model_dump(mode="json", exclude_unset=True) for name, condition in grant.arguments.items()
    }
    return (", if ", UntrustedText(format_json(plain, ", ")))


def active_grants(grants: Sequence[Grant], at: datetime | None) -> list[Grant]:
    """The grants that still decide calls at a time; without one, those that no event has ended."""
    ever = datetime.min.replace(tzinfo=UTC)
    return [grant for grant in grants if grant.is_active(at or ever)]
