"""Deciding at a terminal with `assent start --follow --by`: a real process, at a real pseudo-terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from assent import Agent, approval, ask_user, tool
from assent.testing import Environment, Reply, call, calls, says
from tests.support.cli_operator import HERE, Operator
from tests.workflows.test_starter import Terminal


@approval(approvals=2, approvers=["bob", "dana"])
@tool
def pay(to: str, amount: int) -> str:
    """Pay somebody."""
    return f"paid {amount} to {to}"


@tool(requires_user_input=True, user_input_fields=["amount", "memo"])
def transfer(to: str, amount: int, memo: str = "none") -> str:
    """Transfer money."""
    return f"{amount} to {to}: {memo}"


@approval(expires_after=timedelta(seconds=2))
@tool(requires_confirmation=True)
def hurry(what: str) -> str:
    """Do something soon."""
    return what


@approval
@tool(requires_confirmation=True, timeout=timedelta(seconds=1))
async def launch(what: str) -> str:
    """Launch something, which never comes back in time."""
    await asyncio.sleep(20)
    return what


@tool(external_execution=True)
def ship(version: str) -> dict[str, int]:
    """Ship it, elsewhere."""
    raise NotImplementedError


@asynccontextmanager
async def sitting(environment: Environment, *steps: Reply) -> AsyncGenerator[tuple[Operator, Terminal, str]]:
    """Bob at a terminal, following a run of alice's whose model answers so."""
    name = f"t-{uuid.uuid4().hex[:6]}"
    agent = Agent(
        name=name,
        model=environment.responses(*steps, says("Done.")),
        tools=[pay, transfer, hurry, launch, ship, ask_user],
    )
    async with environment.serve(agent) as client:
        at = Operator(environment, client)
        async with _terminal(at, pty.openpty(), name) as screen:
            yield at, screen, name


@asynccontextmanager
async def _terminal(at: Operator, pair: tuple[int, int], name: str) -> AsyncGenerator[Terminal]:
    master, slave = pair
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = ("start", name, "Do it.", "--requested-by", "alice", "--id", name, "--follow", "--by", "bob")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "assent.cli", *command, cwd=HERE, stdin=slave, stdout=slave, stderr=slave,
        env={**at.variables(None), "TERM": "dumb"},
    )  # fmt: skip
    os.close(slave)
    screen = Terminal(process, master)
    asyncio.get_running_loop().add_reader(master, screen.read)
    try:
        yield screen
        await asyncio.wait_for(process.wait(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)


async def answer(screen: Terminal, question: str, *lines: str) -> str:
    """Type a line, once the question stands there, again for each further line; what was shown before the first."""
    shown = await screen.until(question)
    for number, line in enumerate(lines):
        if number:
            await screen.until(question)
        await asyncio.sleep(0.2)  # What is typed before a question stands there is thrown away.
        screen.type(line)
    return shown


async def test_nothing_and_anything_else_than_an_answer_decides_nothing(assent_environment: Environment) -> None:
    wanted = calls(call("pay", to="zoe", amount=5))
    async with sitting(assent_environment, wanted) as (at, screen, run_id):
        await answer(screen, "Approve it? [y/n]", "", " ", "yn", "ok", "1", "e")
        await answer(screen, "as JSON (empty: back):", "")
        await screen.until("Approve it? [y/n]")
        assert (await at.client.get_run(run_id).state()).active_requirements[0].votes == []
        await asyncio.sleep(0.2)
        screen.type("n")
        await answer(screen, "Why not?", "", "too much")
        await screen.until("completed")
    assert (await at.client.audit(run_id))[0].reason == "too much"


async def test_an_edit_is_shown_and_confirmed_and_the_editor_is_not_asked_again(
    assent_environment: Environment,
) -> None:
    wanted = calls(call("pay", to="zoe", amount=5), text="It is safe.")
    async with sitting(assent_environment, wanted) as (at, screen, run_id):
        shown = await answer(screen, "Approve it? [y/n] or e", "e")
        assert shown.index("decides") < shown.index("untrusted  the model's own words:")
        assert "│ It is safe." in shown.splitlines()[-2]
        assert "2 people must approve; so far: no one" in shown
        await answer(screen, "as JSON", "{", '{"to": "zoe", "amount": "much"}')
        await answer(screen, "Approve it with these? [y/n]", "", "y")
        assert "amount: input should be a valid integer" in await answer(screen, "Approve it? [y/n]", "e")
        await answer(screen, "as JSON", '{"to": "zoe", "amount": 2}')
        shown = await answer(screen, "Approve it with these? [y/n]", "y")
        assert 'before     │ {"to": "zoe", "amount": 5}' in shown
        assert 'now        │ {"amount":2,"to":"zoe"}' in shown
        await screen.until("so far: bob")
        assert "edited     by bob" in await screen.until(f"assent approve {run_id}")
        [waiting] = (await at.client.get_run(run_id).state()).active_requirements
        await at.client.get_run(run_id).approve(waiting, by="dana")
        await screen.until("paid 2 to zoe")
    assert screen.process.returncode == 0


async def test_each_field_is_asked_for_and_nothing_skips_only_what_is_optional(
    assent_environment: Environment,
) -> None:
    asked = calls(call("ask_user", question="Which?", choices=["red", "blu\u200be"]))
    async with sitting(assent_environment, calls(call("transfer", to="zoe")), asked) as (at, screen, run_id):
        assert "field      amount, a whole number" in await answer(screen, "fill it in, n: reject it [y/n]", "", "y")
        await answer(screen, "amount:", "", "many", "7")
        await answer(screen, "memo (empty: skip it):", "")
        await screen.until("7 to zoe: none")
        shown = await answer(screen, "fill it in, n: reject it [y/n]", "y")
        assert r'one of "red", "blu\u{200b}e"' in shown
        await answer(screen, "answer:", "", "green", r"blu\u{200b}e")
        await screen.until("completed")
    records = await at.client.audit(run_id)
    assert [record.values for record in records] == [{"amount": 7}, {"answer": "blu\u200be"}]


async def test_a_question_goes_away_when_its_time_is_over(assent_environment: Environment) -> None:
    async with sitting(assent_environment, calls(call("hurry", what="x"))) as (_, screen, _):
        assert "it counts as rejected" in await screen.until("Approve it? [y/n]")
        assert "Approve" not in await screen.until("expired")
        await screen.until("no decision in time")
        await screen.until("completed")
    assert screen.process.returncode == 0


async def test_an_unknown_outcome_offers_its_three_choices(assent_environment: Environment) -> None:
    launches = [calls(call("launch", what=str(number))) for number in range(2)]
    async with sitting(assent_environment, *launches) as (at, screen, run_id):
        await answer(screen, "Approve it? [y/n]", "y")
        shown = await answer(screen, "g: give up [h/a/g]", "", "y", "h")
        assert "outcome unknown" in shown
        assert "happened   submit_result: it happened, with this result" in shown
        await answer(screen, "Its result:", "", "it flew")
        await answer(screen, "Approve it? [y/n]", "y")
        await answer(screen, "g: give up [h/a/g]", "g")
        await answer(screen, "Why not?", "lost")
        await screen.until("completed")
    records = await at.client.audit(run_id)
    assert [(record.kind, record.status) for record in records] == [
        ("confirmation", "approved"), ("outcome", "approved"), ("confirmation", "approved"), ("outcome", "rejected"),
    ]  # fmt: skip
    assert records[1].result == "it flew"


async def test_a_result_that_does_not_fit_is_asked_for_again(assent_environment: Environment) -> None:
    async with sitting(assent_environment, calls(call("ship", version="1"))) as (at, screen, run_id):
        await answer(screen, "[y/e/n]", "y")
        await answer(screen, "Its result:", "soon")
        await answer(screen, "Its result:", '{"at": "noon"}')
        assert "refused    " in await answer(screen, "[y/e/n]", "y")
        await answer(screen, "Its result:", '{"at": 12}')
        await screen.until("completed")
    assert [record.result for record in await at.client.audit(run_id)] == ['{"at":12}']
