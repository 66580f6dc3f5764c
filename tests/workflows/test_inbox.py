"""The inbox over a real server: filters, pages, what changes while somebody looks, and decisions on several calls."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import shlex
import signal
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import PayloadCodec
from typing_extensions import override

from assent import Agent, AgentClient, MessageError, RunHandle, data_converter, tool
from assent.cli.batch import AT_ONCE
from assent.testing import Environment, call, calls, environment, says
from tests.support.cli_operator import HERE, Operator, deploy, operating
from tests.support.memo_only_runs import requirement, rows
from tests.support.visibility import soon


class Codec(PayloadCodec):
    """Hides what it is given, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    @override
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"hidden"}, data=base64.b64encode(payload.SerializeToString()))
            for payload in payloads
        ]

    @override
    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.asked += 1
        return [Payload.FromString(base64.b64decode(payload.data, validate=True)) for payload in payloads]


def client_with(client: Client, codec: PayloadCodec) -> Client:
    config = client.config()
    config["data_converter"] = replace(data_converter, payload_codec=codec)
    return Client(**config)


def name() -> str:
    return f"inbox-{uuid.uuid4().hex[:6]}"


# -- filters and pages ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def alone() -> AsyncGenerator[Environment]:
    """A server of its own: a run that another test left without search attributes would make totals unknown."""
    async with environment() as running:
        yield running


async def test_pages_hold_as_many_runs_as_fit_the_filters_and_miss_none(alone: Environment) -> None:
    temporal, agent = alone.server.client, name()
    client = AgentClient(temporal)
    await client.setup()
    now = datetime.now(UTC)
    waiting = [
        [requirement(str(number), created_at=now - timedelta(hours=number % 3), tool="ask" if number % 5 else "pay")]
        for number in range(17)
    ]
    async with rows(temporal, agent, waiting) as ids:
        first = await client.pending(agent=agent, limit=10)
        assert ({run.run_id for run in first}, first.total) == (set(ids[7:]), 17)
        second = await client.pending(agent=agent, limit=10, page_token=first.next_page_token)
        assert ({run.run_id for run in second}, second.next_page_token) == (set(ids[:7]), None)
        ages = [run.created_at for run in first]
        assert ages == sorted(ages)
        by_tool = await client.pending(agent=agent, tool="pay", limit=100)
        assert (len(by_tool), by_tool.total, by_tool.next_page_token) == (4, 4, None)

        # The server knows nothing of ages: its pages are searched, and a page ends where it is full.
        found, token, sizes = list[str](), None, list[int]()
        while True:
            page = await client.pending(agent=agent, older_than=timedelta(minutes=90), limit=2, page_token=token)
            found += [run.run_id for run in page]
            sizes.append(len(page))
            token = page.next_page_token
            if token is None:
                break
        assert sorted(found) == [ids[number] for number in (2, 5, 8, 11, 14)]
        assert sizes == [2, 2, 1]
        assert page.total is None
        with pytest.raises(MessageError, match="same filters"):
            await client.pending(agent=agent, limit=10, tool="pay", page_token=first.next_page_token)
        everything = await client.pending(agent=agent)
        assert len(everything) == 17
        assert everything[0].created_at == now - timedelta(hours=2)


async def test_a_codec_is_asked_once_for_a_page_and_a_memo_that_it_cannot_read_hides_nothing_else(
    assent_environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    codec, agent = Codec(), name()
    plain = assent_environment.server.client
    hidden = client_with(plain, codec)
    await AgentClient(hidden).setup()
    waiting = [[requirement(str(number))] for number in range(20)]
    async with rows(hidden, agent, waiting) as ids:
        codec.asked = 0
        found = await AgentClient(hidden).pending(agent=agent, limit=20)
        assert ({run.run_id for run in found}, codec.asked) == (set(ids), 1)
        async with rows(plain, agent, [[requirement("plain")]]) as [alien]:
            with caplog.at_level(logging.WARNING):
                found = await AgentClient(hidden).pending(agent=agent, limit=21)
            assert {run.run_id for run in found} == set(ids)
            assert f"run {alien!r} is left out" in caplog.text


async def test_an_entry_that_is_none_of_ours_hides_only_its_own_run(assent_environment: Environment) -> None:
    temporal, agent = assent_environment.server.client, name()
    client = AgentClient(temporal)
    await client.setup()
    naive = {**requirement("naive").model_dump(mode="json"), "expires_at": "2026-01-01T00:00:00"}
    async with rows(temporal, agent, [[requirement("good")], [{"id": 7}], [naive], ["text"]]) as ids:
        assert [run.run_id for run in await client.pending(agent=agent, sort="deadline")] == ids[:1]


async def test_the_command_filters_sorts_and_pages(alone: Environment) -> None:
    temporal, agent = alone.server.client, name()
    at = Operator(alone, AgentClient(temporal))
    await at.client.setup()
    now = datetime.now(UTC)
    waiting = [
        [requirement("late", created_at=now, expires_at=now + timedelta(hours=5), approvers=["ann"])],
        [requirement("soon", created_at=now - timedelta(days=1), expires_at=now + timedelta(minutes=5))],
        [requirement("never", created_at=now - timedelta(days=2), kind="external", approvers=["bob"])],
    ]

    async def shown(*options: str) -> list[str]:
        ran = await at.assent("pending", "--agent", agent, "--json", *options)
        assert (ran.code, ran.err) == (0, "")
        return [each["context"]["call_id"] for each in ran.json]

    async with rows(temporal, agent, waiting):
        assert await shown() == ["never", "soon", "late"]
        assert await shown("--sort", "deadline") == ["soon", "late", "never"]
        assert await shown("--approver", "Ann") == ["soon", "late"]
        assert await shown("--kind", "external") == ["never"]
        assert await shown("--older-than", "30h") == ["never"]
        assert await shown("--due-within", "1h") == ["soon"]
        assert await shown("--requested-by", "somebody") == []
        paged = (await at.assent("pending", "--agent", agent, "--json", "--limit", "2")).json
        assert ([each["context"]["call_id"] for each in paged["calls"]], paged["total"]) == (["never", "soon"], 3)
        page = await at.assent("pending", "--agent", agent, "--limit", "2")
        assert "shown      2 of 3 runs with pending calls" in page.out
        [command] = [line for line in page.out.splitlines() if line.startswith("next page")]
        assert command.split() == [
            "next", "page", "assent", "pending", "--agent", agent, "--limit", "2", "--page-token",
            paged["next_page_token"],
        ]  # fmt: skip
        rest = await at.assent(*command.split()[3:])
        assert "shown      1 of 3 runs with pending calls" in rest.out
        assert "next page" not in rest.out
        wrong = await at.assent("pending", "--page-token", "xyz")
        assert (wrong.code, "not a page token" in wrong.err) == (2, True)
        both = await at.assent("pending", "--follow", "--limit", "2")
        assert (both.code, "--follow shows all" in both.err) == (2, True)


# -- following --------------------------------------------------------------------------------------------------------


async def test_following_tells_what_is_new_and_what_has_gone(assent_environment: Environment) -> None:
    agent = name()
    async with operating(assent_environment, agent=agent) as at:
        first, first_call = await at.waits(agent)
        process = await at.start("pending", "--agent", agent, "--follow", "--json")
        assert process.stdout is not None
        lines = process.stdout
        try:

            async def told() -> tuple[str, str]:
                change = json.loads(await asyncio.wait_for(lines.readline(), 60))
                return change["change"], change["run_id"]

            assert await told() == ("opened", first)
            second, _ = await at.waits(agent)
            assert await told() == ("opened", second)
            await at.client.get_run(first).reject(first_call, by="bob", reason="no")
            assert await told() == ("closed", first)
        finally:
            process.send_signal(signal.SIGINT)
            await process.communicate()
        assert process.returncode == 130
        await at.client.get_run(second).cancel()


# -- several at once --------------------------------------------------------------------------------------------------


@tool(requires_confirmation=True)
def fetch(page: int) -> str:
    """Fetch a page."""
    return f"page {page}"


async def the_ids(run: RunHandle) -> list[str]:
    return [each.short_id for each in (await run.state()).active_requirements]


async def test_several_calls_are_decided_by_one_command_and_each_has_its_own_outcome(
    assent_environment: Environment,
) -> None:
    agent = name()
    many = calls(*(call("fetch", page=number) for number in range(3)))
    model = assent_environment.responses(many, says("Done."))
    async with assent_environment.serve(Agent(name=agent, model=model, tools=[fetch, deploy])) as client:
        at = Operator(assent_environment, client)
        one, two = [await client.start(agent, "Do it.", requested_by="alice") for _ in range(2)]
        for run in (one, two):
            await run.until_paused()
        first, second, third = await the_ids(one)
        mine, *others = await the_ids(two)

        unknown = await at.assent("approve", one.id, first, second, "ffffffff", "--by", "bob")
        assert (unknown.code, "nothing was sent: no requirement" in unknown.err, unknown.out) == (3, True, "")
        no_run = await at.assent("approve", f"{one.id}/{first}", f"nowhere/{first}", "--by", "bob")
        assert (no_run.code, "nothing was sent: there is no run 'nowhere'" in no_run.err) == (3, True)
        edit = await at.assent("approve", one.id, first, second, "--by", "bob", "--arguments", "{}")
        assert (edit.code, "go with one call" in edit.err) == (2, True)
        assert await the_ids(one) == [first, second, third]

        taken = await at.assent("approve", one.id, first, second, first, "--by", "bob")
        assert (taken.code, taken.err) == (0, "")
        assert taken.out.count(f"fetch in run {one.id}") == 2
        assert taken.out.index('│ {"page": 1}') < taken.out.index(f"approved   {one.id}/{first}: approved by bob")
        assert f"approved   {one.id}/{second}: approved by bob" in taken.out

        mixed = await at.assent(
            "reject", f"{one.id}/{second}", f"{two.id}/{mine}", "--by", "carol", "--reason", "no", "--json"
        )
        assert mixed.code == 1
        told = [json.loads(line) for line in mixed.out.splitlines()]
        assert [(each["run_id"], each["status"]) for each in told] == [(one.id, "late"), (two.id, "rejected")]
        assert f"{one.id}/{second}: no effect: late" in mixed.err

        refused = await at.assent("approve", two.id, *others, "--by", "alice")
        assert (refused.code, refused.err.count("may not approve in it")) == (1, 2)
        for run, left in ((one, [third]), (two, others)):
            assert (await at.assent("approve", run.id, *left, "--by", "bob")).code == 0
            assert (await run.result()).content == "Done."


async def test_several_calls_are_sent_with_every_worker_stopped(assent_environment: Environment) -> None:
    agent = name()
    model = assent_environment.responses(calls(call("fetch", page=1), call("fetch", page=2)), says("Done."))
    async with assent_environment.serve(Agent(name=agent, model=model, tools=[fetch])) as client:
        run = await client.start(agent, "Do it.")
        await run.until_paused()
        ids = await the_ids(run)
    at = Operator(assent_environment, client)
    sent = await at.assent("approve", run.id, *ids, "--by", "bob", "--require-answer")
    assert (sent.code, sent.out.count("sent       ")) == (5, 2)
    await run.cancel()


async def test_all_decisions_are_sent_though_nobody_reads_what_came_of_them(assent_environment: Environment) -> None:
    """More calls than are decided at a time, and a reader that goes after the first line: `| head -1`."""
    agent = name()
    many = calls(*(call("fetch", page=number) for number in range(3 * AT_ONCE)))
    model = assent_environment.responses(many, says("Done."))
    async with assent_environment.serve(Agent(name=agent, model=model, tools=[fetch])) as client:
        run = await client.start(agent, "Do it.")
        await run.until_paused()
        at = Operator(assent_environment, client)
        command = [
            sys.executable,
            "-m",
            "assent.cli",
            "approve",
            run.id,
            *(await the_ids(run)),
            "--by",
            "bob",
            "--json",
        ]
        shell = f"{shlex.join(command)} | head -1; exit ${{PIPESTATUS[0]}}"
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", shell, cwd=HERE, env=at.variables(None), stdout=PIPE, stderr=PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), 30)
        assert (json.loads(out)["status"], process.returncode, err.decode()) == ("approved", 1, "")
        assert (await run.result()).content == "Done."


async def test_what_only_one_may_decide_is_in_nobody_elses_inbox(assent_environment: Environment) -> None:
    agent = name()
    async with operating(assent_environment, agent=agent) as at:
        run = await at.client.start(agent, "Do it.", requested_by="alice")
        await run.until_paused()
        assert len(await soon(lambda: at.client.pending(agent=agent, approver="bob"))) == 1
        assert await at.client.pending(agent=agent, approver="Alice") == []
        assert len(await at.client.pending(agent=agent, requested_by="alice")) == 1
        assert await at.client.pending(agent=agent, requested_by="Alice") == []
        await run.cancel()


async def test_a_run_whose_memos_do_not_fit_is_one_bounded_line(
    assent_environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    client = assent_environment.server.client
    agent = f"misfit-{uuid.uuid4().hex[:6]}"
    misfits = [{"id": "x" * 500, "kind": "\x1b[2J", "more": number} for number in range(300)]
    async with rows(client, agent, [misfits]) as [run_id]:
        with caplog.at_level(logging.WARNING):
            found = await AgentClient(client).pending(agent=agent)
    assert found.unreadable == [run_id]
    [line] = [each.getMessage() for each in caplog.records if run_id in each.getMessage()]
    assert "and 299 more" in line
    assert len(line) < 1_000
    assert line.isprintable()
