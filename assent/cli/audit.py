"""`assent audit RUN`, `assent audit export` and `assent audit verify`."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperGroup

from assent.audit.approval import is_recorded
from assent.audit.audit_tree import AuditReader
from assent.audit.bundle_trees import export_tree
from assent.audit.bundles import check, export, recorded
from assent.audit.checks import Verification
from assent.audit.csv_export import rows
from assent.audit.observer import AuditObserver
from assent.audit.offline import audit_files
from assent.audit.records import Audit
from assent.audit.signing import load_signer
from assent.audit.verifier import Verifier
from assent.cli import audit_output, audit_tree, bundle_trees, exit_codes, verify_output
from assent.cli.common import AsJson, complain, emit, place_of
from assent.cli.connect import with_client
from assent.cli.console import field, make_console
from assent.history.files import named_run
from assent.runtime.payload_codec import HINT, configured_codec
from assent.wire.errors import BundleError
from assent.wire.text import one_line

if TYPE_CHECKING:  # Typer's own classes of these are not public.
    from typer._click import Context, HelpFormatter

RECORDS: Final = "records"
_Read = Callable[[AuditObserver | None], Awaitable[Audit]]

_MaybeRun = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The run's id; with --file, the id that it must have.", show_default=False),
]
_Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--file", metavar="FILE.json", help="Read a history from a file, without a server. Once for each execution."
    ),
]


class RunOrCommand(TyperGroup):
    """A group in which a first word that is none of its commands is a run to audit."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Put the command in front that is meant by naming none."""
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [RECORDS, *args])

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Its own help, and that of each command: whoever asks about `audit` wants the options of all."""
        super().format_help(ctx, formatter)
        for name, command in self.commands.items():
            command.format_help(typer.Context(command, info_name=name, parent=ctx), formatter)


app: Final = typer.Typer(
    name="audit", cls=RunOrCommand, add_completion=False, rich_markup_mode="rich",
    subcommand_metavar="RUN | COMMAND [ARGS]...",
)  # fmt: skip


@app.callback()
def audit() -> None:
    """The audit of a run, from its history alone: who asked, who decided, what ran. Needs no worker.

    `assent audit RUN` is short for `assent audit records RUN`.
    """


@app.command(RECORDS)
def records(
    context: typer.Context,
    run: _MaybeRun = "",
    *,
    files: _Files = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the history against the rules too; 1 where a check fails.")
    ] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The approvals as a table, a row each.")] = False,
    tree: Annotated[
        bool,
        typer.Option("--tree", help="The runs below it too, of agents that it asked; --json is one document then."),
    ] = False,
) -> int:
    """The records of a run: whole, as --json (one a line), or its approvals as --csv."""
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv are two ways to write it; give one")
    if tree:
        return _of_tree(context, run, files, verify=verify, written="json" if as_json else "csv" if as_csv else "page")

    async def work(read: _Read, run_id: str) -> int:
        verifier = Verifier(run_id) if verify else None
        found = await read(verifier)
        if not found.run.agent and configured_codec() is None:
            complain(f"what run {run_id!r} was asked cannot be read; {HINT}")
        verification = verifier.verification(found) if verifier is not None else None
        if as_csv:
            _write_csv(found)
        elif as_json:
            _write_json(found, verification)
        else:
            _print(found, verification, place_of(context).program)
        return _judged(found, verification, quiet=not (as_json or as_csv))

    return _with_history(context, run, files, work)


@app.command("export")
def export_bundle(
    context: typer.Context,
    run: _MaybeRun = "",
    *,
    bundle: Annotated[
        Path, typer.Option(metavar="FILE", help="Where to write it; with --tree, a new folder.", show_default=False)
    ],
    key: Annotated[Path | None, typer.Option(metavar="PRIVATE.pem", help="Sign it: Ed25519, in PEM.")] = None,
    files: _Files = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="A bundle of each run below it too.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write a run's events, records and findings as one file that can be checked where no server is."""
    if tree:
        return _export_tree(context, run, files, bundle, key, force=force, as_json=as_json)
    if bundle.exists() and not force:
        message = f"{bundle} exists already: name another file, or give --force"
        raise BundleError(message)
    signer = load_signer(key) if key is not None else None

    async def work(read: _Read, run_id: str) -> int:
        made = await export(run_id, read, bundle, signer=signer, overwrite=force)
        told = made.predicate
        if as_json:
            emit(
                {
                    "bundle": str(bundle),
                    "keyid": signer.keyid if signer else None,
                    **told.model_dump(mode="json", by_alias=True),
                }
            )
        else:
            console = make_console()
            field(console, "bundle", one_line(str(bundle)), style="bold")
            executions = len(told.executions)
            of = f"{executions:,} execution{'s' * (executions != 1)}"
            field(console, "run", f"{one_line(run_id)}: {told.events:,} events of {of}")
            field(console, "chain head", told.chain_head)
            signed = f"by the key {signer.keyid}" if signer else "no; to sign it, give --key PRIVATE.pem"
            field(console, "signed", signed)
        return verify_output.judged(made.verification)

    return _with_history(context, run, files, work)


@app.command("verify")
def verify_bundle(
    bundle: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE", help="A file that export wrote, or the folder of a tree.", show_default=False),
    ],
    *,
    key: Annotated[Path | None, typer.Option(metavar="PUBLIC.pem", help="It must be signed by this key.")] = None,
    as_json: AsJson = False,
) -> int:
    """Check a bundle without a server: each byte, the chain, the signature, and its records by auditing it again."""
    if bundle.is_dir():
        return bundle_trees.verify_folder(bundle, key, as_json=as_json)
    found = check(bundle, public_key=key, codec=configured_codec())
    report, verification = found.report, found.verification
    if as_json:
        emit(
            {
                "ok": found.ok,
                "checks": [{"name": each.name, "ok": each.ok, "detail": each.detail} for each in report.checks],
                "keyid": report.keyid,
                "predicate": report.predicate.model_dump(mode="json", by_alias=True) if report.predicate else None,
                "verification": verification.model_dump(mode="json") if verification else None,
            }
        )
    else:
        console = make_console()
        verify_output.print_bundle(console, report.checks)
        if verification is not None and report.ok and report.predicate is not None:
            executions = [each.execution_id for each in report.predicate.executions if not each.missing]
            verify_output.print_verification(console, verification, executions)
    if not report.ok:
        complain(f"{bundle}: NOT VERIFIED: it is not a bundle as it was exported")
    elif verification is not None:
        verify_output.judged(verification)
    return exit_codes.DONE if found.ok else exit_codes.NOT_TAKEN


# -- where the history is ---------------------------------------------------------------------------------------------


def _with_history(
    context: typer.Context, run: str, files: Sequence[Path] | None, work: Callable[[_Read, str], Awaitable[int]]
) -> int:
    """Do *work* on the history that *files* hold, else on the server's."""
    if not files and not run:
        raise typer.BadParameter("name a RUN, or files with --file")
    if not files:
        return with_client(place_of(context), lambda client: work(client.get_run(run).audit, run))
    run_id = named_run(files, run)
    return asyncio.run(_on_files(files, run_id, work))


def _of_tree(
    context: typer.Context, run: str, files: Sequence[Path] | None, *, verify: bool, written: audit_tree.Written
) -> int:
    if not files and not run:
        raise typer.BadParameter("name a RUN, or files with --file")
    return audit_tree.records_of_tree(context, run, files, verify=verify, written=written)


def _export_tree(
    context: typer.Context, run: str, files: Sequence[Path] | None, folder: Path, key: Path | None, *,
    force: bool, as_json: bool,
) -> int:  # fmt: skip
    if force:
        raise typer.BadParameter("--force replaces a file; with --tree, name a new folder")
    if not files and not run:
        raise typer.BadParameter("name a RUN, or files with --file")
    signer = load_signer(key) if key is not None else None

    async def work(read: AuditReader, run_id: str) -> int:
        runs = await export_tree(read, run_id, folder, signer=signer)
        return bundle_trees.told_of_export(folder, runs, signer.keyid if signer else None, as_json=as_json)

    return audit_tree.with_histories(context, run, files, work)


async def _on_files(files: Sequence[Path], run_id: str, work: Callable[[_Read, str], Awaitable[int]]) -> int:
    codec = configured_codec()

    async def read(observer: AuditObserver | None) -> Audit:
        return await audit_files(files, run_id, observer=observer, codec=codec)

    return await work(read, run_id)


# -- what is written --------------------------------------------------------------------------------------------------


def _write_csv(found: Audit) -> None:
    written = csv.writer(sys.stdout, lineterminator="\n")
    written.writerows(rows(record for record in found if is_recorded(record)))


def _write_json(found: Audit, verification: Verification | None) -> None:
    for record in recorded(found):
        emit(record.model_dump(mode="json"))
    if verification is not None:
        emit({"record": "verification", **verification.model_dump(mode="json")})


def _print(found: Audit, verification: Verification | None, program: str) -> None:
    console = make_console()
    audit_output.print_audit(console, found, program)
    if verification is not None:
        verify_output.print_verification(console, verification, found.run.executions)


def _judged(found: Audit, verification: Verification | None, *, quiet: bool) -> int:
    """The exit code, and on standard error what nobody may miss; *quiet* where the page has said it already."""
    if verification is None:
        if found.run.missing and not quiet:
            complain(f"INCOMPLETE: {len(found.run.missing)} executions of run {found.run.run_id!r} are gone")
        return exit_codes.DONE
    return verify_output.judged(verification)
