"""Follows a run at a terminal: prints its events, and asks about each pending call.

Needs a POSIX terminal. Answers are read without a thread, so that a question can be withdrawn when another person
decides, and so that Ctrl-C ends the program at once.
"""

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
from assent.cli.console import (
    format_name,
    live_lines,
    make_console,
    print_event,
    print_requirement,
    print_talking,
    quoted,
)
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
"""Seconds without an event after which the terminal says what holds the run up."""


def can_ask() -> bool:
    """Return whether standard input and output are a terminal at which a person can be asked."""
    return os.name == "posix" and sys.stdin.isatty() and sys.stdout.isatty()


def os_user() -> str | None:
    """Return the name of the user who runs this process; None if the system does not know it."""
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
    """Print the events of *run* and its child runs until it ends, and return its state then.

    With *ask*, *approver* is asked about each pending call (see `assent.cli.prompts`). Without it, the commands that
    decide are printed, beginning with *program*. When a conversation is idle, *speaker* is asked for the next message;
    an empty one stops following, and leaves the conversation open.

    Raises:
        RunNotFoundError: there is no run of this id.
        ServerUnreachableError: the server does not answer any more.
    """
    session = TerminalSession(run, approver, console or make_console(), ask=ask, speaker=speaker, program=program)
    works = (session.watch(), session.ask_in_turn(), session.report_obstacles())
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    state = await run.state()
    if state.error is not None and not session.ended:
        quoted(session.console, "error", state.error)
    return state


@dataclass
class Keyboard:
    """Reads lines from a terminal without a thread. Keys typed before a question appears do not answer it."""

    descriptor: int
    _typed: bytes = b""

    def discard(self) -> None:
        """Drop the keys typed so far."""
        import termios  # noqa: PLC0415 - POSIX only, as are questions

        self._typed = b""
        termios.tcflush(self.descriptor, termios.TCIFLUSH)

    async def line(self) -> str | None:
        """Read the next line; None at the end of the input."""
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
class FollowedRun:
    """The run itself, or a child run with the *path* of agents to it."""

    run: RunHandle
    path: tuple[str, ...] = ()

    @property
    def prefix(self) -> Text | None:
        """The text in front of its events."""
        return Text(f"{path_text(self.path)}  ", style="bold") if self.path else None


Topic = tuple[FollowedRun, str | int]
"""What a question is about: a pending call, by its id, or the turn after which a conversation became idle."""


@dataclass
class TerminalSession:
    """Prints the events of a run and its child runs, and asks one question at a time."""

    run: RunHandle
    approver: str
    console: Console
    ask: bool
    speaker: str | None
    program: str
    ended: bool = False
    _runs: dict[str, FollowedRun] = field(default_factory=dict[str, FollowedRun])
    _topics: asyncio.Queue[Topic] = field(default_factory=asyncio.Queue[Topic])
    _topic: str | int | None = None
    _left: bool = False
    _question: asyncio.Task[None] | None = None
    _prompt: str = ""
    _decided: set[str] = field(default_factory=set[str])
    _activity: asyncio.Event = field(default_factory=asyncio.Event)
    _growing: Live | None = None

    async def watch(self) -> None:
        """Print each event, queue the pending calls, and withdraw a question that another person has answered."""
        self._runs[self.run.id] = FollowedRun(self.run)
        try:
            async with aclosing(TreeWatcher(self.run, self.run.other, self._warn).events()) as events:
                async for path, run_id, event in events:
                    self._handle(path, run_id, event)
        finally:
            self._clear_text()

    def _handle(self, path: tuple[str, ...], run_id: str, event: RunEvent) -> None:
        is_root = run_id == self.run.id
        if event.kind == "model_text":
            if is_root:
                self._activity.set()
                self._show_text(event)
            return
        self._show(self._runs.get(run_id) or FollowedRun(self.run.other(run_id), path), event)
        if event.child is not None:
            if event.kind == "agent_started":
                child = FollowedRun(self.run.other(event.child.run_id), (*path, event.child.agent))
                self._runs[event.child.run_id] = child
            else:
                self._runs.pop(event.child.run_id, None)
        if is_root:
            self.ended = self.ended or event.kind in {"completed", "failed", "cancelled"}
            if event.kind == "model_called" and isinstance(self._topic, int):
                self._cancel_question()
                self._show_prompt()

    def _show(self, followed: FollowedRun, event: RunEvent) -> None:
        """Print an event, and queue or withdraw its question."""
        self._activity.set()
        asks = self.ask and event.kind == "waiting"
        talks = event.kind == "idle" and self.speaker is not None and not followed.path
        self._clear()
        program = None if asks or talks else self.program
        print_event(self.console, event, followed.run.id, program, followed.prefix)
        if asks and event.requirement_id is not None:
            self._topics.put_nowait((followed, event.requirement_id))
        elif talks:
            self._topics.put_nowait((followed, event.turn))
        elif event.kind in {"decided", "expired", "superseded"}:
            self._withdraw_question(event)
        self._show_prompt()

    def _warn(self, text: str) -> None:
        self._notice([one_line(text)], "red")

    def _notice(self, lines: list[str], style: str) -> None:
        self._clear()
        for line in lines:
            field_line(self.console, "", line, style=style)
        self._show_prompt()

    async def ask_in_turn(self) -> None:
        """Ask about the pending calls and for the next message, one after the other, until the speaker stops."""
        keyboard = Keyboard(sys.stdin.fileno()) if self.ask or self.speaker is not None else None
        while not self._left:
            followed, self._topic = await self._topics.get()
            if keyboard is None:
                continue
            topic = self._topic
            ask = self._decide(followed, topic, keyboard) if isinstance(topic, str) else self._converse(topic, keyboard)
            self._question = asyncio.create_task(ask)
            try:
                await asyncio.wait({self._question})
            finally:
                self._question.cancel()
            if not self._question.cancelled():
                self._question.result()
            self._topic, self._prompt = None, ""

    async def report_obstacles(self) -> None:
        """Print what holds the run up when nothing happens and no person is waited for: retries, no worker."""
        last: list[str] = []
        while True:
            self._activity.clear()
            try:
                async with asyncio.timeout(IDLE):
                    await self._activity.wait()
            except TimeoutError:
                lines = await self._obstacles()
                if lines and lines != last:
                    self._notice(lines, "yellow")
                last = lines

    async def _obstacles(self) -> list[str]:
        try:
            async with asyncio.timeout(IDLE):  # The SDK itself tries for longer.
                return [text for followed in [*self._runs.values()] for text in await _obstacles_of(followed)]
        except (TimeoutError, ServerUnreachableError):
            return ["the Temporal server does not answer; waiting for it"]

    async def _state(self, run: RunHandle) -> RunState:
        """Read the run once the server answers; `report_obstacles` says meanwhile that it does not."""
        while True:
            try:
                return await run.state()
            except ServerUnreachableError:
                await asyncio.sleep(IDLE)

    async def _converse(self, turn: int, keyboard: Keyboard) -> None:
        state, speaker = await self._state(self.run), self.speaker or ""
        if not state.is_idle or state.turns != turn:
            return
        self.console.print()
        while (text := await self._read(f"{format_name(speaker)}> ", keyboard)) is not None and text.strip():
            try:
                if len(text.encode()) >= LINE_LIMIT:
                    message = f"a terminal accepts {LINE_LIMIT} bytes per line; use `assent send-message` for more"
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

    async def _decide(self, followed: FollowedRun, requirement_id: str, keyboard: Keyboard) -> None:
        run, state = followed.run, await self._state(followed.run)
        requirement = next((each for each in state.active_requirements if each.id == requirement_id), None)
        if requirement is None:
            return
        if fold_name(self.approver) in map(fold_name, requirement.approved_by):
            # Their edit was their vote for it. The votes that it still needs are not theirs.
            self.console.print()
            print_requirement(self.console, state, requirement, self.program)
            return

        async def read(prompt: str) -> str | None:
            return None if requirement_id in self._decided else await self._read(prompt, keyboard)

        if followed.path:
            self.console.print()
            field_line(self.console, "child run", f"{path_text(followed.path)}: {one_line(run.id)}", style="bold")
        await decide_at_terminal(
            run, state, requirement, approver=self.approver, console=self.console, read=read, program=self.program
        )

    def _withdraw_question(self, event: RunEvent) -> None:
        """Withdraw the question that another person has answered, unless it needs more votes."""
        if event.requirement_id is None or event.status == "recorded":
            return
        self._decided.add(event.requirement_id)
        if event.requirement_id == self._topic:
            self._cancel_question()

    def _cancel_question(self) -> None:
        if self._prompt and self._question is not None:
            self._prompt = ""
            self._question.cancel()

    def _show_text(self, event: RunEvent) -> None:
        """Draw the answer that the model is writing over its previous version, if the terminal can do that."""
        if self._prompt or not self.console.is_terminal or self.console.is_dumb_terminal:
            return
        if self._growing is None:
            # Transient and without a thread: the finished answer is printed as an event.
            self._growing = Live(console=self.console, auto_refresh=False, transient=True)
            self._growing.start()
        self._growing.update(live_lines(self.console, event), refresh=True)

    def _clear_text(self) -> None:
        """Remove the live answer."""
        if self._growing is not None:
            self._growing.stop()
            self._growing = None

    def _clear(self) -> None:
        """Leave the line of a question, and remove the live answer, before other output."""
        self._clear_text()
        if self._prompt:
            self.console.print()

    def _show_prompt(self) -> None:
        """Print the question again, after other output."""
        if self._prompt:
            self.console.print(Text(self._prompt, style="bold"), end="", soft_wrap=True)


async def _obstacles_of(followed: FollowedRun) -> list[str]:
    """Return what holds one run up, behind the path to it."""
    try:
        lines = list(describe_progress(await progress_of(followed.run), moving=False))
    except RunNotFoundError:
        return []
    lead = f"{path_text(followed.path)}: " if followed.path else ""
    return [lead + line for line in lines]
