"""The pages of the documentation: their Python runs, their commands, links and paths exist."""

from __future__ import annotations

import io
import re
import runpy
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from assent import PermissionPolicy
from assent.cli.main import main
from assent.views.run_events import RunEventKind
from assent.wire.requirements import RunState
from tests.support.page_programs import define
from tests.support.transcripts import steps

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
}
SERVING = "docs/guides/notices.md"
"""Its programs serve for ever: `test_webhooks.py` runs them."""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def code(text: str) -> str:
    """Every line of code of a page: fenced, indented, and in backticks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^ {4,}\S.*$", prose, re.MULTILINE)
    return "\n".join([*fenced, *indented, *re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)])


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "```python" in text and page != SERVING])
def test_programs_of_a_page_run_as_printed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Those that await something need a server: `tests/workflows/test_pages.py`.
    assert define(steps(PAGES[page]), tmp_path, monkeypatch)


def commands(page: str) -> set[tuple[str, str]]:
    """Each command of `assent` or `worker.py` that a page shows, with each of its options."""
    joined = re.sub(r"\\\n\s*|\n {15,}(?=\[)", " ", code(PAGES[page]))
    found: set[tuple[str, str]] = set()
    for line in joined.splitlines():
        for program, rest in re.findall(
            r"(?:^|\$ |python |exec \S+ |: )(assent|worker\.py) (.*)", line.split("  #")[0].strip()
        ):
            words = [word.strip("[]|.…,;:") for word in rest.split(": assent")[0].split()] or [""]
            options = [word for word in words if re.fullmatch(r"--[a-z][-a-z]+", word)]
            if program == "worker.py":
                command = "worker"
            else:
                while words and words[0].startswith("--"):  # options before the command, each with its value
                    options.remove(words[0])
                    found.add(("", words[0]))
                    words = words[2:]
                command = " ".join(
                    words[: 2 if words[:1] == ["audit"] and words[1:2] in (["export"], ["verify"]) else 1]
                )
            found |= {(command, option) for option in options or [""]}
    return found


def test_the_session_in_the_readme_is_the_one_of_the_start_page() -> None:
    # `make dist` types the start page's commands, and compares what they print.
    start = dict.fromkeys(PAGES["docs/start/index.md"].replace(" | grep -E '^(ok|verdict)'", "").splitlines())
    [session] = blocks(PAGES["README.md"], "console")
    assert not [line for line in session.splitlines() if line not in start]
    assert blocks(PAGES["README.md"], "python")[0] == blocks(PAGES["docs/start/index.md"], "python")[0]


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "# policy.toml" in text])
def test_policies_of_a_page_can_be_read(page: str) -> None:
    for block in blocks(PAGES[page], "toml"):
        if block.startswith("# policy.toml"):
            assert PermissionPolicy.from_toml(block).rules


MADE = {path.name: (path, text) for path, text in runpy.run_path(str(ROOT / "docs" / "site" / "tables.py"))["pages"]()}


@pytest.mark.parametrize("page", MADE)
def test_parts_that_come_from_the_code_are_what_the_code_says(page: str) -> None:
    path, text = MADE[page]
    assert path.read_text() == text, "run: python docs/site/tables.py"


@cache
def help_of(command: str) -> str:
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(text):
        patch.setenv("COLUMNS", "200")
        assert main([*command.split(), "--help"]) == 0, command
    return text.getvalue()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_and_options_of_a_page_exist(page: str) -> None:
    for command, option in commands(page):
        assert re.search(rf"{option}\b", help_of(command)), f"assent {command} has no {option}"


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith("http"):
            continue
        target, _, anchor = link.partition("#")
        path = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        assert path.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, link


@pytest.mark.parametrize("page", PAGES)
def test_files_and_targets_that_a_page_names_exist(page: str) -> None:
    text = code(PAGES[page])
    for path in re.findall(
        r"(?<![\w/.])(?:assent|activities|workflows|tests|examples|bench|docs|deploy|docker)/[\w/.]*\w", text
    ):
        assert (ROOT / path).exists(), path
    targets = re.findall(r"^(\S+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"^\s*make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, target


def test_the_wire_names_every_field_of_a_runs_state() -> None:
    [table] = re.findall(
        r"\| field of `RunState` \|.*?\n\n", (ROOT / "docs" / "reference" / "wire.md").read_text(), re.DOTALL
    )
    first = "".join(row.split("|")[1] for row in table.splitlines()[2:] if row)
    assert set(re.findall(r"`(\w+)`", first)) == set(RunState.model_fields)


def test_each_kind_of_event_has_its_line() -> None:
    first = "".join(re.findall(r"^\| (`.*?) \|", PAGES["docs/reference/events.md"], re.MULTILINE))
    assert sorted(re.findall(r"`(\w+)`", first)) == sorted(get_args(RunEventKind))


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    listed = re.findall(r"(?<=[ \[])[\w/-]+\.md", navigation)
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert pages <= set(listed)
    assert len(listed) == len(set(listed))
