"""Type-checks the Python of the pages with mypy: `python docs/site/programs.py`, a part of `make lint`.

Each page becomes one module, in which every program stands on the lines that it has in the page. `client`,
`run` and `content` are what `tests/workflows/test_pages.py` gives to a program.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent

from mypy import api

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".mypy_cache" / "pages"
# The body of a tool is `...`; a page shows a name again in another form; `dict` and `list` are enough for a reader.
ALLOWED = "empty-body, no-redef, top-level-await, type-arg, no-any-return"
GIVEN = "import assent as _assent; client: _assent.AgentClient; run: _assent.RunHandle; content: str"
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^ *# (\w+)\.py$", re.MULTILINE)


def module(page: str) -> str:
    """Return the programs of a page as one module, with the lines of the page. Its files are parts of that module."""
    files = rf"^( *)from (?:{'|'.join(FILE.findall(page)) or '-'}) import .*"
    lines = [""] * (page.count("\n") + 1)
    lines[:2] = f'# mypy: disable-error-code="{ALLOWED}"', GIVEN
    for block in BLOCK.finditer(page):
        first = page.count("\n", 0, block.start(2))
        code = [re.sub(files, r"\1pass", line) for line in dedent(block[2]).splitlines()]
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def main() -> int:
    """Write the modules and check them. What mypy finds is printed with the page and its line."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for old in PLACE.glob("*.py"):
        old.unlink()
    names: dict[str, str] = {}
    for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]:
        page = path.read_text()
        if BLOCK.search(page):
            shown = path.relative_to(ROOT).as_posix()
            name = re.sub(r"\W", "_", shown.removesuffix(".md")).lower()
            names[f"{name}.py"] = shown
            (PLACE / f"{name}.py").write_text(module(page))
    printed, failed, code = api.run([str(PLACE / name) for name in names])
    for name, shown in names.items():
        printed = printed.replace(f".mypy_cache/pages/{name}", shown)
    sys.stdout.write(printed + failed)
    return code


if __name__ == "__main__":
    sys.exit(main())
