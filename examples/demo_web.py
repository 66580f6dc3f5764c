"""The approvals page: agents wait, and you decide in a browser, with a passkey where one is asked for.

    make demo-web      or python examples/demo_web.py

Without a terminal it looks at its own page and ends. Everything that it makes is in `.assent/demo-web`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from assent import Agent, AgentClient, approval, ask_user, tool
from assent.runtime.connection import exit_cleanly
from assent.testing import Environment, call, calls, environment, says
from assent.web.app import serve
from assent.web.enrolment import NAMESPACE, Invitation
from assent.web.settings import WebSettings
from assent.wire.proofs import instant

PORT = 8234
FOLDER = Path(".assent") / "demo-web"


@approval(expires_after=timedelta(hours=2))
@tool
def deploy_to_production(service: str, version: str, percent: int) -> str:
    """Deploy a version to a part of the traffic."""
    return f"{service} {version} is live for {percent} % of the traffic"


@approval(proof="person", approvers=["finance"])
@tool
def wire_transfer(to: str, amount: float, currency: str) -> str:
    """Send money. A person's own key signs the approval."""
    return f"sent {amount:.2f} {currency} to {to}"


@tool(requires_confirmation=True)
def send_email(to: str, subject: str, body: str) -> str:
    """Send an e-mail."""
    return f"sent {subject!r} to {to}: {len(body)} characters"


def agents(running: Environment) -> list[Agent]:
    """Four agents whose models follow a script."""
    body = "Dear Ana,\n\nyour refund of 120 EUR is on its way.\n\nKind regards\nSupport"
    scripts = {
        "release-manager": call("deploy_to_production", service="payments-api", version="2026.10.3", percent=10),
        "accounts-payable": call("wire_transfer", to="Nordwind Logistik GmbH", amount=18420.5, currency="EUR"),
        "support": call("send_email", to="ana@example.com", subject="Your refund", body=body),
        "planner": call("ask_user", question="Where should the new cluster be?", choices=["Frankfurt", "Dublin"]),
    }

    tools: list[Callable[..., object]] = [deploy_to_production, wire_transfer, send_email, ask_user]
    models = {
        name: running.responses(calls(step), lambda seen: says(f"Done: {seen.last_output}"))
        for name, step in scripts.items()
    }
    return [Agent(name=name, model=model, tools=tools) for name, model in models.items()]


def approvers_file() -> tuple[Path, str]:
    """Write an approvers file, and return it with an invitation for bob that the administrator alice has signed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    key, file = FOLDER / "alice", FOLDER / "approvers.toml"
    for old in (key, key.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)  # noqa: S603, S607 - ssh-keygen is the user's own
    file.write_text(f"""[site]
rp_id = "localhost"
origins = ["http://localhost:{PORT}"]

[[people]]
name = "alice"
groups = ["administrators"]
[[people.keys]]
ssh = "{key.with_suffix(".pub").read_text().strip()}"

[[people]]
name = "bob"
groups = ["finance"]

""")
    invitation = Invitation("bob", "alice", "localhost", instant(datetime.now(UTC) + timedelta(days=1)))
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    signed = subprocess.run(command, input=invitation.signed_bytes(), capture_output=True, check=True)  # noqa: S603 - as above
    return file, f"http://localhost:{PORT}/enrol?invitation={invitation.token(signed.stdout.decode())}"


async def start_runs(client: AgentClient) -> None:
    """Start a run of each agent, and wait until it waits."""
    for agent, prompt, by in (
        ("release-manager", "Ship payments-api 2026.10.3.", "alice"),
        ("accounts-payable", "Pay the invoice of Nordwind.", "nightly-cron"),
        ("support", "Answer ticket 4711.", "dana"),
        ("planner", "Plan the move of the billing cluster.", "erin"),
    ):
        await (await client.start(agent, prompt, requested_by=by)).until_paused()


async def look() -> None:
    """Look at the page as a browser does, and check what it shows."""
    async with httpx.AsyncClient(base_url=f"http://localhost:{PORT}") as http:
        for _ in range(50):
            with suppress(httpx.TransportError):
                if (await http.get("/healthz")).text == "ok\n":
                    break
            await asyncio.sleep(0.1)
        page = (await http.get("/")).text
    assert "4 requests wait for you" in page
    print("4 requests wait for bob on the page")


async def demo() -> None:
    """Start everything, say where to look, and serve until Ctrl-C."""
    file, invitation = approvers_file()
    settings = WebSettings.read(demo_sign_in="bob", listen=f"127.0.0.1:{PORT}", approvers=str(file))
    async with environment(ui=True) as running, running.serve(*agents(running), approvers=file) as client:
        await client.setup()
        await start_runs(client)
        page = asyncio.create_task(serve(client, settings))
        await look()
        print(f"""
Open        http://localhost:{PORT}         you are bob
The runs    {running.server.ui_url}        in Temporal's Web UI

The wire transfer wants a passkey. Make one:
1. open     {invitation}
2. add the text that it shows to {file}, as its last lines
3. approve the transfer: your passkey signs it. `Audit` on the run's page shows the proof
""")
        if sys.stdin.isatty():
            print("Ctrl-C ends the demo.")
            await page
        page.cancel()
        with suppress(asyncio.CancelledError):
            await page
    print("Every check passed.")


if __name__ == "__main__":
    exit_cleanly()
    with suppress(KeyboardInterrupt):
        asyncio.run(demo())
