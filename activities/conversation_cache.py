"""Conversations that this process has seen, so that a model call carries only what is new.

A conversation is named by its digest, so an entry can be stale but never wrong. On a miss it is rebuilt from the run's
own history, by the fold that the audit uses, up to the event that scheduled the call at hand. (Measured from inside an
activity at 100, 1,000 and 5,000 events: 9, 16 and 71 ms; no workflow worker is needed.)
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from cachetools import TTLCache
from temporalio import activity

from assent.core.run_state import Run
from assent.history.fold import fold
from assent.history.pages import pages
from assent.history.workflow_tasks import schedules
from assent.wire.conversation import Conversation
from assent.wire.errors import HistoryError
from assent.wire.parts import digests_of
from assent.wire.protocol import Item, ModelCallInput, Prefix

from .own_run import own_client, own_run

UNUSED: Final = 600.0
"""Seconds after its last model call for which a conversation is kept: by then its run has mostly ended, or waits."""
_SLOT = 8
"""Bytes of a reference to an item."""
_ATTACHMENTS: Final = "attachments"
"""What stands in the place of a digest for the images and files of a run."""


@dataclass(frozen=True, slots=True)
class _Entry:
    conversation: Conversation
    size: int
    attachments: Mapping[str, str] = field(default_factory=dict[str, str])


class ConversationCache:
    """A cache of conversations, bounded in bytes of memory; what was not used for a while is dropped.

    A worker of model calls is not told of the end of a run: one that has ended is simply no longer used.
    """

    def __init__(self, limit: int, timer: Callable[[], float] = time.monotonic) -> None:
        """*limit* is in bytes of memory; 0 keeps nothing. *timer* counts seconds."""
        self._entries: TTLCache[tuple[str, str], _Entry] = TTLCache(
            max(limit, 1), UNUSED, timer, getsizeof=lambda entry: entry.size
        )
        self._enabled = limit > 0

    async def conversation(self, call: ModelCallInput) -> Conversation:
        """The whole conversation of a model call, what it carries included.

        Raises:
            HistoryError: the run's history does not match what the call names.
        """
        if call.prefix is None:
            return Conversation().append(call.delta)
        return await self.get(call.prefix, call.delta)

    async def get(self, prefix: Prefix, delta: list[Item]) -> Conversation:
        """The conversation of this name, with *delta* behind it.

        Raises:
            HistoryError: as `conversation`.
        """
        entry = self._entries.get(_key(prefix.digest))
        if entry is not None:
            return entry.conversation.append(delta)
        return _checked((await self._rebuilt()).conversation, prefix, delta)

    async def attachments(self, conversation: Conversation) -> Mapping[str, str]:
        """The bytes that a conversation names: base64, by SHA-256. They are in the history, where they came.

        Raises:
            HistoryError: the run's history does not have them.
        """
        names = {*digests_of(conversation.items)}
        entry = self._entries.get(_key(_ATTACHMENTS)) if names else _Entry(conversation, 0)
        if entry is None or names - entry.attachments.keys():
            known = (await self._rebuilt()).attachments
        else:
            known = entry.attachments
        if lost := names - known.keys():
            raise HistoryError(f"the history does not have the image or file of SHA-256 {min(lost)}")
        return {name: known[name] for name in names}

    async def _rebuilt(self) -> Run:
        own = own_run()
        events = [event async for page in pages(own_client(), own.run_id, own.execution_id) for event in page.events]
        until = schedules(activity.info().activity_id)
        run = fold(events, run_id=own.run_id, execution_id=own.execution_id, until=until)
        size = memory_size({**run.attachments})
        if self._enabled and run.attachments and size <= self._entries.maxsize:
            self._entries[_key(_ATTACHMENTS)] = _Entry(Conversation(), size, run.attachments)
        return run

    @property
    def count(self) -> int:
        """How many conversations there are."""
        return len(self._entries)

    def put(self, conversation: Conversation, replaces: Prefix | None) -> None:
        """Keep a conversation for the run's next model call, in place of the shorter one it grew from."""
        if not self._enabled:
            return
        shorter = self._entries.pop(_key(replaces.digest), None) if replaces else None
        known, size = (len(shorter.conversation), shorter.size) if shorter else (0, 0)
        size += sum(memory_size(item) + _SLOT for item in conversation.items[known:])
        if size <= self._entries.maxsize:
            self._entries[_key(conversation.digest)] = _Entry(conversation, size)

    def replace(self, conversation: Conversation, longer: Prefix) -> None:
        """Keep a conversation in place of the longer one that it makes do without."""
        self._entries.pop(_key(longer.digest), None)
        self.put(conversation, None)


def memory_size(value: object) -> int:
    """Return the bytes of memory that a JSON value takes: a short item takes ten times its text."""
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(memory_size(each) for pair in cast("dict[str, object]", value).items() for each in pair)
    if isinstance(value, list):
        return size + sum(map(memory_size, cast("list[object]", value)))
    return size


def _key(digest: str) -> tuple[str, str]:
    # By run as well, so that two runs whose conversations are equal do not take each other's entry away.
    return own_run().run_id, digest


def _checked(rebuilt: Conversation, prefix: Prefix, delta: list[Item]) -> Conversation:
    digest = Conversation().append(rebuilt.items[: prefix.length]).digest
    if digest != prefix.digest:
        message = f"the history has another conversation than the call names: {digest[:12]}, not {prefix.digest[:12]}"
        raise HistoryError(message)
    if list(rebuilt.items[prefix.length :]) != delta:
        raise HistoryError("the history has other tool outputs or messages than the call carries")
    return rebuilt
