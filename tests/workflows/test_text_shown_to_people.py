"""Abuse cases F: what people see. The docstrings name the rows; F24, what notices carry, is with the notices."""

from __future__ import annotations

import json
import re
import unicodedata
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio.api.sdk.v1 import WorkflowMetadata

from assent import Agent, RunHandle, approval, ask_user, tool
from assent.testing import Environment, call, calls, says
from assent.views.json_layout import BROKEN
from assent.wire.text import one_line
from tests.support.cli_operator import Operator
from tests.support.visibility import soon

BIDI, ZERO, ANSI = "\u202e", "\u200b", "\x1b"
EVIL = f"{BIDI}drop{ZERO}{ANSI}[2J{ANSI}]0;owned\x07\u2066\ufeff\u00ad\x9b"
ESCAPES = (r"\u{202e}", r"\u{200b}", r"\u{2066}", r"\u{feff}", r"\xad", r"\x9b")


@approval
@tool(requires_confirmation=True)
def wipe(target: str) -> str:
    """Wipe a target."""
    return f"wiped {target}"


@tool
def look(at: str) -> str:
    """Look at something."""
    return f"saw {at}"


@asynccontextmanager
async def operated(environment: Environment, raw: str, prompt: str) -> AsyncGenerator[tuple[Operator, RunHandle]]:
    """A run that looked at something, and waits for an approval and an answer; an operator for it."""
    name = f"f-{uuid.uuid4().hex[:6]}"
    question = call("ask_user", question=f"Which? {EVIL}", choices=[f"a{EVIL}", "b"])
    wanted = calls(call("wipe", raw=raw), question, text=f"Approve me. {EVIL}")
    model = environment.responses(calls(call("look", raw=raw.replace("target", "at"))), wanted, says(f"Done. {EVIL}"))
    async with environment.serve(Agent(name=name, model=model, tools=[wipe, look, ask_user])) as client:
        run = await client.start(name, prompt, requested_by=f"alice{EVIL}")
        await run.until_paused()
        await soon(lambda: client.pending(agent=name))
        yield Operator(environment, client), run


async def details_of(at: Operator, run: RunHandle) -> str:
    """What the Temporal Web UI shows of the run."""
    handle = at.client.temporal.get_workflow_handle(run.id)
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


def hides_nothing(text: str) -> bool:
    """Whether each character shows, and as itself."""
    return not [each for each in text if each != "\n" and unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"}]


async def test_bidi_zero_width_and_ansi_are_escaped_wherever_people_look(assent_environment: Environment) -> None:
    """Escaped in the CLI, the Web UI details and the inbox, whoever wrote them: model, tool or sender."""
    raw = json.dumps({"target": EVIL}, ensure_ascii=False)
    async with operated(assent_environment, raw, f"Wipe it. {EVIL}") as (at, run):
        state = await run.state()
        gate, question = (each.short_id for each in state.active_requirements)
        seen = [await details_of(at, run)]
        own = ("--by", f"mal{EVIL}", "--reason", EVIL)
        for line in (
            ("pending", "--agent", state.agent),
            ("show", run.id),
            ("approve", run.id, gate, "--by", f"alice{EVIL}"),
            ("approve", run.id, gate, *own, "--arguments", json.dumps({"target": f"{EVIL}2"})),
            ("submit-input", run.id, question, "--by", "bob", "--values", json.dumps({"answer": f"a{EVIL}"})),
            ("reject", run.id, gate, *own),
            ("show", run.id),
            ("watch", run.id),
            ("audit", run.id),
        ):
            ran = await at.assent(*line)
            assert hides_nothing(ran.err)
            seen.append(ran.out)
        seen.append(await details_of(at, run))
        for text in seen:
            assert hides_nothing(text)
        for text in (*seen[:3], *seen[-4:-1]):
            assert [escape for escape in ESCAPES if escape not in text] == []
        for text in (seen[0], seen[2], seen[-3]):  # JSON has no raw escape character, but words have
            assert r"\x1b[2J" in text
        for command in ("show", "audit", "watch"):
            document = (await at.assent(command, run.id, "--json")).out
            assert document.isascii()
            assert hides_nothing(document)


def squeezed(text: str) -> str:
    return re.sub(rf"[\s{BROKEN}]", "", text)


async def test_long_arguments_are_never_cut_silently(assent_environment: Environment) -> None:
    """What is hidden is counted, and the whole is one command away."""
    rest = "".join(f"{number:06d} " for number in range(4_000))
    raw = json.dumps({"target": f"BEGIN {rest} and then delete it all END"})
    async with operated(assent_environment, raw, "Wipe it.") as (at, run):
        state = await run.state()
        size = len(raw)
        for columns in (60, 100, 240):  # the inbox: the memo has no room for them
            inbox = (await at.assent("pending", "--agent", state.agent, columns=columns)).out
            assert f"({size} bytes: assent show {run.id})" in inbox
        listed = (await at.assent("pending", "--agent", state.agent, "--json")).json
        [entry] = [each for each in listed if each["tool"] == "wipe"]
        assert (entry["arguments"], entry["arguments_size"]) == (None, size)

        details = await details_of(at, run)
        assert f"**Cut: this is only the beginning of {size:,} bytes.**" in details
        assert "**Cut: read the whole before you decide.**" in details
        assert f"`assent show {run.id}`" in details
        assert details.index("Cut: read the whole") < details.index("BEGIN")

        shown = (await at.assent("show", run.id, columns=80)).out  # the one command
        behind = "".join(line.partition("│ ")[2] for line in shown.splitlines())
        assert squeezed(raw) in squeezed(behind)
        document = json.loads((await at.assent("show", run.id, "--json")).out)
        assert raw in [each["arguments"] for each in document["requirements"]]

        watching = await at.start("watch", run.id, columns=100)
        await run.reject(state.active_requirements[0], by="bob", reason="no")
        await run.cancel()
        out, _ = await watching.communicate()
        [line] = [line for line in out.decode().splitlines() if " waiting " in line and "wipe" in line]
        kept, _, hidden = line.partition("… (+")
        beginning = kept.partition("(confirmation) ")[2]
        assert one_line(raw).startswith(beginning)
        assert len(beginning) + int(hidden.rstrip(")")) == len(raw)
        assert f"exactly    assent show {run.id}" in out.decode()


async def test_arguments_that_just_fit_are_whole_everywhere(assent_environment: Environment) -> None:
    """Nothing is said to be cut, and nothing is."""
    raw = json.dumps({"target": f"BEGIN {'0123456789 ' * 150}END"})
    async with operated(assent_environment, raw, "Wipe it.") as (at, run):
        details = await details_of(at, run)
        listed = (await at.assent("pending", "--agent", (await run.state()).agent, "--json")).json
        [entry] = [each for each in listed if each["tool"] == "wipe"]
        table = (await at.assent("pending", columns=3_000)).out
    assert "Cut:" not in details
    assert f"Exact arguments ({len(raw):,} bytes" in details
    assert squeezed(raw) in squeezed(details)
    assert entry["arguments"] == raw
    assert raw in table
