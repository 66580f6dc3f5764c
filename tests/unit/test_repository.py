"""The repository keeps its shape: the import arrow, the exported names, the wheel's content, the lock."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import assent

ROOT = Path(__file__).parents[2]
ARROW = ("assent", "activities", "workflows")
PURE = (
    "activity_ids", "agent", "agent_tools", "approvals", "attempts", "audit", "authority", "authorization", "budget",
    "calls", "carried", "commands", "compaction", "comparing", "conversation", "csv_records", "deadlines", "decorators",
    "delegation", "digest", "errors", "events", "explaining", "facts", "filters", "gates", "grants", "handoffs",
    "hash_chain", "inbound", "layout", "live", "marking", "messages", "model_queues", "models", "notices", "outcomes",
    "paging", "policy", "protocol", "questions", "records", "render", "requirements", "run", "schema", "snapshot",
    "spending", "statement", "statistics", "summaries", "tools", "turns", "verdicts", "views", "visibility", "waiting",
    "watching", "webhooks",
)  # fmt: skip


def imported(path: Path) -> Iterator[str]:
    """The top-level packages and dotted modules that a file imports, however deep in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@pytest.mark.parametrize("package", ARROW)
def test_imports_point_only_against_the_arrow(package: str) -> None:
    later = set(ARROW[ARROW.index(package) + 1 :]) | {"worker", "starter", "examples", "tests", "bench"}
    for path in (ROOT / package).rglob("*.py"):
        wrong = {name for name in imported(path) if name.split(".")[0] in later}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("name", PURE)
def test_the_pure_core_imports_neither_temporal_nor_network_nor_clock(name: str) -> None:
    banned = {"temporalio", "openai", "httpx", "socket", "time", "random", "secrets", "uuid", "os", "asyncio"}
    wrong = {module for module in imported(ROOT / "assent" / f"{name}.py") if module.split(".")[0] in banned}
    assert not wrong


def test_the_pure_core_imports_only_the_pure_core() -> None:
    for name in PURE:
        inside = {
            module.split(".")[1] for module in imported(ROOT / "assent" / f"{name}.py") if module.startswith("assent.")
        }
        assert inside <= set(PURE), f"{name} imports {inside - set(PURE)}"


@pytest.mark.parametrize("package", ["activities", "workflows"])
def test_the_worker_half_imports_itself_relatively(package: str) -> None:
    # The wheel puts both below `assent`, where an absolute import of itself would find another project's package.
    for path in (ROOT / package).rglob("*.py"):
        assert not {name for name in imported(path) if name.split(".")[0] == package}, path


def test_workflow_code_touches_no_clock_randomness_or_environment() -> None:
    for path in (ROOT / "workflows").rglob("*.py"):
        text = path.read_text()
        assert not re.search(
            r"\b(random|secrets|os\.environ|time\.time|datetime\.now|uuid\.uuid4\b(?<!workflow\.uuid4))", text
        )


def test_exported_names_are_exactly_all() -> None:
    public = {name for name in vars(assent) if not name.startswith("_")}
    modules = {name for name in public if type(vars(assent)[name]).__name__ == "module"}
    assert public - modules == set(assent.__all__) - {"__version__"}
    assert list(assent.__all__) == sorted(assent.__all__, key=lambda name: (not name[0].isupper(), name))


def test_every_public_name_is_documented() -> None:
    for name in assent.__all__:
        value = getattr(assent, name)
        if callable(value):
            assert value.__doc__, name
            assert len(value.__doc__) > 15, name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_has_one_top_level_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"assent", f"assent-{assent.__version__}.dist-info"}
    assert "assent/py.typed" in names
    assert not [name for name in names if "test_" in name or name.endswith(".lock")]


def test_a_worker_can_be_built_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    # `-I` and a path of our own: neither the checkout nor its packages can be found.
    code = f"""
import sys
sys.path = [p for p in sys.path if {str(ROOT)!r} != p]
sys.meta_path = [f for f in sys.meta_path if "editable" not in type(f).__module__.lower()]
sys.path.insert(0, {str(tmp_path)!r})
import assent, assent.testing
from assent.runtime import part
assert assent.__file__.startswith({str(tmp_path)!r}), assent.__file__
for name in ("activities", "workflows"):
    assert part(name, "Activities" if name == "activities" else "AgentRun").__module__.startswith("assent.")
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-worker.lock"])
def test_locks_pin_with_hashes_and_name_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    pins = re.findall(r"^[a-z0-9_.\-\[\]]+==\S+.*\\$", text, flags=re.MULTILINE)
    assert len(pins) > 20
    assert text.count("--hash=sha256:") >= len(pins)
