"""What is kept of a tool's result: here, of one of an MCP server that has more than text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.converter import ExternalStorage

from assent import ImagePart
from assent.activities import payload_limits
from assent.runtime.converter import data_converter
from assent.runtime.storage import Directory
from assent.wire.digest import text_digest
from assent.wire.parts import ServerText
from tests.support.stored_text import stored_text

IMAGE = ImagePart(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")
WHOLE = '[{"type": "audio", "data": "…"}]'


def result(text: str) -> ServerText:
    made = ServerText(text)
    made.images, made.whole = [IMAGE], WHOLE
    return made


async def test_the_whole_of_a_servers_result_is_stored_where_there_is_a_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images reach the model with its text, also if that is cut."""
    without = await payload_limits.of_output(result("[audio]"))
    assert (without.output, without.images, without.whole, without.sha256) == ("[audio]", [IMAGE], None, None)
    converter = replace(data_converter, external_storage=ExternalStorage(drivers=[Directory(tmp_path)]))
    monkeypatch.setattr(payload_limits, "_converter", lambda: converter)
    short, cut = [await payload_limits.of_output(result(text), 100) for text in ("[audio]", "[audio]" * 100)]
    assert short.output == "[audio]"
    assert (cut.output or "").endswith("[cut here: 100 of 700 bytes]")
    for each in (short, cut):
        assert (each.images, each.size, each.sha256) == ([IMAGE], len(WHOLE.encode()), text_digest(WHOLE))
        assert each.whole is not None
        assert await stored_text(converter, each.whole) == WHOLE
