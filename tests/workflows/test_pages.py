"""Every command and every program with an `await` of the documentation is run, on a real server.

A page's own agents are served, with a script in the place of their models. Its commands are typed in one shell, in an
empty folder. `RUN` and `ID` in a command are a run of the page that waits, and what waits in it: a new run where
nothing waits any more. Output that a page shows is compared. `make dist` follows the page *Start*.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.service import RPCError

from assent import Agent, AgentClient, OpenAIResponses, RunHandle, approval, tool
from assent.testing import Environment, call, calls, environment, says
from assent.testing import Step as Answer
from assent.wire.budget import Price
from assent.wire.names import TASK_QUEUE
from tests.support.page_programs import define, execute, waits
from tests.support.page_shell import Shell, shell
from tests.support.signing import ssh_keygen
from tests.support.transcripts import Command, Python, Step, alike, ids, steps

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): steps(path.read_text())
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
}
ELSEWHERE = {
    "README.md": "it shows a part of Start: test_documents.py",
    "docs/start/index.md": "`make dist`: tests/wheel/test_start.py",
    "docs/guides/from-code.md": "tests/workflows/test_client_of_the_guide.py",
}
"""Pages that are followed by other tests."""
SERVING = "docs/guides/notices.md"
"""Its programs serve for ever: `test_webhooks.py` runs them."""
WIRE = "docs/reference/wire.md"
"""It names the task queue of a worker with no settings."""
LOST = "docs/guides/lost-workers.md"
READING = ("assent pending", "assent show", "temporal")
"""Commands that may be typed again until what they read is there."""
NOT_RUN = {
    r"make ": "the target exists, says test_documents.py; each takes minutes, and CONTRIBUTING.md lists them",
    r"docker |podman-compose |COMPOSE_PROFILES=": "no container engine is here",
    r".* --follow": "it asks at a terminal: tests/workflows/test_terminal_decisions.py",
    r"(?:cd examples/typescript|node )": "`make test-integrations` runs the program",
    r"pip install": "`make dist` installs the package",
    r"promtool ": "tests/unit/test_deploy.py runs both, where Debian's `prometheus` is installed",
    r"python -m bench|\.venv/bin/python -m bench": "25 minutes; figures are not a test",
}
if shutil.which("jq") is None:
    NOT_RUN[r".*\| jq "] = "jq is not on this machine"
"""Commands that are not run here, and why."""


@approval
@tool(requires_confirmation=True)
def deploy(target: str) -> str:
    """Deploy to a target."""
    return f"deployed to {target}"


@approval
@tool(requires_confirmation=True, timeout=timedelta(milliseconds=200))
async def charge(card: str) -> None:
    """Charge a card, which takes too long."""
    await asyncio.sleep(1)


@approval
@tool(requires_confirmation=True)
def pay(to: str, cents: int) -> str:
    """Make a payment."""
    return f"{to} has {cents}"


@approval
@tool(requires_confirmation=True)
def restart(service: str) -> str:
    """Restart a service."""
    return f"{service} runs"


def plain(name: str, *tools: Callable[..., object]) -> Agent:
    return Agent(name=name, model=OpenAIResponses(name), tools=tools)


DEPLOYER, BOOKS, ACCOUNTS = plain("deployer", deploy), plain("books", pay), plain("accounts")
OTHERS = {
    LOST: [plain("clerk", charge)],
    "docs/guides/attachments.md": [plain("shop")],
    "docs/guides/audit.md": [BOOKS],
    "docs/guides/conversations.md": [ACCOUNTS],
    "docs/guides/upgrades.md": [DEPLOYER],
    "docs/guides/proof.md": [DEPLOYER],
    "docs/reference/cli.md": [DEPLOYER, BOOKS, plain("boss", plain("writer", restart).as_tool()), ACCOUNTS],
    "docs/reference/wire.md": [ACCOUNTS, plain("hackernews", deploy)],
}
"""Agents of pages that show none."""
SCRIPTS: dict[str, list[Answer]] = {
    "support": [calls(call("refund", order="A1", cents=20_000)), says("Done.")],
    "books": [calls(call("pay", to="shop", cents=500)), says("Paid.")],
    "loans": [calls(call("credit_check", customer="ann")), says("Checked.")],
    "clerk": [calls(call("charge", card="4711")), says("Charged.")],
    "deployer": [calls(call("deploy", target="prod")), says("Out.")],
    "hackernews": [calls(call("deploy", target="prod")), says("Out.")],
    "boss": [calls(call("ask_writer", input="Restart web.")), says("It runs.")],
    "writer": [calls(call("restart", service="web")), says("It runs.")],
    "accounts": [says("Hello."), says("Done."), says("Done.")],
    "shop": [says("Ours."), says("12 euros.")],
}
"""What the model of an agent answers, by the agent's name."""
SERVED = """
from assent import Agent, OpenAIResponses
agent = Agent(name="yours", model=OpenAIResponses("gpt-5-mini"))
"""
"""What a page calls `my_agents`."""


@pytest_asyncio.fixture(scope="module")
async def pages() -> AsyncGenerator[Environment]:
    """A server on which no other test has runs."""
    async with environment() as running:
        await running.client(TASK_QUEUE).setup()
        for name, answers in SCRIPTS.items():
            running.models.script(name, *answers)
        yield running


@dataclasses.dataclass
class Reader:
    """Who follows a page: the shell, the run that the page is about, and the ids that its commands have to name."""

    page: str
    client: AgentClient
    agent: str
    terminal: Shell
    run: RunHandle | None = None
    shown: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """The ids that this run has in the place of those that the page shows."""

    async def waiting(self) -> tuple[RunHandle, str]:
        """A run in which something waits, and the id of that."""
        found = await self.run.until_paused() if self.run is not None else None
        if self.run is None or not found or not found.active_requirements:
            self.run = await self.client.start(self.agent, "Do it.", requested_by="alice")
            found = await self.run.until_paused()
        if self.page == LOST and found.active_requirements[0].kind == "confirmation":
            await self.run.approve(found.active_requirements[0], by="bob")
            found = await self.run.until_paused()
        return self.run, found.active_requirements[0].short_id if found.active_requirements else ""

    async def follow(self, command: Command) -> None:
        """Type a command. What the page shows is what it prints, sooner or later; the ids of it are noted."""
        line = await self.typed(command.line)
        printed, code = await self.terminal.run(line)
        patience = time.monotonic() + 20
        if not command.output:
            while code and line.startswith("temporal") and time.monotonic() < patience:
                await asyncio.sleep(0.5)
                printed, code = await self.terminal.run(line)
            assert code == 0, (line, printed)
            return
        wanted = [alike(each) for each in command.output]
        while [alike(each) for each in printed] != wanted and line.startswith(READING) and time.monotonic() < patience:
            await asyncio.sleep(0.2)
            printed, _ = await self.terminal.run(line)
        assert [alike(each) for each in printed] == wanted, "\n".join(["the page should say:", *printed])
        for shown, real in zip(command.output, printed, strict=True):
            self.shown |= dict(zip(ids(shown), ids(real), strict=True))

    async def typed(self, line: str) -> str:
        """The line as this reader types it."""
        for name, real in self.shown.items():
            line = line.replace(name, real)
        if re.search(r"\bRUN\b", line):
            run, requirement = await self.waiting()
            line = re.sub(r"\bID\b", requirement, re.sub(r"\bRUN\b", run.id, line))
        return line


def runs(step: Step) -> bool:
    """Whether a step is to be run here, beyond what `test_documents.py` does with it."""
    if isinstance(step, Command):
        return not any(re.match(each, step.line) for each in NOT_RUN)
    return waits(step.text) if isinstance(step, Python) else False


@pytest.mark.parametrize("page", [page for page in sorted(PAGES.keys() - ELSEWHERE) if any(map(runs, PAGES[page]))])
@pytest.mark.timeout(120)
async def test_a_page_can_be_followed_as_printed(
    page: str, pages: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = define(PAGES[page] if page != SERVING else [], tmp_path, monkeypatch)
    shown = [each for each in names.values() if isinstance(each, Agent)]
    agents = [*(dataclasses.replace(each, model=OpenAIResponses(each.name)) for each in shown), *OTHERS.get(page, ())]
    prices = {each.name: Price(input=0.25, output=2) for each in agents}
    (tmp_path / "my_agents.py").write_text(SERVED)
    (tmp_path / "label.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    approvers = await key_of_bob(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", pages.models.url)
    queue = TASK_QUEUE if page == WIRE else tmp_path.name
    variables = {"TEMPORAL_ADDRESS": pages.server.address, "OPENAI_BASE_URL": pages.models.url}
    variables["ASSENT_TASK_QUEUE"] = queue
    async with (
        pages.serve(*agents, task_queue=queue, prices=prices, approvers=approvers) as client,
        shell(tmp_path, variables) as terminal,
    ):
        reader = Reader(page, client, agents[-1].name if agents else "", terminal)
        try:
            if any(isinstance(step, Command) and "RUN" in step.line for step in filter(runs, PAGES[page])):
                await reader.waiting()  # Before a page routes its runs elsewhere.
            for step in filter(runs, PAGES[page]):
                if isinstance(step, Command):
                    await reader.follow(step)
                elif isinstance(step, Python):
                    for line in (await terminal.run("env | grep ^ASSENT_"))[0]:
                        monkeypatch.setenv(*line.split("=", 1))
                    names |= {"client": client, "content": "Hello."}
                    if "run." in step.text and "run = " not in step.text:
                        names["run"], _ = await reader.waiting()
                    await execute(step.text, names)
        finally:
            await end_all(client)


async def key_of_bob(home: Path) -> Path:
    """The approvers file, and the SSH key, of bob and of alice, who may invite him."""
    key = home / ".ssh" / "id_ed25519"
    key.parent.mkdir()
    made = await asyncio.create_subprocess_exec(ssh_keygen(), "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    assert await made.wait() == 0
    for suffix in ("", ".pub"):
        key.with_name(f"work{suffix}").write_bytes(key.with_name(f"id_ed25519{suffix}").read_bytes())
    key.with_name("work").chmod(0o600)
    [kind, public, _] = key.with_suffix(".pub").read_text().split()
    approvers = home / "approvers.toml"
    site = '[site]\nrp_id = "approvals.example.com"\norigins = ["https://approvals.example.com"]\n'
    approvers.write_text(f'{site}[[people]]\nname = "bob"\n[[people.keys]]\nssh = "{kind} {public}"\n')
    return approvers


async def end_all(client: AgentClient) -> None:
    """End what a page leaves: the next one starts with an empty inbox."""
    async for run in client.temporal.list_workflows("ExecutionStatus = 'Running'"):
        with suppress(RPCError):  # It may have ended by itself.
            await client.temporal.get_workflow_handle(run.id).terminate()


@pytest.mark.parametrize("commands", NOT_RUN)
def test_each_reason_not_to_run_a_command_has_such_a_command(commands: str) -> None:
    assert any(isinstance(step, Command) and re.match(commands, step.line) for page in PAGES.values() for step in page)


def test_no_command_is_written_without_a_fence() -> None:
    # An indented block has no language: nothing would run it.
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        prose = re.sub(r"^( *)```\w*\n.*?^\1```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        assert not re.findall(r"\n\n {4,}\S.*", prose), path
