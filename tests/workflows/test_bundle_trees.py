"""The bundles of a run and of all runs below it: a folder that is checked as one where no server is."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from assent import AgentClient
from assent.audit.audit_tree import AuditReader
from assent.audit.bundle_trees import BundleTreeResult, RunExport, check_tree, export_tree
from assent.audit.bundles import export
from assent.audit.observer import AuditObserver
from assent.audit.offline import audit_files
from assent.audit.records import Audit
from assent.testing import Approved, Environment, drive
from assent.wire.errors import BundleError, RunNotFoundError
from tests.support.cli_operator import Operator
from tests.workflows.test_cli_audit import Auditor, Offline
from tests.workflows.test_sub_agents_audit import Team, team

PATHS = [("boss",), ("boss", "editor"), ("boss", "editor", "writer")]


def reader(client: AgentClient, *gone: str) -> AuditReader:
    """What reads the server's histories; those of the runs *gone* cannot be had."""

    async def read(run_id: str, observer: AuditObserver | None) -> Audit:
        if run_id in gone:
            raise RunNotFoundError(run_id)
        return await client.get_run(run_id).audit(observer)

    return read


@dataclass(frozen=True)
class Exports:
    """A tree of three runs that have ended, and the folder of their bundles."""

    it: Team
    folder: Path
    runs: list[RunExport]

    def bundle(self, number: int) -> Path:
        return self.folder / str(self.runs[number].bundle)

    async def check(self) -> BundleTreeResult:
        return await asyncio.to_thread(check_tree, self.folder)

    @property
    def operators(self) -> tuple[Operator, Operator]:
        """Somebody with the server, and somebody without."""
        return Operator(self.it.environment, self.it.client), Offline(self.it.environment, self.it.client)


@asynccontextmanager
async def exports(environment: Environment, folder: Path) -> AsyncGenerator[Exports]:
    async with team(environment) as it:
        await drive(it.run, lambda _: Approved("fine"), by="bob")
        yield Exports(it, folder / "tree", await export_tree(reader(it.client), it.run.id, folder / "tree"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def remove(path: Path) -> None:
    path.unlink()


def forge(path: Path, **said: str) -> None:
    """Let the beginning of a history say something else."""
    history = json.loads(path.read_text())
    history["events"][0]["workflowExecutionStartedEventAttributes"].update(said)
    path.write_text(json.dumps(history))


def complaints(found: BundleTreeResult) -> list[str]:
    """What the checks of the runs, each beside the one above, found."""
    checks = [check for run in found.runs if run.verification is not None for check in run.verification.checks]
    return [problem.text for check in checks for problem in check.problems]


async def test_each_run_has_a_bundle_and_the_folder_is_checked_as_one(
    assent_environment: Environment, tmp_path: Path
) -> None:
    async with exports(assent_environment, tmp_path) as made:
        assert [each.path for each in made.runs] == PATHS
        assert names(made.folder) == [each.bundle for each in made.runs]
        assert names(tmp_path) == ["tree"]
        found = await made.check()
        assert (found.ok, found.missing, found.strays) == (True, [], [])
        assert [(each.run_id, each.path) for each in found.runs] == [(each.run_id, each.path) for each in made.runs]
        above = [check for run in found.runs[1:] if run.verification for check in run.verification.checks[-1:]]
        assert [(each.name, each.verdict, each.looked_at) for each in above] == [("above", "ok", 2)] * 2


async def test_a_bundle_that_is_missing_is_told_and_one_that_was_changed_fails(
    assent_environment: Environment, tmp_path: Path
) -> None:
    async with exports(assent_environment, tmp_path) as made:
        whole = made.bundle(2).read_bytes()
        made.bundle(2).unlink()
        found = await made.check()
        assert (found.ok, found.missing) == (True, [made.runs[2].run_id])
        made.bundle(2).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        found = await made.check()
        assert (found.ok, found.runs) == (False, [])
        assert [each.ok for each in found.bundles.values()] == [True, True, False]


async def test_a_bundle_that_is_in_order_and_tells_something_else_than_the_run_above_fails(
    assent_environment: Environment, tmp_path: Path
) -> None:
    async with exports(assent_environment, tmp_path) as made:
        online, offline = made.operators
        child = made.it.client.get_run(made.runs[1].run_id)
        [_, path] = await Auditor(made.it.environment, made.it.client, child, online, offline).shown(tmp_path)
        forge(Path(path), parentInitiatedEventId="3")

        async def audit(observer: AuditObserver) -> Audit:
            return await audit_files([Path(path)], child.id, observer=observer)

        _, forged = await export(child.id, audit, made.bundle(1), overwrite=True)
        assert forged.verification.ok
        found = await made.check()
        assert not found.ok
        [told] = complaints(found)
        assert told.startswith("event 3 of the parent run started it")


async def test_bundles_of_other_trees_are_refused_and_a_run_that_nobody_began_is_found(
    assent_environment: Environment, tmp_path: Path
) -> None:
    async with exports(assent_environment, tmp_path) as made:
        (tmp_path / "other").mkdir()
        async with exports(assent_environment, tmp_path / "other") as other:
            shutil.copy(other.bundle(1), made.folder / "1.zip")
            with pytest.raises(BundleError, match="bundles of several run trees"):
                await made.check()
            (made.folder / "1.zip").unlink()
            shutil.copy(made.bundle(2), made.folder / "1.zip")
            with pytest.raises(BundleError, match=f"are both of run '{made.runs[2].run_id}': remove one"):
                await made.check()
            (made.folder / "1.zip").unlink()
        # A run that says it was begun by one that did not begin it.
        online, offline = made.operators
        child = made.it.client.get_run(made.runs[2].run_id)
        [_, path] = await Auditor(made.it.environment, made.it.client, child, online, offline).shown(tmp_path)
        forge(Path(path), workflowId="stray")

        async def audit(observer: AuditObserver) -> Audit:
            return await audit_files([Path(path)], "stray", observer=observer)

        await export("stray", audit, made.folder / "1.zip")
        found = await made.check()
        assert (found.ok, found.strays) == (False, ["stray"])


async def test_what_cannot_be_had_is_said_and_nothing_is_left_of_an_export_that_fails(
    assent_environment: Environment, tmp_path: Path
) -> None:
    async with exports(assent_environment, tmp_path) as made:
        top, _, writer = (each.run_id for each in made.runs)
        lacking = await export_tree(reader(made.it.client, writer), top, tmp_path / "lacking")
        assert [(each.path, each.bundle is None) for each in lacking] == [
            *((path, False) for path in PATHS[:2]),
            (PATHS[2], True),
        ]
        before = names(tmp_path)
        with pytest.raises(BundleError, match="exists already: name another folder"):
            await export_tree(reader(made.it.client), top, tmp_path / "lacking")
        with pytest.raises(BundleError, match="cannot be made: No such file or directory"):
            await export_tree(reader(made.it.client), top, tmp_path / "none" / "tree")
        with pytest.raises(RunNotFoundError):
            await export_tree(reader(made.it.client, top), top, tmp_path / "gone")
        assert names(tmp_path) == before
        (tmp_path / "empty").mkdir()
        with pytest.raises(BundleError, match=r"holds no bundle \(\*\.zip\)"):
            await asyncio.to_thread(check_tree, tmp_path / "empty")


async def test_the_commands_export_sign_and_check_a_tree(assent_environment: Environment, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    folder, signed = str(tmp_path / "plain"), str(tmp_path / "signed")
    async with exports(assent_environment, tmp_path) as made:
        top = made.it.run.id
        online, offline = made.operators
        done = await online.assent("audit", "export", top, "--tree", "--bundle", folder, columns=140)
        assert (done.code, done.err) == (0, "")
        assert [line.split(None, 1)[1] for line in done.out.splitlines() if line.startswith("path ")] == [
            " > ".join(path) for path in PATHS
        ]
        again = await online.assent("audit", "export", top, "--tree", "--bundle", folder)
        assert (again.code, again.err.count("exists already")) == (2, 1)
        given = ("--tree", "--bundle", signed, "--key", str(tmp_path / "key.pem"), "--json")
        told = (await online.assent("audit", "export", top, *given)).json
        assert [each["run_id"] for each in told["runs"]] == [each.run_id for each in made.runs]
        assert told["keyid"]
        page = await offline.assent("audit", "verify", folder, columns=140)
        assert (page.code, page.err) == (0, "")
        assert page.out.count("every check passed") == 3
        for each, code in ((signed, 0), (folder, 1)):
            checked = await offline.assent("audit", "verify", each, "--key", str(tmp_path / "public.pem"), "--json")
            assert (checked.code, checked.json["ok"]) == (code, not code)
            assert len(checked.json["bundles"]) == 3
        remove(tmp_path / "signed" / told["runs"][1]["bundle"])
        lacking = await offline.assent("audit", "verify", signed)
        assert lacking.code == 0
        assert f"INCOMPLETE: run '{made.runs[1].run_id}' (boss > editor) is missing" in lacking.err
        assert f"INCOMPLETE: the parent run of '{made.runs[2].run_id}' has no bundle here" in lacking.err
        remove(tmp_path / "plain" / str(made.runs[2].bundle))
        lacking = await offline.assent("audit", "verify", folder)
        assert lacking.code == 0
        assert f"INCOMPLETE: run '{made.runs[2].run_id}' (boss > editor > writer) is missing" in lacking.err
