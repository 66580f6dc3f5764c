"""`worker.py` as a process: bad configuration is one line and an exit code, and `--embedded` brings everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from assent.runtime.embedded_server import embedded_server, free_port
from assent.wire.errors import DatabaseInUseError
from tests.e2e.processes import ROOT, WORKER, Running

GOOD = """
    from assent import Agent, OpenAIResponses, tool

    {tool}

    agent = Agent(name="a", model=OpenAIResponses(id="m"{model}), tools=[{tools}])
"""


def module(folder: Path, body: str = "", *, tools: str = "", model: str = ', base_url="http://127.0.0.1:9/v1"') -> str:
    text = textwrap.dedent(GOOD).format(tool=textwrap.dedent(body), tools=tools, model=model)
    (folder / "my_agents.py").write_text(text)
    return "my_agents"


def run(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI", "ASSENT", "TEMPORAL"))}
    return subprocess.run(
        [*WORKER(), *arguments],
        cwd=folder,
        env={**kept, "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("assent: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_no_agents_are_named(tmp_path: Path) -> None:
    assert "--agents MODULE" in one_line(run(tmp_path))


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    assert "module 'nowhere' does not import: ModuleNotFoundError" in one_line(run(tmp_path, "--agents", "nowhere"))


def test_a_module_that_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "my_agents.py").write_text("1/0\n")
    assert "does not import: ZeroDivisionError" in one_line(run(tmp_path, "--agents", "my_agents"))


def test_a_module_without_agents(tmp_path: Path) -> None:
    (tmp_path / "my_agents.py").write_text("x = 1\n")
    assert "defines no agent" in one_line(run(tmp_path, ASSENT_AGENTS="my_agents"))


def test_a_tool_without_annotations(tmp_path: Path) -> None:
    name = module(tmp_path, "@tool\ndef pay(amount):\n    ...", tools="pay")
    line = one_line(run(tmp_path, "--agents", name))
    assert "my_agents.py:" in line
    assert "'amount' has no annotation" in line


def test_two_tools_of_one_name(tmp_path: Path) -> None:
    body = "@tool\ndef pay() -> str:\n    ...\n\n@tool(name='pay')\ndef other() -> str:\n    ..."
    line = one_line(run(tmp_path, "--agents", module(tmp_path, body, tools="pay, other")))
    assert "two tools are named 'pay'" in line


def test_a_tool_that_must_both_wait_and_be_done_elsewhere(tmp_path: Path) -> None:
    body = "@tool(requires_confirmation=True, external_execution=True)\ndef pay() -> str:\n    ..."
    line = one_line(run(tmp_path, "--agents", module(tmp_path, body, tools="pay")))
    assert "pay" in line


def test_no_key(tmp_path: Path) -> None:
    # A server is needed to come as far as that: the key is asked for when the worker is made.
    line = one_line(run(tmp_path, "--embedded", "--agents", module(tmp_path, model="")))
    assert "agent 'a'" in line
    assert "OPENAI_API_KEY" in line


def test_no_server(tmp_path: Path) -> None:
    line = one_line(run(tmp_path, "--agents", module(tmp_path)), code=4)
    assert "no Temporal server answers at 127.0.0.1:" in line
    assert "TEMPORAL_ADDRESS" in line


@pytest.mark.parametrize(
    ("webhooks", "secret", "said"),
    [
        ("{", None, "ASSENT_WEBHOOKS is not JSON"),
        ('[{"url": "ftp://u:hunter2@a.test", "secret_env": "HOOK"}]', None, "ASSENT_WEBHOOKS[0].url: must begin with"),
        ('[{"url": "https://u:hunter2@a.test/t0ken", "secret_env": "HOOK"}]', None, "variable HOOK is not set"),
        ('[{"url": "https://u:hunter2@a.test/t0ken", "secret_env": "HOOK"}]', "whsec_***", "HOOK is not base64"),
    ],
)
def test_a_webhook_that_cannot_be_used(tmp_path: Path, webhooks: str, secret: str | None, said: str) -> None:
    env = {"ASSENT_WEBHOOKS": webhooks} | ({"HOOK": secret} if secret else {})
    line = one_line(run(tmp_path, "--agents", module(tmp_path), **env))
    assert said in line
    assert "hunter2" not in line
    assert "t0ken" not in line


def test_a_webhook_that_cannot_be_used_is_an_exit_code_of_the_command_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assent.cli", "worker", "--agents", module(tmp_path)],
        cwd=tmp_path, env=os.environ | {"ASSENT_WEBHOOKS": '[{"url": "x", "secret_env": "HOOK"}]'},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "ASSENT_WEBHOOKS[0].url: must begin with http:// or https://" in done.stderr


async def test_an_embedded_server_ends_with_its_killed_worker_and_the_next_takes_its_file(tmp_path: Path) -> None:
    command = (sys.executable, str(ROOT / "worker.py"), "--embedded", "--agents", module(tmp_path))
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        worker = Running(process, [])
        said = await worker.until("Temporal server at")
        await worker.until("Serving")
        assert await worker.end(number) in {0, -signal.SIGKILL}
        await gone(said.split(",")[0].split()[-1])


async def gone(address: str) -> None:
    """Wait until nobody listens at *address* any more."""
    host, port = address.split(":")
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.05)


async def test_a_server_that_is_not_waited_for_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "server.log"

    async def starts() -> None:
        async with embedded_server(tmp_path / "temporal.db", log=log):
            pass

    for delay in (0.0, 0.02, 0.1):
        starting = asyncio.create_task(starts())
        await asyncio.sleep(delay)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
    # The file is free again at once: no server that was left holds its claim.
    async with embedded_server(tmp_path / "temporal.db", ui=False) as server:
        with pytest.raises(DatabaseInUseError, match=r"another server has .*temporal.db open"):
            async with embedded_server(tmp_path / "temporal.db", ui=False):
                pass
        assert await server.client.service_client.check_health()


def test_an_embedded_server_is_at_no_other_place(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assent.cli", "--namespace", "shop", "worker", "--embedded", "--agents", "my_agents"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    told = "--embedded starts a server of its own, with the namespace 'default': leave out --namespace"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"assent: {told}\n")


async def test_the_command_of_the_wheel_serves_as_well(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "faulthandler", "-m", "assent.cli",
        "--task-queue", "q", "worker", "--embedded", "--agents", module(tmp_path),
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    worker = Running(process, [])
    assert "Serving a on task queue 'q'" in await worker.until("Serving")
    assert await worker.end(signal.SIGTERM) == 0, worker.lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_embedded_brings_a_server_and_a_web_ui_and_ends_with_them(tmp_path: Path, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "worker.py"), "--embedded", "--agents", module(tmp_path), "--task-queue", "q",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    worker = Running(process, [])
    server = await worker.until("Temporal server at")
    assert "Serving a on task queue 'q'" in await worker.until("Serving")
    assert "Web UI: http://localhost:" in await worker.until("Web UI")
    assert await worker.end(number) == 0
    assert (tmp_path / ".assent" / "temporal.db").exists()
    host, port = server.split(",")[0].split()[-1].split(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))
