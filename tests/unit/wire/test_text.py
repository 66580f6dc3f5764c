"""Text for people: nothing hidden, nothing cut silently, nothing that breaks out of where it is shown."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from assent.wire.text import bounded, code, fenced, one_line, visible
from tests.unit.strategies import HOSTILE

MARKDOWN = MarkdownIt("commonmark").enable("table")
# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt), without what is not assigned.
IGNORABLE = [
    *"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u3164\ufeff\uffa0",
    *(chr(point) for point in range(0x200B, 0x2010)),
    *(chr(point) for point in range(0x202A, 0x202F)),
    *(chr(point) for point in range(0x2060, 0x2070)),
    *(chr(point) for point in range(0xFE00, 0xFE10)),
    *(chr(point) for point in range(0x1D173, 0x1D17B)),
    *(chr(point) for point in (0xE0001, 0xE0020, 0xE007F, 0xE0100, 0xE01EF)),
]
PARAGRAPH = ["paragraph_open", "inline", "paragraph_close"]
any_text = st.text() | st.sampled_from(HOSTILE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ascii", "plain ascii"),
        ("é ü 中 😀", "é ü 中 😀"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x00\x07\x08\x7f\x9b", "\\x00\\x07\\x08\\x7f\\x9b"),
        ("over\rwritten", "over\\x0dwritten"),
        ("abc\u202edcba\u2066x\u2069", "abc\\u{202e}dcba\\u{2066}x\\u{2069}"),
        ("a\u200b\u2060\ufeffb", "a\\u{200b}\\u{2060}\\u{feff}b"),
        ("no\u00a0break\u3000wide", "no\\xa0break\\u{3000}wide"),
        ("line\u2028para\u2029", "line\\u{2028}para\\u{2029}"),
        ("\ud800", "\\u{d800}"),
        ("tag\U000e0041", "tag\\u{e0041}"),
    ],
)
def test_bidi_and_ansi_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("character", IGNORABLE, ids=lambda character: f"U+{ord(character):04X}")
def test_a_character_that_does_not_show_is_escaped(character: str) -> None:
    assert visible(f"a{character}b").isascii()


def test_every_control_format_and_surrogate_is_escaped() -> None:
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} and character not in "\n\t":
            assert visible(character).startswith("\\")


@given(any_text)
def test_what_is_visible_stays_as_it_is(text: str) -> None:
    assert visible(visible(text)) == visible(text)
    assert visible(text).encode("utf-8").decode("utf-8") == visible(text)


@given(any_text)
def test_one_line_is_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
    assert "\t" not in one_line(text)


@given(any_text, st.integers(0, 20))
def test_nothing_is_cut_silently(text: str, limit: int) -> None:
    shown = bounded(text, limit)
    if len(text) <= limit:
        assert shown == text
    else:
        assert shown == f"{text[:limit]}… (+{len(text) - limit} characters)"


@given(any_text)
@example("```")
@example("~~~\n```")
@example("`" * 99)
def test_a_fence_cannot_be_broken_out_of(text: str) -> None:
    shown = visible(text)
    tokens = MARKDOWN.parse(f"before\n\n{fenced(shown, 'json')}\n\nafter")
    assert [token.type for token in tokens] == [*PARAGRAPH, "fence", *PARAGRAPH]
    assert tokens[3].content == f"{shown}\n"


@given(any_text)
@example("`")
@example("``")
@example("` `` ```")
@example("\\")
@example("")
def test_inline_code_cannot_be_broken_out_of(text: str) -> None:
    (_, inline, _) = MARKDOWN.parse(f"before {code(text)} after")
    children = inline.children or []
    assert [child.type for child in children] == ["text", "code_inline", "text"]
    assert children[1].content.strip() == one_line(text).strip()
