"""What `make docs` adds to the pages in `docs/`: those at the top of the repository, files that they link to, Mermaid.

A link that works in the repository works on the site: pages of the repository's top get a place in it, and a file that
is no page is copied to `source/`, as text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
TOP = {
    "README.md": "index.md",
    "SECURITY.md": "why/security.md",
    "STATUS.md": "why/status.md",
    "CHANGELOG.md": "why/changelog.md",
    "CONTRIBUTING.md": "why/contributing.md",
}
"""Pages at the top of the repository, and where they are on the site."""
SCRIPTS = ROOT / ".venv-docs" / "scripts"
"""Fetched from npm by the Makefile. Without npm, drawings stay text, and the search needs a server."""
_SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the theme would fetch to search pages that were opened as files."""
BOOSTS = {
    "reference/python.md": 0.1,
    "reference/commands.md": 0.5,
    "why/benchmarks.md": 0.2,
    "why/changelog.md": 0.1,
    "why/guarantees.md": 0.6,
    "guides/gate-a-tool.md": 3,
    "guides/": 1.5,
    "start/": 1.5,
}
"""How much a match on a page counts in the search. A page of many names has a match for everything."""
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's top, and the files that any page links to."""
    for name, place in TOP.items():
        files.append(File.generated(config, place, content=(ROOT / name).read_text()))
    for script in SCRIPTS.glob("*.js"):
        files.append(File.generated(config, f"javascripts/{script.name}", content=script.read_bytes()))
    pages = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for place, text in pages.items():
        for target in (_path(place, match[2]) for match in _LINK.finditer(_cited(place, text))):
            source = f"source/{target}.txt"
            if target is None or target in _on_site(pages) or not (ROOT / target).is_file():
                continue
            if files.get_file_from_path(source) is None:
                files.append(File.generated(config, source, content=(ROOT / target).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Let each link lead to the place that its target has on the site."""
    here = page.file.src_uri
    page.meta["search"] = {"boost": next((boost for place, boost in BOOSTS.items() if here.startswith(place)), 1)}

    if here == TOP["README.md"]:  # The whole width, for the table.
        page.meta["hide"] = ["navigation", "toc"]

    def place_of(match: re.Match[str]) -> str:
        target = _path(here, match[2])
        if target is None:
            return match[0]
        place = _on_site({here: ""} | dict.fromkeys(files.src_uris, "")).get(target)
        if place is None and (ROOT / target).is_file():
            place = f"source/{target}.txt"
        if place is None:  # A folder: there is nothing to show.
            place = here
        return f"{match[1]}{posixpath.relpath(place, posixpath.dirname(here) or '.')}{match[3]}"

    return _LINK.sub(place_of, _cited(here, markdown))


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Fetch nothing from elsewhere."""
    shim = posixpath.relpath("javascripts/iframe-worker.js", posixpath.dirname(page.file.dest_uri) or ".")
    return output.replace(_SHIM, shim)


def _cited(place: str, text: str) -> str:
    """Let each test that a page cites lead to the file that has it."""
    up = "../" * (1 + place.count("/"))
    return re.sub(
        r"`(tests/[\w/]+\.py)::test_(\w+)`", lambda test: f"[{test[2].replace('_', ' ')}]({up}{test[1]})", text
    )


def _path(place: str, link: str) -> str | None:
    """The path in the repository that a link of the page at *place* names; None for an address elsewhere."""
    if "://" in link or link.startswith("mailto:"):
        return None
    top = {site: name for name, site in TOP.items()}
    return posixpath.normpath(posixpath.join(posixpath.dirname(top.get(place, f"docs/{place}")), link))


def _on_site(pages: dict[str, str]) -> dict[str, str]:
    """Each path in the repository that is on the site, and its place there."""
    return {f"docs/{place}": place for place in pages} | TOP
