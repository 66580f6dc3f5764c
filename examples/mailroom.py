"""An agent that writes to customers. No tool says that it needs a confirmation: the agent's policy does."""

from __future__ import annotations

import json
import os
from pathlib import Path

from assent import Agent, OpenAIResponses, PermissionPolicy, tool

CUSTOMERS = {"ada": "ada@example.com", "grace": "grace@example.com"}


@tool
def find_customer(name: str) -> str:
    """Find a customer's address.

    Args:
        name: The first name.
    """
    return CUSTOMERS.get(name.lower(), f"there is no customer named {name}")


@tool
def send_email(to: str, subject: str, body: str) -> str:
    """Send an email.

    Args:
        to: The address.
        subject: One line.
        body: Plain text.
    """
    # The outbox is a file, so that it can be seen from outside how often this ran.
    with Path(os.environ["OUTBOX"]).open("a") as outbox:
        outbox.write(json.dumps({"to": to, "subject": subject, "body": body}) + "\n")
    return f"sent to {to}"


agent = Agent(
    name="mailroom",
    model=OpenAIResponses("gpt-5-mini"),
    instructions=(
        "You write to customers. Find the address, then send one short email, each with its tool and without asking "
        "back; the system asks a person for permission by itself. Then say in one sentence whether it was sent."
    ),
    tools=[find_customer, send_email],
    policy=PermissionPolicy.of(allow=["find_*"], ask=["send_*"], default="deny"),
)
