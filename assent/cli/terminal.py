"""Following a run at a terminal: its events as they happen, and a question for each call that waits for a person.

POSIX terminals. Questions are read without a thread, so that a question can be withdrawn when somebody else decides,
and so that Ctrl-C ends the program at once.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from assent.cli.console import field as field_line
from assent.cli.console import growing, make_console, named, print_event, print_requirement, print_talking, quoted
from assent.cli.prompts import LINE_LIMIT, decide_at_terminal
from assent.client.progress import describe_progress, progress_of
from assent.client.run_handle import RunHandle
from assent.client.watch_tree import TreeWatcher
from assent.core.approvals import fold_name
from assent.views.facts import path_text
from assent.views.run_events import RunEvent
from assent.wire.errors import AssentError, MessageError, RunNotFoundError, ServerUnreachableError
from assent.wire.requirements import RunState
from assent.wire.text import one_line

IDLE: Final = 3.0
"""Seconds without an event after which it is said what holds the run up."""


def can_ask() -> bool:
    """Whether somebody sits at this process's terminal."""
    return os.name == "posix" and sys.stdin.isatty() and sys.stdout.isatty()


def os_user() -> str | None:
    """The name of the user who runs this process; None where the system does not know it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


async def follow(
    run: RunHandle,
    *,
    approver: str,
    console: Console | None = None,
    ask: bool,
    speaker: str | None = None,
    program: str = "assent",
) -> RunState:
    """Print what happens in *run*, and in the runs below it, until it ends, and answer with its state then.

    With *ask*, *approver* is asked about each call that waits (see `assent.cli.prompts`). Without, the commands that
    decide are printed, beginning with *program*. Where a conversation is idle, *speaker* is asked for the next message;
    saying nothing ends the following, and leaves the conversation open.

    Raises:
        RunNotFoundError: there is no run of this id.
        ServerUnreachableError: the server does not answer any more.
    """
    desk = Desk(run, approver, console or make_console(), ask=ask, speaker=speaker, program=program)
    tasks = [asyncio.ensure_future(work) for work in (desk.watch(), desk.ask_in_turn(), desk.say_what_holds_it_up())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    state = await run.state()
    if state.error is not None and not desk.ended:
        quoted(desk.console, "error", state.error)
    return state


@dataclass
class Keyboard:
    """Lines from a terminal, read without a thread. What was typed before a question was asked does not answer it."""

    descriptor: int
    _typed: bytes = b""

    def discard(self) -> None:
        """Forget what was typed so far."""
        import termios  # noqa: PLC0415 - POSIX only, and nobody is asked elsewhere

        self._typed = b""
        termios.tcflush(self.descriptor, termios.TCIFLUSH)

    async def line(self) -> str | None:
        """The next line; None at the end of the input."""
        while b"\n" not in self._typed:
            await self._readable()
            more = os.read(self.descriptor, 4_096)
            if not more:
                return None
            self._typed += more
        typed, _, self._typed = self._typed.partition(b"\n")
        return typed.decode("utf-8", "replace")

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self.descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self.descriptor)


@dataclass(frozen=True)
class Line:
    """A run that goes over the desk: that which is followed, or one below it, with the agents from there to it."""

    run: RunHandle
    path: tuple[str, ...] = ()

    @property
    def lead(self) -> Text | None:
        """What stands before its events."""
        return Text(f"{path_text(self.path)}  ", style="bold") if self.path else None


About = tuple[Line, str | int]
"""A call by its id, or the turn after which a conversation was idle."""


@dataclass
class Desk:
    """What happens in a run, and in those below it, goes over it; one question at a time lies on it."""

    run: RunHandle
    approver: str
    console: Console
    ask: bool
    speaker: str | None
    program: str
    ended: bool = False
    _lines: dict[str, Line] = field(default_factory=dict[str, Line])
    _waiting: asyncio.Queue[About] = field(default_factory=asyncio.Queue[About])
    _asked: str | int | None = None
    _left: bool = False
    _question: asyncio.Task[None] | None = None
    _prompt: str = ""
    _settled: set[str] = field(default_factory=set[str])
    _eventful: asyncio.Event = field(default_factory=asyncio.Event)
    _growing: Live | None = None

    async def watch(self) -> None:
        """Print each event, note the calls that wait, and withdraw the question that somebody else answered."""
        self._lines[self.run.id] = Line(self.run)
        try:
            async with aclosing(TreeWatcher(self.run, self.run.other, self._say).events()) as told_of:
                async for path, run_id, event in told_of:
                    self._take(path, run_id, event)
        finally:
            self._clear_text()

    def _take(self, path: tuple[str, ...], run_id: str, event: RunEvent) -> None:
        mine = run_id == self.run.id
        if event.kind == "model_text":
            if mine:
                self._eventful.set()
                self._show_text(event)
            return
        self._over(self._lines.get(run_id) or Line(self.run.other(run_id), path), event)
        if event.child is not None:
            if event.kind == "agent_started":
                below = Line(self.run.other(event.child.run_id), (*path, event.child.agent))
                self._lines[event.child.run_id] = below
            else:
                self._lines.pop(event.child.run_id, None)
        if mine:
            self.ended = self.ended or event.kind in {"completed", "failed", "cancelled"}
            if event.kind == "model_called" and isinstance(self._asked, int):
                self._take_back()
                self._show_prompt()

    def _say(self, what: str) -> None:
        """Say in one line what is not followed."""
        self._clear()
        field_line(self.console, "", one_line(what), style="red")
        self._show_prompt()

    def _over(self, line: Line, event: RunEvent) -> None:
        """Print an event, and note or withdraw the question that it makes or answers."""
        self._eventful.set()
        asked = self.ask and event.kind == "waiting"
        self._clear()
        talks = event.kind == "idle" and self.speaker is not None and not line.path
        program = None if asked or talks else self.program
        print_event(self.console, event, line.run.id, program, line.lead)
        if asked and event.requirement_id is not None:
            self._waiting.put_nowait((line, event.requirement_id))
        elif talks:
            self._waiting.put_nowait((line, event.turn))
        elif event.kind in {"decided", "expired", "superseded"}:
            self._withdraw(event)
        self._show_prompt()

    async def ask_in_turn(self) -> None:
        """Ask about the calls that wait, and for the next message, one after the other, until nobody says more."""
        keyboard = Keyboard(sys.stdin.fileno()) if self.ask or self.speaker is not None else None
        while not self._left:
            line, self._asked = await self._waiting.get()
            if keyboard is None:
                continue
            self._question = asyncio.create_task(self._put(line, self._asked, keyboard))
            try:
                await asyncio.wait({self._question})
            finally:
                self._question.cancel()
            if not self._question.cancelled():
                self._question.result()
            self._asked, self._prompt = None, ""

    async def say_what_holds_it_up(self) -> None:
        """Say so when nothing happens and the run does not wait for people: retries, no worker."""
        last: list[str] = []
        while True:
            self._eventful.clear()
            try:
                async with asyncio.timeout(IDLE):
                    await self._eventful.wait()
            except TimeoutError:
                lines = await self._holds_it_up()
                if lines and lines != last:
                    self._clear()
                    for each in lines:
                        field_line(self.console, "", each, style="yellow")
                    self._show_prompt()
                last = lines

    async def _holds_it_up(self) -> list[str]:
        try:
            async with asyncio.timeout(IDLE):  # The SDK tries for longer before it gives up
                return [text for line in [*self._lines.values()] for text in await _held_up(line)]
        except (TimeoutError, ServerUnreachableError):
            return ["the Temporal server does not answer; it is waited for"]

    async def _state(self, run: RunHandle) -> RunState:
        """The run, once the server answers: that it does not is said by whoever says what holds the run up."""
        while True:
            try:
                return await run.state()
            except ServerUnreachableError:
                await asyncio.sleep(IDLE)

    async def _put(self, line: Line, about: str | int, keyboard: Keyboard) -> None:
        """Ask about a call, by its id, or for the message that goes on with a conversation after a turn."""
        if isinstance(about, str):
            await self._decide(line, about, keyboard)
        else:
            await self._converse(about, keyboard)

    async def _converse(self, turn: int, keyboard: Keyboard) -> None:
        state, speaker = await self._state(self.run), self.speaker or ""
        if not state.is_idle or state.turns != turn:
            return
        self.console.print()
        while (text := await self._read(f"{named(speaker)}> ", keyboard)) is not None and text.strip():
            try:
                if len(text.encode()) >= LINE_LIMIT:
                    message = f"a terminal takes {LINE_LIMIT} bytes in a line, so this may be cut: use send-message"
                    raise MessageError(message)
                await self.run.send_message(text, by=speaker)
            except AssentError as error:
                field_line(self.console, "", one_line(str(error)), style="red")
                if isinstance(error, MessageError):
                    continue  # Nothing was sent.
            return
        self._left = True
        self.console.print()
        field_line(self.console, "open", "the conversation stays open", style="bold")
        print_talking(self.console, self.run.id, self.program, speaker)

    async def _read(self, prompt: str, keyboard: Keyboard) -> str | None:
        keyboard.discard()
        self._prompt = prompt
        self.console.print(Text(prompt, style="bold"), end="", soft_wrap=True)
        answer = await keyboard.line()
        self._prompt = ""
        return answer

    async def _decide(self, line: Line, identity: str, keyboard: Keyboard) -> None:
        state = await self._state(line.run)
        found = next((each for each in state.active_requirements if each.id == identity), None)
        if found is None:
            return
        if fold_name(self.approver) in map(fold_name, found.approved_by):
            # They edited it, which is their vote for what they made of it: the others are not here.
            self.console.print()
            print_requirement(self.console, state, found, self.program)
            return

        async def read(prompt: str) -> str | None:
            if identity in self._settled:
                return None
            return await self._read(prompt, keyboard)

        if line.path:
            self.console.print()
            field_line(self.console, "below", f"{path_text(line.path)}, run {one_line(line.run.id)}", style="bold")
        await decide_at_terminal(
            line.run, state, found, approver=self.approver, console=self.console, read=read, program=self.program
        )

    def _withdraw(self, event: RunEvent) -> None:
        """Take back the question that somebody else has answered, unless more votes are wanted."""
        if event.requirement_id is None or event.status == "recorded":
            return
        self._settled.add(event.requirement_id)
        if event.requirement_id == self._asked:
            self._take_back()

    def _take_back(self) -> None:
        """Take back the question that stands there."""
        if self._prompt and self._question is not None:
            self._prompt = ""
            self._question.cancel()

    def _show_text(self, event: RunEvent) -> None:
        """Draw the answer that is being written over what was drawn of it before, where a terminal can do that."""
        if self._prompt or not self.console.is_terminal or self.console.is_dumb_terminal:
            return
        if self._growing is None:
            # No thread of its own, and nothing of it stays: the answer is printed as an event once it is there.
            self._growing = Live(console=self.console, auto_refresh=False, transient=True)
            self._growing.start()
        self._growing.update(growing(self.console, event), refresh=True)

    def _clear_text(self) -> None:
        """Take away the answer that was being written."""
        if self._growing is not None:
            self._growing.stop()
            self._growing = None

    def _clear(self) -> None:
        """Leave the line on which a question stands, and take away what will be drawn again."""
        self._clear_text()
        if self._prompt:
            self.console.print()

    def _show_prompt(self) -> None:
        """Put the question again, below what was printed meanwhile."""
        if self._prompt:
            self.console.print(Text(self._prompt, style="bold"), end="", soft_wrap=True)


async def _held_up(line: Line) -> list[str]:
    """What holds one run up, behind the path to it."""
    try:
        found = list(describe_progress(await progress_of(line.run), moving=False))
    except RunNotFoundError:
        return []
    lead = f"{path_text(line.path)}: " if line.path else ""
    return [f"{lead}{each}" for each in found]
