"""Asks a person at a terminal about one pending call, and sends the decision.

There is no default: an empty answer decides nothing, and a refused answer is asked for again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from rich.console import Console

from assent.cli.console import field as line
from assent.cli.console import (
    format_name,
    print_commands,
    print_edit,
    print_facts,
    print_past,
    print_requirement,
    print_words,
    quoted,
)
from assent.client.run_handle import RunHandle
from assent.client.signals import Signal, as_read
from assent.core.approvals import edited_text
from assent.views.commands import format_json
from assent.views.facts import approval_options, context_of, field_words, model_words, previous_calls
from assent.views.field_values import read_json, value_of
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError, AssentError, MessageError
from assent.wire.protocol import InputField, RequirementKind
from assent.wire.requirements import Requirement, RunState
from assent.wire.text import one_line, plain

LINE_LIMIT: Final = 4_095
"""Bytes that a terminal accepts in one line; it drops the rest of a longer one silently."""

Read = Callable[[str], Awaitable[str | None]]
"""Prints a prompt and reads a line; None at the end of the input."""

Decision = tuple[Signal, dict[str, JsonValue]]
"""A signal, and its body without the call's id."""

_QUESTIONS: Final[dict[RequirementKind, tuple[str, str]]] = {
    "confirmation": ("Approve it? [y/n] or e, to edit its arguments: ", "yne"),
    "external": ("y: submit its result, e: it failed, n: reject it [y/e/n] ", "yen"),
    "input": ("y: fill it in, n: reject it [y/n] ", "yn"),
    "outcome": ("h: it happened, a: run it again, g: give up [h/a/g] ", "hag"),
    "budget": ("Extend the budget? n ends the run. [y/n] ", "yn"),
}
_WORDS: Final = {"yes": "y", "no": "n", "edit": "e", "happened": "h", "again": "a", "give up": "g"}


class _EndOfInputError(Exception):
    """The input has ended."""


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
    """Ask *approver* about one pending call and send the decision, until one takes effect or another person decides.

    An invalid or refused answer is asked for again. At the end of the input nothing is decided, and the commands that
    decide are printed.

    Raises:
        RunNotFoundError: there is no run of this id.
    """
    console.print()
    print_requirement(console, state, requirement, None)
    print_facts(console, context_of(state.context))
    folded = await run.fold()
    if folded is not None:
        print_past(console, previous_calls(folded), run.id, program)
        print_words(console, model_words(folded))
    dialogue = Dialogue(console, requirement, approver, read, state.caller)
    refused = False
    while True:
        try:
            decision = await dialogue.decision(refused=refused)
            if decision is None:
                console.print()
                print_commands(console, state, requirement, program)
                return
            signal, body = decision
            outcome = await run.decide(signal, {"id": requirement.id, **body}, check=False)
        except AssentError as error:
            line(console, "", one_line(str(error)), style="red")
            if isinstance(error, MessageError):
                continue  # Nothing was sent.
            return
        if outcome.status == "sent":
            line(console, "sent", one_line(outcome.detail), style="bold")
        elif not outcome.counted:
            line(console, outcome.status, one_line(outcome.detail), style="red")
        if outcome.status != "refused":
            return
        refused = True


@dataclass(frozen=True)
class Dialogue:
    """The questions about one requirement."""

    console: Console
    requirement: Requirement
    approver: str
    read: Read
    caller: str | None = None

    async def decision(self, *, refused: bool = False) -> Decision | None:
        """Return the approver's decision, after a *refused* one or not; None at the end of the input."""
        try:
            while True:
                decision = await self._ask_for_decision(refused=refused)
                if decision is not None:
                    signal, body = decision
                    return signal, {"by": self.approver, **body}
        except _EndOfInputError:
            return None

    async def _ask_for_decision(self, *, refused: bool) -> Decision | None:
        """Ask the question once; None if the approver went back to it."""
        kind = self.requirement.kind
        question, letters = _QUESTIONS[kind]
        if kind == "confirmation" and not approval_options(self.requirement, self.caller):
            question, letters = "Approve it? [y/n] ", "yn"
        # Events of other calls and runs are printed meanwhile, so the question names its call.
        call = f"{self.requirement.short_id} {one_line(self.requirement.tool)}"
        match kind, await self._choice(f"{format_name(self.approver)}, {call}: {question}", letters):
            case _, "n" | "g":
                to = "The model gets this reason" if self.caller is None else "The workflow gets this reason"
                effect = "The run ends with this reason" if kind == "budget" else to
                return "reject", {"reason": await self._text(f"Why not? {effect}: ")}
            case "confirmation", "e":
                return await self._edit()
            case "input", _:
                return await self._fill_in()
            case "external", "e":
                return "submit_result", {"error": await self._text("How did it fail? ")}
            case (("external" | "outcome"), ("y" | "h")):
                return "submit_result", {"output": await self._result(refused=refused)}
            case _:
                return "approve", {}

    async def _edit(self) -> Decision | None:
        while True:
            text = await self._ask("New arguments, all of them, as JSON (empty: back): ")
            if not text.strip():
                return None
            try:
                arguments = parse_arguments(text)
            except ArgumentsError as error:
                self._warn(str(error))
                continue
            now = edited_text(as_read("approve", {"by": self.approver, "arguments": arguments}))
            print_edit(self.console, self.requirement.arguments, now)
            if await self._choice("Approve it with these? [y/n] ", "yn") == "y":
                return "approve", {"arguments": arguments}
            return None

    async def _result(self, *, refused: bool) -> JsonValue:
        """Read the result of a call that was made elsewhere: JSON if it is an object or a list, otherwise text.

        Where the run does not say what the tool returns, only the worker knows: after it *refused* a result, the answer
        must be JSON.
        """
        if self.requirement.fields:
            values: dict[str, JsonValue] = {}
            await self._fill(self.requirement.fields[0], values, "Its result: ")
            return values["output"]
        checked = self.requirement.checked
        while True:
            text = await self._text(
                "Its result, as JSON (text in double quotes): " if checked and refused else "Its result: "
            )
            try:
                if checked and (refused or text.startswith(("{", "["))):
                    return read_json(text)
            except ValueError as error:
                if refused:
                    self._warn(f"that is not JSON: {error}")
                    continue
            return text

    async def _fill_in(self) -> Decision | None:
        values: dict[str, JsonValue] = {}
        for field in self.requirement.fields:
            await self._fill(field, values)
        body: dict[str, JsonValue] = {"by": self.approver, "values": values}
        quoted(self.console, "values", format_json(as_read("submit_input", body), ", "))
        if not values and await self._choice("No field is filled in. Send it anyway? [y/n] ", "yn") == "n":
            return None
        return "submit_input", {"values": values}

    async def _fill(self, field: InputField, values: dict[str, JsonValue], prompt: str = "") -> None:
        """Ask for one field until the text may be a value of it; an empty line skips an optional field."""
        line(self.console, "field", plain(field_words(field)))
        hint = "" if field.required else " (empty: skip it)"
        while True:
            text = await self._ask(prompt or f"{one_line(field.name)}{hint}: ")
            if not text.strip():
                if field.required:
                    continue
                return
            try:
                values[field.name] = value_of(field, text)
            except ValueError as error:
                self._warn(str(error))
            else:
                return

    def _warn(self, text: str) -> None:
        line(self.console, "", one_line(text), style="red")

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
            self._warn(f"a terminal accepts {LINE_LIMIT} bytes per line; use the `assent` commands for more")
