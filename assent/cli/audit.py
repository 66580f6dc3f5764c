"""The command `audit`: prints the audit of a run, and exports and verifies bundles."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from assent.audit.approval import is_recorded
from assent.audit.audit_tree import AuditedRun, AuditReader, audits
from assent.audit.bundle_trees import check_tree, export_tree
from assent.audit.bundles import check, export, recorded
from assent.audit.csv_export import COLUMNS, rows
from assent.audit.observer import AuditObserver
from assent.audit.offline import audit_files
from assent.audit.proofs import with_approvers
from assent.audit.records import Audit
from assent.audit.signing import Signer, load_signer
from assent.audit.verifier import Verifier
from assent.cli import audit_output, exit_codes, verify_output
from assent.cli.common import AsJson, connection_options, emit, warn
from assent.cli.connect import with_client
from assent.cli.console import make_console
from assent.client.client import AgentClient
from assent.history.files import by_run, named_run
from assent.proof.approvers import Approvers
from assent.runtime.payload_codec import HINT, configured_codec
from assent.wire.errors import BundleError, RunNotFoundError

if TYPE_CHECKING:  # Typer's own classes of these are not public.
    from typer._click import Context, HelpFormatter

RECORDS: Final = "records"

_MaybeRun = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id; with --file, the id that it must have.", show_default=False)
]
_Files = Annotated[
    list[Path] | None,
    typer.Option("--file", metavar="FILE.json", help="Read an execution's history from a file (repeatable)."),
]

_Approvers = Annotated[
    Path | None,
    typer.Option(
        "--approvers", metavar="FILE", help="The approvers file with the keys that the proofs must be made with."
    ),
]
_RequireNames = Annotated[
    bool, typer.Option("--require-names", help="Exit with 1 if a name in a message is a claim that no server verified.")
]


class RunOrCommand(TyperGroup):
    """A group in which a first word that is not one of its commands is a run to audit."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Insert the command `records` if no command is named."""
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [RECORDS, *args])

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Print the help of the group and of each of its commands, so that one page has all options."""
        super().format_help(ctx, formatter)
        for name, command in self.commands.items():
            command.format_help(typer.Context(command, info_name=name, parent=ctx), formatter)


app: Final = typer.Typer(
    name="audit", cls=RunOrCommand, add_completion=False, rich_markup_mode="rich",
    subcommand_metavar="RUN | COMMAND [ARGS]...",
)  # fmt: skip


@app.callback()
def audit() -> None:
    """Audit a run from its history alone: who asked, who decided, what ran. Needs no worker.

    `assent audit RUN` is short for `assent audit records RUN`.
    """


# -- records ----------------------------------------------------------------------------------------------------------


@app.command(RECORDS)
def records(
    context: typer.Context,
    run: _MaybeRun = "",
    *,
    files: _Files = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the history against the decision rules; exit with 1 if one fails.")
    ] = False,
    approvers: _Approvers = None,
    require_names: _RequireNames = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the approvals as a table, one row each.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Include the child runs; --json is then one document.")] = False,
) -> int:
    """Print the records of a run; with --json one per line, with --csv only its approvals."""
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv are different formats; give one")
    people = _people(approvers, require_names=require_names, verify=verify)
    program = connection_options(context).program

    async def work(read: AuditReader, run_id: str) -> int:
        code, document = exit_codes.DONE, list[dict[str, object]]()
        async for each in audits(read, run_id, verify=verify) if tree else _audit_one(read, run_id, verify=verify):
            each = _check_approvers(each, people)  # noqa: PLW2901 - the same audit, with one check more
            is_root = each.run_id == run_id
            if as_csv:
                _write_csv(each.audit, headings=is_root)
            elif as_json and tree:
                document.append(_document(each))
            elif as_json:
                for line in _lines(each):
                    emit(line)
            else:
                _print(each, program, tree=tree, is_root=is_root)
            code = max(code, _exit_code(each, quiet=not (as_json or as_csv or tree), require_names=require_names))
        if as_json and tree:
            emit({"record": "tree", "run_id": run_id, "runs": document})
        return code

    return _with_histories(context, run, files, work, tree=tree)


def _people(approvers: Path | None, *, require_names: bool, verify: bool) -> Approvers | None:
    """Return the content of the approvers file; options of --verify go with it alone."""
    for option, is_given in (("--require-names", require_names), ("--approvers", approvers is not None)):
        if is_given and not verify:
            raise typer.BadParameter(f"{option} needs --verify; give both")
    return None if approvers is None else Approvers.from_file(approvers)


async def _audit_one(read: AuditReader, run_id: str, *, verify: bool) -> AsyncIterator[AuditedRun]:
    verifier = Verifier(run_id) if verify else None
    audited = await read(run_id, verifier)
    if not audited.run.agent and configured_codec() is None:
        warn(f"the prompt of run {run_id!r} cannot be read; {HINT}")
    yield AuditedRun(run_id, (), audited, verifier.verification(audited) if verifier is not None else None)


def _check_approvers(each: AuditedRun, people: Approvers | None) -> AuditedRun:
    if people is None or each.audit is None or each.verification is None:
        return each
    return replace(each, verification=with_approvers(each.verification, each.audit, people))


def _print(each: AuditedRun, program: str, *, tree: bool, is_root: bool) -> None:
    console = make_console()
    if not is_root:
        console.print()
        audit_output.print_separator(console)
    if tree:
        audit_output.print_path(console, each, "there is no history of run")
    if each.audit is not None:
        audit_output.print_audit(console, each.audit, program)
        if each.verification is not None:
            executions = each.audit.run.executions
            verify_output.print_verification(console, each.verification, executions, again=not is_root)


def _write_csv(audit: Audit | None, *, headings: bool) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    if headings:
        table.writerow(COLUMNS)
    if audit is not None:
        _, *approvals = rows(record for record in audit if is_recorded(record))
        table.writerows(approvals)


def _lines(each: AuditedRun) -> Iterator[dict[str, object]]:
    for record in recorded(each.audit) if each.audit is not None else ():
        yield record.model_dump(mode="json")
    if each.verification is not None:
        yield {"record": "verification", **each.verification.model_dump(mode="json")}


def _document(each: AuditedRun) -> dict[str, object]:
    return {
        "run_id": each.run_id,
        "path": list(each.path),
        "missing": each.audit is None,
        "records": list(_lines(replace(each, verification=None))),
        "verification": None if each.verification is None else each.verification.model_dump(mode="json"),
    }


def _exit_code(each: AuditedRun, *, quiet: bool, require_names: bool) -> int:
    """Return the exit code of one run, and print to standard error what must not be missed, unless *quiet*."""
    if each.audit is None:
        verify_output.warn_missing(each.run_id, each.path, "in no file that was given")
        return exit_codes.DONE
    if each.verification is not None:
        return verify_output.exit_code(each.verification, require_names=require_names)
    if each.audit.run.missing and not quiet:
        warn(f"INCOMPLETE: {len(each.audit.run.missing)} executions of run {each.run_id!r} are gone")
    return exit_codes.DONE


# -- bundles ----------------------------------------------------------------------------------------------------------


@app.command("export")
def export_bundle(
    context: typer.Context,
    run: _MaybeRun = "",
    *,
    bundle: Annotated[
        Path, typer.Option(metavar="FILE", help="The file to write; with --tree, a new folder.", show_default=False)
    ],
    key: Annotated[Path | None, typer.Option(metavar="PRIVATE.pem", help="Sign with this Ed25519 key.")] = None,
    files: _Files = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="Write a bundle of each child run too.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write a run's events, records and findings to one file that can be verified without a server."""
    if tree and force:
        raise typer.BadParameter("--force replaces a file; with --tree, name a new folder")
    if bundle.exists() and not (force or tree):
        raise BundleError(f"{bundle} exists already: name another file, or give --force")
    signer: Signer | None = None

    async def one(read: AuditReader, run_id: str) -> int:
        _, exported = await export(run_id, partial(read, run_id), bundle, signer=signer, overwrite=force)
        keyid = signer.keyid if signer else None
        if as_json:
            predicate = exported.predicate.model_dump(mode="json", by_alias=True)
            emit({"bundle": str(bundle), "keyid": keyid, **predicate})
        else:
            verify_output.print_export(make_console(), bundle, run_id, exported, keyid)
        return verify_output.exit_code(exported.verification)

    async def all_runs(read: AuditReader, run_id: str) -> int:
        runs = await export_tree(read, run_id, bundle, signer=signer)
        keyid = signer.keyid if signer else None
        if as_json:
            emit(verify_output.export_document(bundle, runs, keyid))
        else:
            verify_output.print_tree_export(make_console(), bundle, runs, keyid)
        return max(verify_output.judge_export(each) for each in runs)

    if files or run:  # Otherwise, say that first.
        signer = load_signer(key) if key is not None else None
    return _with_histories(context, run, files, all_runs if tree else one, tree=tree)


@app.command("verify")
def verify_bundle(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="An exported file, or the folder of a tree.", show_default=False)
    ],
    *,
    key: Annotated[Path | None, typer.Option(metavar="PUBLIC.pem", help="Require a signature by this key.")] = None,
    approvers: _Approvers = None,
    require_names: _RequireNames = False,
    as_json: AsJson = False,
) -> int:
    """Check a bundle without a server: its bytes, chain and signature, and its records by a new audit."""
    people = None if approvers is None else Approvers.from_file(approvers)
    if bundle.is_dir():
        if people is not None:
            raise typer.BadParameter("--approvers goes with one bundle; name a file")
        folder = check_tree(bundle, public_key=key, codec=configured_codec())
        if as_json:
            emit(verify_output.tree_document(folder))
        else:
            verify_output.print_tree(make_console(), folder)
        return verify_output.judge_tree(folder, require_names=require_names)
    result = check(bundle, public_key=key, codec=configured_codec())
    if people is not None and result.audit is not None and result.verification is not None:
        result = replace(result, verification=with_approvers(result.verification, result.audit, people))
    if as_json:
        emit(verify_output.bundle_document(result))
    else:
        verify_output.print_bundle(make_console(), result)
    return verify_output.judge_bundle(bundle, result, require_names=require_names)


# -- histories --------------------------------------------------------------------------------------------------------


def _with_histories(
    context: typer.Context,
    run: str,
    files: Sequence[Path] | None,
    work: Callable[[AuditReader, str], Coroutine[Any, Any, int]],
    *,
    tree: bool,
) -> int:
    """Do *work* with a reader of the histories in *files*, or on the server, and the id of the run or tree root."""
    if not files and not run:
        raise typer.BadParameter("name a RUN, or files with --file")
    if not files:
        return with_client(connection_options(context), lambda client: work(_reader_of(client), run))
    run_id, files_of = by_run(files, run) if tree else (named_run(files, run), None)

    async def read(run_id: str, observer: AuditObserver | None) -> Audit:
        if files_of is not None and run_id not in files_of:
            raise RunNotFoundError(f"none of the files is of run {run_id!r}")
        own = files if files_of is None else files_of[run_id]
        return await audit_files(own, run_id, observer=observer, codec=configured_codec())

    return asyncio.run(work(read, run_id))


def _reader_of(client: AgentClient) -> AuditReader:
    async def read(run_id: str, observer: AuditObserver | None) -> Audit:
        return await client.get_run(run_id).audit(observer)

    return read
