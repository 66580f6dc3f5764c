"""Worker deployment versioning with real workers: two builds, and runs that wait across the change."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from assent import RunHandle
from assent.client.client import AgentClient
from assent.client.progress import describe_progress, progress_of
from assent.runtime.deployments import deployment_config
from assent.runtime.embedded_server import temporal_binary
from assent.runtime.settings import Settings
from assent.testing import Environment, ModelServer, Step, call, calls, check_replay, says
from assent.wire.errors import ConfigurationError
from tests.e2e.processes import WORKER, Running, start
from tests.e2e.test_worker import module, one_line
from tests.e2e.test_worker import run as run_worker

STEPS: tuple[Step, ...] = (calls(call("pay", to="bob")), lambda seen: says(f"told: {seen.last_output}"))


@dataclass(frozen=True)
class Deployment:
    """A deployment of a name of its own, on a task queue of that name."""

    environment: Environment
    models: ModelServer
    name: str
    versioning: str

    @property
    def client(self) -> AgentClient:
        """A client that starts its runs there."""
        return self.environment.client(self.name)

    async def temporal(self, *arguments: str) -> bool:
        """What an operator does by hand; whether it succeeded."""
        running = await start(temporal_binary(), *arguments, "--address", self.environment.server.address)
        async with asyncio.timeout(30):
            await running.process.communicate()
        return running.process.returncode == 0

    async def make_current(self, build: str) -> None:
        """Send new runs to a build, as soon as its first worker has polled."""
        named = ("--deployment-name", self.name, "--build-id", build, "--yes")
        async with asyncio.timeout(30):
            while not await self.temporal(  # noqa: ASYNC110 - the worker's poll moves it
                "worker", "deployment", "set-current-version", *named
            ):
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def build(self, build: str, *program: str) -> AsyncGenerator[Running]:
        """A worker of a build, by another *program* than `worker.py`; killed at the end if it still runs."""
        env = {
            "TEMPORAL_ADDRESS": self.environment.server.address,
            "OPENAI_BASE_URL": self.models.url,
            "ASSENT_BUILD_ID": build,
        }
        options = ("--task-queue", self.name, "--deployment", self.name, "--versioning", self.versioning)
        command = (sys.executable, *program) if program else WORKER()
        running = await start(*command, "--agents", "tests.e2e.two_builds", *options, env=env)
        try:
            await running.until("stop with")
            yield running
        finally:
            await running.end(signal.SIGKILL)


@asynccontextmanager
async def deployed(environment: Environment, versioning: str) -> AsyncGenerator[Deployment]:
    async with ModelServer() as models:
        models.script("builds", *STEPS)
        yield Deployment(environment, models, f"builds-{uuid.uuid4().hex[:6]}", versioning)


async def approved(run: RunHandle) -> str:
    """Approve what waits; the run's answer."""
    [asked] = (await run.until_paused()).active_requirements
    await run.send("approve", {"id": asked.id, "by": "carol"})
    async with asyncio.timeout(30):
        return (await run.result()).content


async def builds(run: RunHandle) -> tuple[int, list[str]]:
    """How many executions the run had, and the builds that its audit names."""
    record = (await run.audit()).run
    return len(record.executions), record.builds


async def test_no_run_starts_before_a_current_version_is_set_and_the_worker_says_so(
    assent_environment: Environment,
) -> None:
    async with deployed(assent_environment, "auto-upgrade") as deployment, deployment.build("b1") as worker:
        assert any("has no current version: no run starts before one is set" in line for line in worker.lines)
        run = await deployment.client.start("payer", "Pay.")
        await asyncio.sleep(1)
        assert len((await run.history()).events) == 2
        assert any("waits for a worker on task queue" in line for line in describe_progress(await progress_of(run)))
        await deployment.make_current("b1")
        assert await approved(run) == "told: build b1 paid bob"
        async with deployment.build("b1", "-m", "assent.cli", "worker") as second:
            assert any("Build 'b1' of deployment" in line for line in second.lines)
            assert not any("current version" in line or "new runs" in line for line in second.lines)


async def test_a_run_that_upgrades_by_itself_goes_on_in_the_build_after(assent_environment: Environment) -> None:
    async with deployed(assent_environment, "auto-upgrade") as deployment:
        async with deployment.build("b1"):
            await deployment.make_current("b1")
            run = await deployment.client.start("payer", "Pay.")
            await run.until_paused()
        async with deployment.build("b2") as worker:
            assert any("sends new runs to build 'b1'" in line for line in worker.lines)
            await deployment.make_current("b2")
            assert await approved(run) == "told: build b2 paid bob"
            assert await builds(run) == (1, ["b1", "b2"])
            await check_replay(await run.history())


async def test_a_pinned_run_makes_its_call_in_its_own_build_and_upgrades_where_it_goes_on_anew(
    assent_environment: Environment,
) -> None:
    async with deployed(assent_environment, "pinned") as deployment:
        async with deployment.build("b1"), deployment.build("b2"):
            await deployment.make_current("b1")
            run, hurried = [await deployment.client.start("payer", "Pay.") for _ in range(2)]
            for each in (run, hurried):
                await each.until_paused()
            await deployment.make_current("b2")
            new = await deployment.client.start("payer", "Pay.")
            assert await approved(new) == "told: build b2 paid bob"
            assert await approved(run) == "told: build b1 paid bob"
            assert await builds(run) == (2, ["b1", "b2"])
            assert await builds(new) == (1, ["b2"])
            # A run that waits upgrades too, once anything has happened to it.
            [asked] = (await hurried.state()).active_requirements
            await hurried.send_message("Hurry.", by="alice")
            async with asyncio.timeout(60):
                while (await builds(hurried))[0] == 1:  # noqa: ASYNC110 - the worker moves it
                    await asyncio.sleep(0.1)
        async with deployment.build("b2"):
            assert [each.id for each in (await hurried.state()).active_requirements] == [asked.id]
            assert await approved(hurried) == "told: build b2 paid bob"
            assert await builds(hurried) == (2, ["b1", "b2"])
            assert (await hurried.verify()).ok
            await check_replay(await hurried.history())


async def test_a_pinned_run_whose_build_has_no_worker_waits_until_an_operator_frees_it(
    assent_environment: Environment,
) -> None:
    async with deployed(assent_environment, "pinned") as deployment:
        async with deployment.build("b1"):
            await deployment.make_current("b1")
            run = await deployment.client.start("payer", "Pay.")
            [asked] = (await run.until_paused()).active_requirements
        async with deployment.build("b2"):
            await deployment.make_current("b2")
            await run.send("approve", {"id": asked.id, "by": "carol"})
            await asyncio.sleep(4)
            assert (await run.state()).status == "waiting"
            freed = ("--workflow-id", run.id, "--versioning-override-behavior", "auto_upgrade")
            assert await deployment.temporal("workflow", "update-options", *freed)
            async with asyncio.timeout(30):
                assert (await run.result()).content == "told: build b2 paid bob"
            assert await builds(run) == (1, ["b1", "b2"])


async def test_a_run_that_an_operator_pinned_stays_and_does_not_go_on_anew_for_ever(
    assent_environment: Environment,
) -> None:
    async with deployed(assent_environment, "pinned") as deployment, deployment.build("b1"), deployment.build("b2"):
        await deployment.make_current("b1")
        run = await deployment.client.start("payer", "Pay.")
        await run.until_paused()
        version = ("--versioning-override-deployment-name", deployment.name, "--versioning-override-build-id", "b1")
        pinned = ("--workflow-id", run.id, "--versioning-override-behavior", "pinned", *version)
        assert await deployment.temporal("workflow", "update-options", *pinned)
        await deployment.make_current("b2")
        await run.send_message("Hurry.", by="alice")
        assert await approved(run) == "told: build b1 paid bob"
        assert await builds(run) == (1, ["b1"])


@pytest.mark.parametrize(
    ("deployment", "build", "said"),
    [
        ("agents", "", "--deployment is given without --build-id"),
        ("", "b1", "--build-id is given without --deployment"),
        ("a.b", "b1", "has a dot or a colon"),
    ],
)
def test_half_a_version_is_refused(deployment: str, build: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        deployment_config(deployment, build)


def test_a_worker_that_is_given_half_a_version_ends_with_one_line(tmp_path: Path) -> None:
    line = one_line(run_worker(tmp_path, "--agents", module(tmp_path), "--deployment", "agents"))
    assert "--deployment is given without --build-id" in line
    assert "ASSENT_VERSIONING" in one_line(run_worker(tmp_path, ASSENT_VERSIONING="sometimes"))


def test_the_version_may_be_given_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"DEPLOYMENT": "agents", "BUILD_ID": "b1", "VERSIONING": "pinned", "MAX_ACTIVITIES_PER_SECOND": "2.5"}
    for name, value in given.items():
        monkeypatch.setenv(f"ASSENT_{name}", value)
    settings = Settings.read(build_id="b2", versioning=None)
    assert (settings.deployment, settings.build_id, settings.versioning) == ("agents", "b2", "pinned")
    assert settings.max_activities_per_second == 2.5
    with pytest.raises(ConfigurationError, match="ASSENT_MAX_ACTIVITIES_PER_SECOND: Input should be greater than 0"):
        Settings.read(max_activities_per_second=0.0)


def test_versioning_is_off_unless_it_is_asked_for() -> None:
    assert deployment_config("", "") is None
    with pytest.raises(ConfigurationError, match="name both"):
        deployment_config("", "", "pinned")
