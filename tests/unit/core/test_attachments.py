"""Images and files of a run: the conversation names their bytes, which the run keeps for as long as it does."""

from __future__ import annotations

import base64
import json

import pytest

from assent import FilePart, ImagePart, TextPart
from assent.core.continue_as_new import carry, restore
from assent.core.events import CallModel
from assent.core.run_state import state_of
from assent.wire.digest import sha256_hex
from assent.wire.errors import MessageError
from assent.wire.limits import ATTACHED_LIMIT, PARTS_LIMIT, RESULT_IMAGES_LIMIT
from assent.wire.parts import Part, content_json, digests_of, readable
from tests.unit.strategies import ALLOW, Play, turn_of

PNG, PDF = b"\x89PNG\r\n\x1a\n".ljust(1_000), b"%PDF-" * 1_000
INPUT: list[Part] = [TextPart(text="What is this?"), ImagePart(data=PNG, media_type="image/png")]
MESSAGE: list[Part] = [FilePart(data=PDF, media_type="application/pdf")]
KEPT = {sha256_hex(data): base64.b64encode(data).decode() for data in (PNG, PDF)}


def looking() -> Play:
    """A conversation about an image that has answered once."""
    play = Play()
    play.start(input=content_json(INPUT), conversation=True)
    play.answer("A cat.")
    return play


def calls_of(play: Play) -> list[CallModel]:
    return [command for command in play.commands if isinstance(command, CallModel)]


def test_a_model_call_names_bytes_and_carries_none() -> None:
    play = looking()
    sent = play.send("send_message", {"content": content_json(MESSAGE), "by": "alice"})
    assert sent.status == "recorded"
    play.answer("An offer.")
    first, second = [json.dumps(call.input.model_dump(mode="json")) for call in calls_of(play)]
    assert (sha256_hex(PNG) in first, sha256_hex(PNG) in second, sha256_hex(PDF) in second) == (True, False, True)
    for data in KEPT.values():
        assert data[:40] not in first + second + state_of(play.run).model_dump_json()
    assert play.run.attachments == KEPT
    assert state_of(play.run).input == readable(INPUT)


def test_a_new_execution_has_them_and_no_others() -> None:
    play = looking()
    play.send("send_message", {"content": content_json(MESSAGE), "by": "alice"})
    carried = json.loads(carry(play.run).model_dump_json(exclude_unset=True))
    assert restore([carried]) == play.run
    assert all(data[:40] not in carried["state"] for data in KEPT.values())
    [other] = [name for name in KEPT if name != sha256_hex(PNG)]
    for wrong in ({other: KEPT[sha256_hex(PNG)]}, {other: "%"}):
        with pytest.raises(MessageError, match="cannot be read"):
            restore([{**carried, "attachments": wrong}])


def test_a_run_with_a_part_that_does_not_fit_fails_in_one_line() -> None:
    play = Play()
    play.start(input=[{"type": "image", "data": base64.b64encode(PNG).decode()}])
    state = state_of(play.run)
    assert state.status == "failed"
    assert (state.error or "").startswith("InvalidRunRequest: AgentRun: input.0.image: data needs its media_type")
    assert not play.run.attachments


def test_a_message_that_does_not_count_brings_none() -> None:
    play = looking()
    play.send("close", {"by": "alice"})
    late = play.send("send_message", {"content": content_json(MESSAGE), "by": "alice"})
    assert late.status == "late"
    assert play.run.attachments.keys() == {sha256_hex(PNG)}


def test_a_run_keeps_a_bounded_number_of_bytes() -> None:
    play = looking()
    images = [
        ImagePart(data=(PNG + bytes([each])).ljust(PARTS_LIMIT * 3 // 4), media_type="image/png") for each in range(2)
    ]
    sent = [play.send("send_message", {"content": content_json([each]), "by": "alice"}) for each in images]
    result = sent[1]
    assert sent[0].status == "recorded"
    assert result.status == "refused"
    assert f"the limit is {ATTACHED_LIMIT}" in result.detail
    assert sum(map(len, play.run.attachments.values())) <= ATTACHED_LIMIT


def test_images_of_a_result_are_named_in_its_output_while_the_run_has_room() -> None:
    play = Play()
    play.start()
    play.model(turn_of(ALLOW, tool="look"))
    play.tool(output="[image]", images=[{"data": base64.b64encode(PNG).decode(), "media_type": "image/png"}])
    large = base64.b64encode(PNG.ljust(RESULT_IMAGES_LIMIT)).decode()
    play.model(turn_of(ALLOW, tool="look", prefix="d"))
    carried = json.loads(carry(play.run).model_dump_json(exclude_unset=True))
    assert restore([carried]) == play.run
    play.tool(output="[a larger image]", images=[{"data": large, "media_type": "image/png"}])
    *_, first, second = calls_of(play)
    image = {"type": "input_image", "media_type": "image/png", "size": len(PNG), "sha256": sha256_hex(PNG)}
    [seen] = [item for item in first.input.delta if item.get("type") == "function_call_output"]
    assert (seen["output"], seen["images"]) == ("[image]", [image])
    [described] = [item for item in second.input.delta if item.get("type") == "function_call_output"]
    assert (described["output"], "images" in described) == ("[a larger image]", False)
    assert {*digests_of(play.run.conversation.items)} == play.run.attachments.keys() == {sha256_hex(PNG)}
