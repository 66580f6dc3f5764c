"""What a worker keeps of conversations: no more memory than it is allowed, and nothing that is no longer used."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from assent.activities import conversation_cache
from assent.activities.conversation_cache import UNUSED, ConversationCache
from assent.wire.conversation import Conversation
from assent.wire.protocol import Execution

LIMIT = 600_000


@pytest.fixture(autouse=True)
def own_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is asked from an activity of a run."""
    monkeypatch.setattr(conversation_cache, "own_run", lambda: Execution(run_id="run-1", execution_id="e1"))


def conversation(number: int, text: str = "") -> Conversation:
    """A conversation of 100 short items, as they come from JSON."""
    items = [
        json.loads(json.dumps({"role": "user", "content": f"{number:04d}{each:04d}{text}"})) for each in range(100)
    ]
    return Conversation().append(items)


@pytest.mark.parametrize("text", ["", "x" * 1_000, "ü" * 100])
def test_a_full_cache_takes_the_memory_that_it_is_allowed(text: str) -> None:
    tracemalloc.start()
    try:
        prefixes = ConversationCache(LIMIT)
        for number in range(60):
            prefixes.put(conversation(number, text), None)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 * LIMIT < taken < 1.2 * LIMIT


async def test_what_is_no_longer_used_is_dropped() -> None:
    now = 0.0
    prefixes = ConversationCache(LIMIT, timer=lambda: now)
    first, second = conversation(1), conversation(2)
    assert first.prefix is not None
    assert second.prefix is not None
    prefixes.put(first, None)
    assert await prefixes.get(first.prefix, []) == first
    now = UNUSED + 1
    prefixes.put(second, None)
    assert prefixes.count == 1, "the run of the first has ended, or waits"
    # Outside of an activity, it could not be rebuilt.
    assert await prefixes.get(second.prefix, []) == second
