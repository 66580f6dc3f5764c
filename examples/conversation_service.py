"""Conversations behind HTTP: a service that keeps nothing, in two copies, and people who talk to it.

python examples/conversation_service.py
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from aiohttp import web

from assent import AgentClient, RunNotFoundError
from assent.runtime.connection import exit_cleanly
from assent.testing import Step, call, calls, says
from examples.accounts import agent
from examples.support import address_of, say, say_verified, stage

SCRIPT: list[Step] = [
    says("Hello! Whose account is it about?"),
    calls(call("delete_user_data", user_id="user-42")),
    lambda seen: says(f"Done: {seen.last_output}."),
]


def service(client: AgentClient) -> web.Application:
    """The whole service. Which conversation it is stands in the path; the rest is in Temporal."""

    async def tell(request: web.Request) -> web.Response:
        said = await request.json()
        try:
            await client.send_message(request.match_info["id"], said["content"], by=said["by"], agent=agent.name)
        except RunNotFoundError as error:
            raise web.HTTPGone(text=str(error)) from None
        return web.Response(status=202)

    async def hear(request: web.Request) -> web.Response:
        state = await client.get_run(request.match_info["id"]).until_paused()
        waits = [f"{each.tool}({each.arguments})" for each in state.active_requirements]
        return web.json_response({"status": state.status, "answer": state.content, "waits": waits})

    async def close(request: web.Request) -> web.Response:
        await client.get_run(request.match_info["id"]).close(by=request.query["by"])
        return web.Response(status=202)

    app = web.Application()
    app.add_routes([web.post("/{id}", tell), web.get("/{id}", hear), web.delete("/{id}", close)])
    return app


@asynccontextmanager
async def copy_of_the_service(address: str, task_queue: str) -> AsyncGenerator[httpx.AsyncClient]:
    """One copy, with a connection of its own, and an HTTP client for it."""
    runner = web.AppRunner(service(await AgentClient.connect(address, task_queue=task_queue)))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}", timeout=30) as http:
            yield http
    finally:
        await runner.cleanup()


async def main() -> None:
    """Talk to one copy and the other in turns, decide what waits, and close the conversation."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(stage(agent, *SCRIPT))
        place = address_of(client), client.task_queue
        first = await stack.enter_async_context(copy_of_the_service(*place))
        second = await stack.enter_async_context(copy_of_the_service(*place))
        say(f"Two copies of the service: {first.base_url} and {second.base_url}")

        say("\n1. alice says hello to one, which begins the conversation; the other has the answer.")
        assert (await first.post("/chat-1", json={"content": "Hello.", "by": "alice"})).status_code == 202
        heard = (await second.get("/chat-1")).json()
        assert heard["status"] == "idle"
        say(f"   {heard['answer']}")

        say("2. She asks the other for a deletion. That waits for a person:")
        await second.post("/chat-1", json={"content": "Delete user-42, please.", "by": "alice"})
        heard = (await first.get("/chat-1")).json()
        assert heard["status"] == "waiting"
        say(f"   {heard['waits'][0]}")

        say("3. bob approves it, and the conversation continues:")
        [waiting] = (await client.get_run("chat-1").state()).active_requirements
        await client.get_run("chat-1").approve(waiting, by="bob")
        heard = (await first.get("/chat-1")).json()
        assert heard["status"] == "idle"
        say(f"   {heard['answer']}")

        say("4. alice closes it; a later message is refused:")
        assert (await second.delete("/chat-1", params={"by": "alice"})).status_code == 202
        assert (await first.get("/chat-1")).json()["status"] == "completed"
        late = await first.post("/chat-1", json={"content": "One more thing.", "by": "alice"})
        assert late.status_code == 410
        say(f"   {late.status_code}: {late.text}")
        await say_verified(client, "chat-1")


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
