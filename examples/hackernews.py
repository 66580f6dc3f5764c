"""An agent that reads Hacker News, and has to be allowed to."""

from __future__ import annotations

import asyncio
import os

import httpx
from pydantic import BaseModel

from assent import Agent, OpenAIResponses, approval, tool

HACKERNEWS_URL = "https://hacker-news.firebaseio.com/v0"


class Story(BaseModel):
    """What the model gets to know of a story."""

    title: str
    by: str
    score: int
    url: str | None = None


@approval
@tool(requires_confirmation=True)
async def get_top_hackernews_stories(num_stories: int) -> list[Story]:
    """Fetch the top stories of Hacker News.

    Args:
        num_stories: How many, 1 to 30.
    """
    async with httpx.AsyncClient(timeout=10) as http:

        async def get(path: str) -> httpx.Response:
            answer = await http.get(f"{os.environ.get('HACKERNEWS_URL', HACKERNEWS_URL)}/{path}.json")
            return answer.raise_for_status()

        ids: list[int] = (await get("topstories")).json()
        items = await asyncio.gather(*(get(f"item/{each}") for each in ids[: max(1, min(num_stories, 30))]))
    return [Story.model_validate_json(item.content) for item in items]


agent = Agent(
    name="hackernews",
    model=OpenAIResponses("gpt-5-mini"),
    instructions=(
        "You tell people what is on Hacker News. Fetch the stories with your tool, at once and in one call; the system "
        "asks a person for permission by itself. Answer with a short numbered list, one line for each story."
    ),
    tools=[get_top_hackernews_stories],
)
