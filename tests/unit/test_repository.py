"""The repository keeps its shape: the import arrow, the exported names, the wheel's content, the lock."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import import_module
from inspect import getsource, isclass, isfunction
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import get_origin

import pytest

import assent

ROOT = Path(__file__).parents[2]
LAYERS: dict[str, set[str]] = {
    "wire": set(),
    "core": {"wire"},
    "agents": {"wire", "core"},
    "views": {"wire", "core"},
    "runtime": {"wire", "core", "agents"},
    "history": {"wire", "core", "runtime"},
    "proof": {"wire", "core"},
    "audit": {"wire", "core", "runtime", "history", "proof"},
    "client": {"wire", "core", "runtime", "history", "audit", "views"},
    "activities": {"wire", "core", "agents", "runtime", "history", "proof"},
    "workflows": {"wire", "core", "views", "runtime"},
    "web": {"wire", "core", "agents", "runtime", "history", "proof", "audit", "client", "views"},
}
"""Each folder of `assent`, and the folders that it may import. `cli` and `testing` may import all of them."""
PURE = ("wire", "core", "agents", "views")
FOLDERS = ("activities", "workflows")
"""At the top of a checkout, with a link in `assent`."""
IMPURE = {
    "asyncio", "httpx", "openai", "os", "random", "secrets", "socket", "subprocess", "temporalio",
    "threading", "time", "uuid",
}  # fmt: skip


def imported(path: Path) -> Iterator[str]:
    """The top-level packages and dotted modules that a file imports, however deep in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def test_the_package_imports_nothing_that_is_not_shipped_with_it() -> None:
    outside = {"worker", "starter", "examples", "tests", "bench"}
    for path in (path for name in ("assent", "activities", "workflows") for path in (ROOT / name).rglob("*.py")):
        wrong = outside & {name.split(".")[0] for name in imported(path)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("folder", LAYERS)
def test_a_folder_imports_only_the_layers_it_rests_on(folder: str) -> None:
    for path in (ROOT / "assent" / folder).rglob("*.py"):
        inside = {module.split(".")[1] for module in imported(path) if module.startswith("assent.")}
        wrong = inside - LAYERS[folder] - {folder, "_version"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_every_folder_is_a_layer() -> None:
    folders = {path.name for path in (ROOT / "assent").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*LAYERS, "cli", "testing"}
    assert {path.name for path in (ROOT / "assent").glob("*.py")} == {
        "__init__.py",
        "_version.py",
        "worker.py",
        "workflow.py",
    }
    own = LAYERS.keys() - {"activities", "workflows"}
    assert not [folder for folder in own if (ROOT / "assent" / folder / "__init__.py").read_text()]


def test_unit_tests_mirror_the_folders() -> None:
    folders = {path.name for path in (ROOT / "tests" / "unit").iterdir() if (path / "__init__.py").exists()}
    assert folders <= {*LAYERS, "cli", "testing"}


@pytest.mark.parametrize("folder", PURE)
def test_pure_folders_import_neither_temporal_nor_network_nor_clock(folder: str) -> None:
    for path in (ROOT / "assent" / folder).rglob("*.py"):
        wrong = {module for module in imported(path) if module.split(".")[0] in IMPURE}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("package", FOLDERS)
def test_the_folders_at_the_top_are_imported_as_parts_of_assent(package: str) -> None:
    # A link, so that a checkout has the names of the wheel; a wheel with them at its top overwrites other people's.
    assert (ROOT / "assent" / package).readlink() == Path("..") / package
    for path in ROOT.glob("[!.]*/**/*.py"):
        assert not {name for name in imported(path) if name.split(".")[0] == package}, path


def test_workflow_code_touches_no_clock_randomness_or_environment() -> None:
    for path in (ROOT / "workflows").rglob("*.py"):
        text = path.read_text()
        assert not re.search(
            r"\b(random|secrets|os\.environ|time\.time|datetime\.now|uuid\.uuid4\b(?<!workflow\.uuid4))", text
        )


def test_exported_names_are_exactly_all() -> None:
    # What type checkers read, and what `__getattr__` finds, are two lists of the same names.
    nodes = [
        node for node in ast.walk(ast.parse(Path(assent.__file__).read_text())) if isinstance(node, ast.ImportFrom)
    ]
    declared = {alias.name: str(node.module) for node in nodes for alias in node.names if node.module != "typing"}
    assert set(declared) == set(assent.__all__)
    for name, module in declared.items():
        assert getattr(assent, name) is getattr(import_module(module), name), name
    public = {name for name in vars(assent) if not name.startswith("_")} - {"TYPE_CHECKING"}
    modules = {name for name in public if isinstance(vars(assent)[name], ModuleType)}
    assert public - modules == set(assent.__all__) - {"__version__"}
    assert set(assent.__all__) <= set(dir(assent))
    assert list(assent.__all__) == sorted(assent.__all__, key=lambda name: (not name[0].isupper(), name))


def test_every_public_name_is_documented() -> None:
    for name in assent.__all__:
        value = getattr(assent, name)
        if callable(value) and get_origin(value) is None:  # No alias of a `Literal`.
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
    assert tops == {"assent", f"assent_agents-{assent.__version__}.dist-info"}
    assert {"assent/py.typed", "assent/web/templates/base.html", "assent/web/static/page.css"} <= {*names}
    assert not [name for name in names if "test_" in name or name.endswith(".lock")]


def test_the_wheel_has_every_module_also_of_the_linked_folders(wheel: Path) -> None:
    # Python 3.11's `rglob` does not look into links.
    found = [path for name in ("assent", *FOLDERS) for path in (ROOT / name).rglob("*.py")]
    modules = {path.relative_to(ROOT).as_posix().removeprefix("assent/") for path in found}
    names = {name.removeprefix("assent/") for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    assert names == modules


@pytest.mark.slow
def test_a_worker_can_be_built_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    # `-I` and a path of our own: neither the checkout nor its packages can be found.
    code = f"""
import sys
sys.path = [p for p in sys.path if {str(ROOT)!r} != p]
sys.meta_path = [f for f in sys.meta_path if "editable" not in type(f).__module__.lower()]
sys.path.insert(0, {str(tmp_path)!r})
import assent, assent.testing, assent.worker
assert assent.__file__.startswith({str(tmp_path)!r}), assent.__file__
assent.worker.AssentPlugin()
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("requirements*.lock")))
def test_locks_pin_with_hashes_and_name_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    pins = re.findall(r"^[a-z0-9_.\-\[\]]+==\S+.*\\$", text, flags=re.MULTILINE)
    assert len(pins) > 20
    assert text.count("--hash=sha256:") >= len(pins)


def test_no_line_names_the_package_assent_of_another_project() -> None:
    # Ours is `assent-agents`.
    places = [ROOT / name for name in ("assent", "activities", "workflows", "examples", "bench", "docs", "docker")]
    paths = [path for place in places for path in place.rglob("*") if path.suffix in {".py", ".md", ".sh", ".yml"}]
    text = {path: path.read_text() for path in [*paths, *ROOT.glob("*.md"), *ROOT.glob("*.py"), ROOT / "Dockerfile"]}
    assert len(text) > 100
    text[ROOT / "README.md"] = text[ROOT / "README.md"].replace("**Do not `pip install assent`**", "")
    wrong = re.compile(r"\bassent\[(?=[a-z\u2026])|\b(?:pip|uv|pipx|poetry) (?:install|add) [^\n`]*\bassent\b(?![.-])")
    for path, content in text.items():
        found = wrong.search(content)
        assert not found, f"{path.relative_to(ROOT)}: {found and found[0]}"


INSIDE = {
    # Of the program's own parts: what the CLI, the audit and the worker read, which may change at any time.
    "ApprovalTerms", "ArgumentSchema", "AuditObserver", "Confirmation", "Content", "Duration", "Gatekeeper", "Groups",
    "Json", "HistoryPosition", "Instructions", "Model", "Options", "Record", "Run", "ServerDefinition",
    "ServerQuestion", "Target",
    "ToolOptions", "Transition",
    # Words of a closed set, which a type checker shows as such.
    "Attribution", "CheckName", "Decision", "Effect", "Execution", "Method", "NoticeType",
    "ProofLevel", "Seconds", "Verdict",
    # Texts of a certain shape.
    "Armored", "Base64", "Digest", "Instant", "Long", "Name",
    # Other packages' names.
    "AbstractSet", "AsyncGenerator", "AsyncIterator", "Callable", "ClassVar",
    "Iterator", "JsonValue", "Literal", "Mapping", "None", "Path",
    "ScheduleHandle", "ScheduleOverlapPolicy", "ScheduleSpec", "Sequence", "Unpack",
    "WorkflowExecutionDescription", "WorkflowHistory",
}  # fmt: skip


def annotations_of(value: object) -> Iterator[tuple[str, str]]:
    """The annotations of a class or function as they are written, each with the name of its member."""
    if not (isclass(value) or isfunction(value)):
        return
    [definition] = ast.parse(dedent(getsource(value))).body
    for member in definition.body if isinstance(definition, ast.ClassDef) else [definition]:
        if isinstance(member, ast.AnnAssign):
            yield ast.unparse(member.target), ast.unparse(member.annotation)
        elif isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [each.annotation for each in ast.walk(member.args) if isinstance(each, ast.arg)]
            yield from ((member.name, ast.unparse(each)) for each in [*given, member.returns] if each is not None)


def test_what_appears_in_a_public_signature_is_public() -> None:
    found: dict[str, str] = {}
    for name in assent.__all__:
        for member, annotation in annotations_of(getattr(assent, name)):
            if member[0] != "_":
                found |= dict.fromkeys(re.findall(r"[A-Z]\w+", annotation), f"{name}.{member}")
    strangers = {each: where for each, where in found.items() if each not in {*assent.__all__, *INSIDE}}
    assert strangers == {}
    assert found.keys() >= INSIDE, f"no longer needed: {INSIDE - found.keys()}"
