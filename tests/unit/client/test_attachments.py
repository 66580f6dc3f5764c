"""Files and URLs to attach: read, or refused with one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assent import FilePart, ImagePart, MessageError, attachment
from assent.wire.limits import PARTS_LIMIT


def test_the_ending_says_what_a_file_is(tmp_path: Path) -> None:
    png, jpeg, webp = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF"
    for name, media_type, data in (
        ("a.PNG", "image/png", png),
        ("b.jpg", "image/jpeg", jpeg),
        ("c.webp", "image/webp", webp),
    ):
        (tmp_path / name).write_bytes(data)
        assert attachment(tmp_path / name) == ImagePart(data=data, media_type=media_type)
    for name, media_type, data in (("a.pdf", "application/pdf", b"%PDF-"), ("c.htm", "text/html", b"x")):
        (tmp_path / name).write_bytes(data)
        assert attachment(str(tmp_path / name)) == FilePart(data=data, media_type=media_type, name=name)


def test_a_url_is_left_to_the_provider() -> None:
    assert attachment("https://x/a.jpeg?token=1") == ImagePart(url="https://x/a.jpeg?token=1")
    assert attachment("https://x/a") == FilePart(url="https://x/a")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.png", "it cannot be read: No such file"),
        ("folder.pdf", "it cannot be read: Is a directory"),
        ("waits.png", "it cannot be read: it is no regular file"),
        ("endless.png", "it cannot be read: it is no regular file"),
        ("empty.png", "data: it has 0 bytes"),
        ("large.pdf", f"it has {PARTS_LIMIT + 1} bytes"),
        ("really.png", "data does not begin as image/png does"),
        ("tool.exe", "a file to attach ends in one of .csv .docx .gif"),
        ("noending", "a file to attach ends in one of"),
        ("http://x/a.png", "url: it is not a URL"),
        ("https://x/ b", "url: it is not a URL"),
    ],
)
@pytest.mark.timeout(20)
def test_what_cannot_be_attached_is_said_in_one_line(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "folder.pdf").mkdir()
    (tmp_path / "empty.png").write_bytes(b"")
    os.mkfifo(tmp_path / "waits.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "really.png").write_bytes(b"\xff\xd8\xff")
    with (tmp_path / "large.pdf").open("wb") as large:
        large.truncate(PARTS_LIMIT + 1)
    with pytest.raises(MessageError) as caught:
        attachment(name if "://" in name else tmp_path / name)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
