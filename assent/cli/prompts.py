"""Asking a person at a terminal about one call that waits: what exactly, what they say to it, and whether it counted.

There is no default: an empty answer decides nothing, and an answer that is refused is asked for again.

I/O; not in workflow code.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from pydantic import JsonValue
from rich.console import Console

from assent.cli.console import field as line
from assent.cli.console import named, print_commands, print_past, print_requirement, print_words, quoted
from assent.client.run_handle import RunHandle
from assent.client.signals import Signal, as_read
from assent.core.approvals import edited_text
from assent.views.commands import typed
from assent.views.facts import choices_of, field_words, model_words, more_to_approve, ran_before
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError, AssentError, MessageError
from assent.wire.protocol import DecisionOutcome, InputField, RequirementKind
from assent.wire.requirements import Requirement, RunState
from assent.wire.text import one_line, plain

LINE_LIMIT: Final = 4_095
"""Bytes that a terminal takes in one line; the rest of a longer one is lost without a word."""

Read = Callable[[str], Awaitable[str | None]]
"""Shows a prompt and reads a line; None at the end of the input."""

Said = tuple[Signal, dict[str, JsonValue]]

_QUESTIONS: Final[dict[RequirementKind, tuple[str, str]]] = {
    "confirmation": ("Approve it? [y/n] or e, to edit its arguments: ", "yne"),
    "external": ("y: hand in its result, e: it failed, n: reject it [y/e/n] ", "yen"),
    "input": ("y: fill it in, n: reject it [y/n] ", "yn"),
    "outcome": ("h: it happened, a: run it again, g: give up [h/a/g] ", "hag"),
    "budget": ("Extend the budget? n ends the run. [y/n] ", "yn"),
}
_WORDS: Final = {"yes": "y", "no": "n", "edit": "e", "happened": "h", "again": "a", "give up": "g"}


class _EndOfInputError(Exception):
    """Nobody is there any more."""


async def decide_at_terminal(
    run: RunHandle,
    state: RunState,
    requirement: Requirement,
    *,
    approver: str,
    console: Console,
    read: Read,
    program: str = "assent",
) -> None:
    """Ask about one call that waits, and send what *approver* says, until that counts or somebody else decided.

    An answer that is none is asked for again, as is one that is refused; there is no default. At the end of the input
    nothing is decided, and the commands to decide are printed.

    Raises:
        RunNotFoundError: there is no run of this id.
    """
    console.print()
    print_requirement(console, state, requirement, None)
    folded = await run.fold()
    if folded is not None:
        print_past(console, ran_before(folded), run.id, program)
        print_words(console, model_words(folded))
    dialogue = Dialogue(console, requirement, approver, read)
    refused = False
    while True:
        try:
            said = await dialogue.decision(refused=refused)
            if said is None:
                console.print()
                print_commands(console, run.id, requirement, program)
                return
            signal, body = said
            outcome = await run.decide(signal, {"id": requirement.id, **body}, check=False)
        except AssentError as error:
            line(console, "", one_line(str(error)), style="red")
            if isinstance(error, MessageError):
                continue  # Nothing was sent.
            return
        _tell(console, outcome)
        if outcome.status != "refused":
            return
        refused = True


def _tell(console: Console, outcome: DecisionOutcome) -> None:
    if outcome.status == "sent":
        line(console, "sent", one_line(outcome.detail), style="bold")
    elif not outcome.counted:
        line(console, outcome.status, one_line(outcome.detail), style="red")


@dataclass(frozen=True)
class Dialogue:
    """The questions about one requirement."""

    console: Console
    requirement: Requirement
    approver: str
    read: Read

    async def decision(self, *, refused: bool = False) -> Said | None:
        """What the approver says: a signal, and what goes with it; None at the end of the input.

        *refused* says that what they said before was.
        """
        try:
            while True:
                said = await self._said(refused=refused)
                if said is not None:
                    signal, body = said
                    return signal, {"by": self.approver, **body}
        except _EndOfInputError:
            return None

    async def _said(self, *, refused: bool) -> Said | None:
        """What the approver says; None where they went back to the question."""
        kind = self.requirement.kind
        question, letters = _QUESTIONS[kind]
        if kind == "confirmation" and not more_to_approve(self.requirement):
            question, letters = "Approve it? [y/n] ", "yn"
        # Whatever is printed meanwhile about other calls, also of other runs: the question says which one it is about.
        about = f"{self.requirement.short_id} {one_line(self.requirement.tool)}"
        answer = await self._choice(f"{named(self.approver)}, {about}: {question}", letters)
        if answer in {"n", "g"}:
            told = "The run ends with it: " if kind == "budget" else "The model is told: "
            return "reject", {"reason": await self._text(f"Why not? {told}")}
        if kind == "confirmation":
            return ("approve", {}) if answer == "y" else await self._edited()
        if kind == "input":
            return await self._filled_in()
        if answer == "a" or kind == "budget":
            return "approve", {}
        if answer == "e":
            return "submit_result", {"error": await self._text("How did it fail? ")}
        return "submit_result", {"output": await self._result(refused=refused)}

    async def _edited(self) -> Said | None:
        while True:
            text = await self._ask("New arguments, all of them, as JSON (nothing: back): ")
            if not text.strip():
                return None
            try:
                arguments = parse_arguments(text)
            except ArgumentsError as error:
                self._object(str(error))
                continue
            quoted(self.console, "before", self.requirement.arguments)
            quoted(self.console, "now", edited_text(as_read("approve", {"by": self.approver, "arguments": arguments})))
            if await self._choice("Approve it with these? [y/n] ", "yn") == "y":
                return "approve", {"arguments": arguments}
            return None

    async def _result(self, *, refused: bool) -> JsonValue:
        """The result of a call made elsewhere: text as it is, and JSON where only that can be meant.

        Nobody here knows the tool's return type; its worker does, and refuses what does not fit.
        """
        if not (self.requirement.checked and refused):
            text = await self._text("Its result: ")
            return _structured(text) if self.requirement.checked else text
        while True:
            try:
                return read_json(await self._text("Its result, as JSON (text in double quotes): "))
            except ValueError as error:
                self._object(f"that is not JSON: {error}")

    async def _filled_in(self) -> Said | None:
        values: dict[str, JsonValue] = {}
        for field in self.requirement.fields:
            await self._fill(field, values)
        body: dict[str, JsonValue] = {"by": self.approver, "values": values}
        quoted(self.console, "values", typed(as_read("submit_input", body), ", "))
        if not values and await self._choice("Nothing is filled in. Send it so? [y/n] ", "yn") == "n":
            return None
        return "submit_input", {"values": values}

    async def _fill(self, field: InputField, values: dict[str, JsonValue]) -> None:
        """Ask for one field until what is typed may be a value of it; nothing skips one that is optional."""
        line(self.console, "field", plain(field_words(field)))
        skipping = "" if field.required else " (nothing: skip it)"
        while True:
            text = await self._ask(f"{one_line(field.name)}{skipping}: ")
            if not text.strip():
                if field.required:
                    continue
                return
            try:
                values[field.name] = value_of(field, text)
            except ValueError as error:
                self._object(str(error))
            else:
                return

    def _object(self, what: str) -> None:
        line(self.console, "", one_line(what), style="red")

    async def _choice(self, prompt: str, letters: str) -> str:
        while True:
            answer = (await self._ask(prompt)).strip().lower()
            answer = _WORDS.get(answer, answer)
            if len(answer) == 1 and answer in letters:
                return answer

    async def _text(self, prompt: str) -> str:
        while True:
            text = (await self._ask(prompt)).strip()
            if text:
                return text

    async def _ask(self, prompt: str) -> str:
        while True:
            text = await self.read(prompt)
            if text is None:
                raise _EndOfInputError
            if len(text.encode("utf-8", "surrogatepass")) < LINE_LIMIT:
                return text
            self._object(f"a terminal takes {LINE_LIMIT} bytes in a line, so this may be cut: use the `assent` command")


def _structured(text: str) -> JsonValue:
    if not text.startswith(("{", "[")):
        return text
    try:
        return read_json(text)
    except ValueError:
        return text


def value_of(field: InputField, text: str) -> JsonValue:
    """What *text*, as somebody typed it, is as a value of *field*: a choice, text as it is, or JSON.

    Raises:
        ValueError: it is none of the choices, or no JSON.
    """
    listed = choices_of(field.type)
    if listed:
        for each in listed:
            # What cannot be typed, or does not show, may be typed as it is shown.
            spellings = (each, one_line(each)) if isinstance(each, str) else ()
            if text.strip() in (*spellings, typed(each, ", ")):
                return each
        message = f"it is one of {', '.join(typed(each, ', ') for each in listed)}"
        raise ValueError(message)
    if field.type.get("type") == "string":
        return text
    try:
        return read_json(text)
    except ValueError as error:
        message = f"that is not JSON ({error}); text goes in double quotes"
        raise ValueError(message) from None


def read_json(text: str) -> JsonValue:
    """A JSON value, without the numbers that JSON does not have.

    Raises:
        ValueError: it is none.
    """
    try:
        value: JsonValue = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        message = "it is nested too deeply"
        raise ValueError(message) from None
    return value


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is not a JSON number"
    raise ValueError(message)
