"""Decisions that prove who made them, on a real server: a stolen right to signal approves nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import JsonValue

from assent import Agent, RunHandle, approval, tool
from assent.testing import Environment, call, calls, check_replay, says
from assent.wire.errors import DecisionError
from assent.wire.proofs import DecisionStatement, Proof
from assent.worker import AssentPlugin
from tests.support.cli_operator import Operator
from tests.support.signing import ISSUER, PasskeySigner, ServiceSigner, SshSigner, approvers_with_bob
from tests.workflows.test_wire import temporal
from tests.workflows.test_workflow_approvals import payouts
from tests.workflows.test_workflow_calls import pending, start

Sign = Callable[[DecisionStatement], Proof]
Body = dict[str, JsonValue]


@approval(proof="person", approvers=["finance"])
@tool
async def pay(to: str, cents: int) -> str:
    """Pay somebody."""
    return f"paid {cents} to {to}"


@approval(proof="service")
@tool
async def refund(cents: int) -> str:
    """Refund."""
    return f"refunded {cents}"


class Office:
    """Bob (also bob@example.com) and carol decide about money; eve is known, and may not. All have keys."""

    def __init__(self, folder: Path) -> None:
        self.bob, self.eve = SshSigner.make(folder, "bob"), SshSigner.make(folder, "eve")
        self.carol, self.service = PasskeySigner(), ServiceSigner()
        self.path = folder / "approvers.toml"
        self.write()

    def write(self, bobs_key: str = "") -> None:
        self.path.write_text(
            approvers_with_bob(self.bob, self.service, bobs_key)
            + f"""
[[people]]
name = "carol"
groups = ["finance"]
logins = {{ "{ISSUER}" = "carol" }}
[[people.keys]]
passkey = "{self.carol.credential_id}"
public_key = "{self.carol.public}"

[[people]]
name = "eve"
[[people.keys]]
ssh = "{self.eve.public}"
"""
        )


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"))


async def signed(run: RunHandle, sign: Sign, body: Body, signal: str = "approve") -> Body:
    """The message of a decision with its proof."""
    statement = await run.statement(signal, body)
    return {**body, "proof": sign(statement).model_dump(mode="json")}


async def refusal(run: RunHandle, signal: str, body: Body) -> str:
    """Why a decision did not count; it changed nothing but that the run keeps it."""
    before = (await run.state()).requirements
    with pytest.raises(DecisionError) as caught:
        await run.decide(signal, body)
    state, outcome = await run.state(), caught.value.outcome
    assert outcome is not None
    assert (outcome.status, state.requirements) == ("refused", before)
    assert state.ignored_messages[-1].detail == outcome.detail
    return outcome.detail


async def test_only_a_persons_own_signature_approves(assent_environment: Environment, office: Office) -> None:
    model = assent_environment.responses(calls(call("pay", to="ann", cents=5)), says("done"))
    agent = Agent(name="money", model=model, tools=[pay])
    async with assent_environment.serve(agent, approvers=office.path) as client:
        run = await client.start("money", "Pay.", requested_by="bob@example.com")
        [waiting] = (await run.until_paused()).active_requirements
        assert (waiting.proof, waiting.approvers) == ("person", ["bob", "carol"])
        plain: Body = {"id": waiting.id, "by": "carol"}
        carols = await signed(run, office.carol.prove, plain)

        # The right name and no proof; a rejection too, which would let a thief stop every payment.
        assert "signed by a person's own key" in await refusal(run, "approve", plain)
        assert "signed by a person's own key" in await refusal(run, "reject", {**plain, "reason": "no"})
        # A proof of something else: verdict, argument, another requirement; and one that was read off the wire.
        reject = await signed(run, office.carol.prove, {**plain, "reason": "no"}, "reject")
        assert "does not hold" in await refusal(run, "approve", {**plain, "proof": reject["proof"]})
        edit: Body = {**plain, "arguments": {"to": "eve", "cents": 5}, "proof": carols["proof"]}
        assert "does not hold" in await refusal(run, "approve", edit)
        assert "does not hold" in await refusal(run, "approve", {**plain, "reason": "x", "proof": carols["proof"]})
        # Somebody else's key, or a service's word, in carol's place; somebody who may not; the requester's other name.
        by_eve = await signed(run, office.eve.prove, plain)
        assert "is that of 'eve', not of 'carol'" in await refusal(run, "approve", by_eve)
        vouched = await signed(run, lambda statement: office.service.prove(statement, "carol"), plain)
        assert "only vouched for by approvals.example" in await refusal(run, "approve", vouched)
        eves = await signed(run, office.eve.prove, {"id": waiting.id, "by": "eve"})
        assert "'eve' may not decide this" in await refusal(run, "approve", eves)
        bobs = await signed(run, office.bob.prove, {"id": waiting.id, "by": "bob"})
        assert "asked for this run, as 'bob@example.com'" in await refusal(run, "approve", bobs)
        late = await run.statement("approve", plain, valid_for=timedelta(seconds=-1))
        expired: Body = {**plain, "proof": office.carol.prove(late).model_dump(mode="json")}
        assert "expired at" in await refusal(run, "approve", expired)

        outcome = await run.decide("approve", carols)
        assert outcome.status == "approved"
        assert "paid 5 to ann" in str((await run.result(), (await run.state()).requirements[0].result))
        [decided] = (await run.state()).requirements
        [vote] = decided.votes
        assert vote.proof is not None
        assert (vote.proof.verified.text, decided.execution) == ("signed by carol (passkey …MDAx)", "executed")
        await check_replay(await run.history())


async def test_an_edit_and_a_grant_are_signed_and_so_is_their_end(
    assent_environment: Environment, office: Office
) -> None:
    sums = (5, 6, 7, 9)
    model = assent_environment.responses(*(calls(call("pay", to="ann", cents=each)) for each in sums), says("done"))
    agent = Agent(name="money", model=model, tools=[pay])
    async with assent_environment.serve(agent, approvers=office.path) as client:
        run = await client.start("money", "Pay.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        edit = await signed(
            run, office.bob.prove, {"id": first.id, "by": "bob", "arguments": {"to": "ann", "cents": 4}}
        )
        assert (await run.decide("approve", edit)).status == "approved"

        [second] = (await run.until_paused()).active_requirements
        remember: Body = {"uses": 5, "arguments": {"cents": {"below": 8}}}
        grant = await signed(run, office.bob.prove, {"id": second.id, "by": "bob", "remember": remember})
        assert (await run.decide("approve", grant)).status == "approved"

        # The third call is decided by the grant, whose proof is checked once more; the fourth waits.
        [fourth] = (await run.until_paused()).active_requirements
        state = await run.state()
        assert [each.execution for each in state.requirements] == [None, *["executed"] * 3, None]
        assert [each.result for each in state.requirements[1:4]] == [f"paid {cents} to ann" for cents in (4, 6, 7)]
        given = state.grants[0].id
        assert "signed by a person's key" in await refusal(run, "revoke", {"id": given, "by": "bob"})
        revoked = await signed(run, office.carol.prove, {"id": given, "by": "carol"}, "revoke")
        assert (await run.decide("revoke", revoked)).detail == "revoked by carol; 1 of 5 uses were made"
        no = await signed(run, office.carol.prove, {"id": fourth.id, "by": "carol", "reason": "too much"}, "reject")
        assert (await run.decide("reject", no)).status == "rejected"
        assert (await run.result()).content == "done"
        await check_replay(await run.history())


async def test_a_service_vouches_where_that_is_enough(assent_environment: Environment, office: Office) -> None:
    agent = Agent(
        name="refunds", model=assent_environment.responses(calls(call("refund", cents=3)), says("ok")), tools=[refund]
    )
    async with assent_environment.serve(agent, approvers=office.path) as client:
        run = await client.start("refunds", "Go.", requested_by="alice")
        [waiting] = (await run.until_paused()).active_requirements
        vouched = await signed(
            run, lambda statement: office.service.prove(statement, "bob@example.com"), {"id": waiting.id, "by": "bob"}
        )
        assert (await run.decide("approve", vouched)).status == "approved"
        assert (await run.result()).content == "ok"
        [vote] = (await run.state()).requirements[0].votes
        assert vote.proof is not None
        assert vote.proof.verified.text == "vouched for by approvals.example (OIDC)"


async def test_revoking_a_key_works_from_the_next_decision_on(assent_environment: Environment, tmp_path: Path) -> None:
    office = Office(tmp_path)
    model = assent_environment.responses(
        calls(call("pay", to="ann", cents=5)), calls(call("pay", to="ann", cents=6)), says("done")
    )
    agent = Agent(name="money", model=model, tools=[pay])
    async with assent_environment.serve(agent, approvers=office.path) as client:
        run = await client.start("money", "Pay.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        assert (await run.decide("approve", await signed(run, office.bob.prove, {"id": first.id, "by": "bob"}))).counted
        [second] = (await run.until_paused()).active_requirements
        office.write(bobs_key=f"valid_until = {datetime.now(UTC) - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}")
        again = await signed(run, office.bob.prove, {"id": second.id, "by": "bob"})
        assert "is not valid now" in await refusal(run, "approve", again)
        await run.cancel()


async def test_a_gated_activity_takes_the_proof_of_its_worker_whatever_terms_a_run_was_started_with(
    assent_environment: Environment, office: Office, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    arguments = {"to": {"iban": "DE1", "country": "DE"}, "cents": 5, "ledger": str(ledger)}
    terms = {"tool": "wire", "arguments": json.dumps(arguments), "gate": {"verdict": "ask"}, "activity": True}
    plugin = AssentPlugin([], gated_activities=["wire"], approvers=office.path, require_proof="person")
    async with payouts(assent_environment.server.client, plugins=[plugin]) as client:
        run = await start(client, "own-terms", {"agent": "Anything", "input": "", "requested_by": "eve", "call": terms})
        one = await pending(run)
        assert (await run.decide("approve", {"id": one.id, "by": "bob"})).status == "approved"
        two = await pending(run)
        assert (two.proof, ledger.exists()) == ("person", False)
        signed_body = await signed(run, office.bob.prove, {"id": two.id, "by": "bob"})
        assert (await run.decide("approve", signed_body)).status == "approved"
        assert "wired 5 to DE1" in str((await run.result()).output)
        assert ledger.read_text() == "5 to DE1\n"
        await check_replay(await run.history())


async def test_people_sign_with_ssh_keygen_and_an_auditor_checks_years_later(
    assent_environment: Environment, office: Office, tmp_path: Path
) -> None:
    model = assent_environment.responses(*(calls(call("pay", to="ann", cents=each)) for each in (5, 6)), says("done"))
    agent = Agent(name="money", model=model, tools=[pay])
    async with assent_environment.serve(agent, approvers=office.path) as client:
        bob = Operator(assent_environment, client)
        run = await client.start("money", "Pay.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        unsigned = await bob.assent("approve", run.id, first.short_id, "--by", "bob")
        assert unsigned.code == 1
        assert "signed by a person's own key" in unsigned.err
        shown = await bob.assent("show", run.id)
        printed = " ".join(shown.out.split())
        assert "signed by the person's own key" in printed
        assert f"assent approve {run.id} {first.short_id} --by YOUR_NAME --sign" in printed
        wrong = await bob.assent("approve", run.id, first.short_id, "--by", "bob", "--key", str(tmp_path / "none"))
        assert (wrong.code, "name your key with --key" in wrong.err) == (2, True)
        approved = await bob.assent(
            "approve", run.id, first.short_id, "--by", "bob", "--sign", "--key", str(office.bob.path)
        )
        assert approved.code == 0, approved.err

        # The other way: what `sign` prints is sent by the stock CLI, by somebody who has no key.
        [second] = (await run.until_paused()).active_requirements
        options = ("--by", "bob", "--reject", "--reason", "twice", "--key", str(office.bob.path))
        message = tmp_path / "message.json"
        message.write_text((await bob.assent("sign", run.id, second.short_id, *options)).out)
        send = ("workflow", "signal", "--workflow-id", run.id, "--name", "reject", "--input-file", str(message))
        await temporal(assent_environment, *send)
        assert (await run.result()).content == "done"

        audited = await bob.assent("audit", run.id, "--verify", "--approvers", str(office.path))
        assert audited.code == 0, audited.out + audited.err
        printed = " ".join(audited.out.split())
        assert printed.count("proof signed by bob (SSH key SHA256:") == 2
        assert "2 proven, in namespace default, 0 claimed" in printed
        assert "UNVERIFIED: the names that no proof shows, which are claims" in printed
        exported = await bob.assent("audit", "export", run.id, "--bundle", str(tmp_path / "run.zip"))
        assert exported.code == 0, exported.err
    checked = await bob.assent("audit", "verify", str(tmp_path / "run.zip"), "--approvers", str(office.path))
    assert checked.code == 0, checked.out + checked.err
    other = Office(await asyncio.to_thread(_folder, tmp_path))
    differs = await bob.assent("audit", "verify", str(tmp_path / "run.zip"), "--approvers", str(other.path))
    assert differs.code == 1
    assert "is in no entry of the approvers file" in " ".join(differs.out.split())


def _folder(parent: Path) -> Path:
    made = parent / "other"
    made.mkdir()
    return made
