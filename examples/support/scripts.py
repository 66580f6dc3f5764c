"""What the scripted model says in more than one program."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from assent.testing import Conversation, Reply, says
from examples.hackernews import Story

_STORIES = TypeAdapter(list[Story])


def tells_stories(seen: Conversation) -> Reply:
    """The stories that the tool fetched, or why it did not."""
    told = seen.last_output or "nothing"
    try:
        stories = _STORIES.validate_json(told)
    except ValidationError:
        return says(f"I could not fetch the stories. What I was told: {told}")
    return says("\n".join(f"{place}. {each.title} ({each.score} points)" for place, each in enumerate(stories, 1)))
