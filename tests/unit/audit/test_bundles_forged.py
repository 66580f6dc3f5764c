"""The parts of a bundle that a forger wrote with this source do not agree."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import pytest

from assent._version import __version__
from assent.audit import bundle_checker
from assent.audit.bundle_checker import verify_bundle
from assent.audit.bundle_trees import check_tree
from assent.audit.bundle_writer import EVENTS, RECORDS, STATEMENT, SUBJECTS, VERIFICATION
from assent.audit.bundles import check
from assent.audit.hash_chain import execution_line
from assent.audit.statement import read_statement
from assent.wire.digest import canonical
from assent.wire.errors import BundleError
from tests.unit.audit.sample_bundles import contents, failed, forged, found, rebuild, written


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "run.zip"
    written(path)
    return path


def test_a_file_too_many_too_few_or_twice_fails(bundle: Path, tmp_path: Path) -> None:
    files = contents(bundle)
    more = forged(tmp_path / "more.zip", {**files, "extra\x1b[2J.txt": b"x"})
    fewer = forged(
        tmp_path / "fewer.zip", {name: data for name, data in files.items() if name != VERIFICATION}, restate=False
    )
    assert failed(verify_bundle(more))["file"].startswith("not a bundle: it holds ")
    assert "\x1b" not in failed(verify_bundle(more))["file"]
    assert failed(verify_bundle(fewer))["file"].startswith("not a bundle: it holds ")
    twice = tmp_path / "twice.zip"
    shutil.copy(bundle, twice)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(EVENTS, b"{}\n")
    assert not verify_bundle(twice).ok


def test_the_same_files_compressed_or_in_another_order_are_no_bundle(bundle: Path, tmp_path: Path) -> None:
    files = contents(bundle)
    with zipfile.ZipFile(tmp_path / "small.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    assert "compressed" in failed(verify_bundle(tmp_path / "small.zip"))["file"]
    turned = forged(tmp_path / "turned.zip", dict(reversed(files.items())))
    assert "file" in failed(verify_bundle(turned))


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_file_that_the_statement_is_not_about_fails(name: str, bundle: Path, tmp_path: Path) -> None:
    files = contents(bundle)
    other = forged(tmp_path / "other.zip", {**files, name: files[name] + b"[]\n"}, restate=False)
    assert failed(verify_bundle(other))["digests"] == f"{name} is not the file that the statement is about"


Edit = Callable[[list[bytes]], list[bytes]]
EDITS: Final[dict[str, tuple[Edit, str]]] = {
    "edited": (lambda lines: [*lines[:2], lines[2].replace(b"FIRED", b"fired"), *lines[3:]], "ends in"),
    "removed": (lambda lines: [*lines[:2], *lines[3:]], "where event 2 must follow"),
    "removed at the end": (lambda lines: lines[:-1], "ends in"),
    "reordered": (lambda lines: [*lines[:2], lines[3], lines[2]], "where event 2 must follow"),
    "renamed": (lambda lines: [execution_line("r2"), *lines[1:]], "ends in"),
    "without its marker": (lambda lines: lines[1:], "is an event of no execution"),
    "not an event": (
        lambda lines: [*lines, b'{"execution":"r","more":1}'],
        "neither an event of a history nor a marker",
    ),
    "not canonical": (lambda lines: [*lines, b'{"eventId": "4"}'], "is not in canonical JSON"),
    "with a key twice": (lambda lines: [*lines, b'{"eventId":"9","eventId":"4"}'], "is not in canonical JSON"),
    "not JSON": (lambda lines: [*lines, b"{" * 100_000], "is not JSON"),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_removed_or_reordered_event_breaks_the_chain(case: str, bundle: Path, tmp_path: Path) -> None:
    edit, expected = EDITS[case]
    files = contents(bundle)
    lines = edit(files[EVENTS].splitlines())
    other = forged(tmp_path / "other.zip", {**files, EVENTS: b"".join(line + b"\n" for line in lines)})
    report = verify_bundle(other, rebuild=rebuild)
    assert list(failed(report)) == ["events"]
    assert expected in failed(report)["events"]
    assert found(report, "records").detail == "not rebuilt, because the events are not whole"


def test_a_last_line_that_does_not_end_fails(bundle: Path, tmp_path: Path) -> None:
    files = contents(bundle)
    other = forged(tmp_path / "other.zip", {**files, EVENTS: files[EVENTS][:-1]})
    assert failed(verify_bundle(other)) == {"events": "line 4 of events.jsonl does not end"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("events", 4),
        ("chainLength", 3),
        ("complete", False),
        ("executions", []),
        ("runId", "other"),
        ("chainHead", "0" * 64),
    ],
)
def test_a_statement_that_its_events_do_not_bear_out_fails(
    field: str, value: object, bundle: Path, tmp_path: Path
) -> None:
    files = contents(bundle)
    statement = json.loads(files[STATEMENT])
    statement["predicate"][field] = value
    other = forged(tmp_path / "other.zip", {**files, STATEMENT: canonical(statement)})
    assert list(failed(verify_bundle(other))) == ["events"]


@pytest.mark.parametrize(
    "statement",
    [
        b"",
        b"[]",
        b"{}",
        b'{"_type": "https://in-toto.io/Statement/v1"}',
        b"[" * 100_000,
        b'{"predicate":{"chainHead":1}}',
    ],
)
def test_what_is_not_our_statement_fails_in_one_line(statement: bytes, bundle: Path, tmp_path: Path) -> None:
    other = forged(tmp_path / "other.zip", {**contents(bundle), STATEMENT: statement}, restate=False)
    report = verify_bundle(other)
    assert list(failed(report)) == ["statement"]
    assert "\n" not in failed(report)["statement"]


def test_a_statement_about_other_files_fails(bundle: Path, tmp_path: Path) -> None:
    files = contents(bundle)
    statement = json.loads(files[STATEMENT])
    for subjects in (statement["subject"][:-1], [*statement["subject"], {"name": "x", "digest": {"sha256": "0" * 64}}]):
        data = canonical({**statement, "subject": subjects})
        other = forged(tmp_path / "other.zip", {**files, STATEMENT: data}, restate=False)
        assert failed(verify_bundle(other))["digests"].startswith("the statement is about other files: ")
    with pytest.raises(BundleError, match="names a file twice"):
        read_statement(canonical({**statement, "subject": statement["subject"] * 2}))


def test_findings_that_are_not_json_fail(bundle: Path, tmp_path: Path) -> None:
    other = forged(tmp_path / "other.zip", {**contents(bundle), VERIFICATION: b"all fine"})
    assert failed(verify_bundle(other)) == {"verification": "verification.json is not JSON"}


def test_findings_nested_too_deep_to_be_read_fail_and_raise_nothing(bundle: Path, tmp_path: Path) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    checked = check(forged(tmp_path / "other.zip", {**contents(bundle), VERIFICATION: deep}))
    assert failed(checked.report)["verification"] == "verification.json is not JSON"
    assert checked.verification is None
    assert not checked.ok


# -- the records -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("records", [[], ["more"], ["other", None, None]])
def test_records_that_the_events_do_not_give_fail(records: list[str | None], bundle: Path, tmp_path: Path) -> None:
    kept = contents(bundle)[RECORDS].splitlines()
    given = [line if line is None else canonical(line) for line in records]
    lines = (
        [*kept, *filter(None, given)]
        if records == ["more"]
        else [line or own for line, own in zip(given, kept, strict=False)]
    )
    written(tmp_path / "other.zip", records=lines)
    assert verify_bundle(tmp_path / "other.zip").ok
    report = verify_bundle(tmp_path / "other.zip", rebuild=rebuild)
    assert list(failed(report)) == ["records"]
    number = {0: 1, 4: 4, 3: 1}[len(lines)]
    assert failed(report)["records"] == f"record {number} differs from what the events give"


def test_records_of_another_version_say_so(tmp_path: Path) -> None:
    written(tmp_path / "run.zip", records=[])
    files = contents(tmp_path / "run.zip")
    statement = json.loads(files[STATEMENT])
    statement["predicate"]["assentVersion"] = "0.0.1"
    other = forged(tmp_path / "other.zip", {**files, STATEMENT: canonical(statement)})
    detail = failed(verify_bundle(other, rebuild=rebuild))["records"]
    assert detail.endswith(f" (exported by Assent '0.0.1', and this is {__version__})")


def test_records_that_cannot_be_rebuilt_fail_in_one_line(bundle: Path) -> None:
    def broken(run_id: str, lines: Iterable[bytes]) -> Iterable[bytes]:
        raise KeyError("no\nsuch\x1b event")

    detail = failed(verify_bundle(bundle, rebuild=broken))["records"]
    assert detail.startswith("the records cannot be rebuilt from the events: KeyError: ")
    assert detail.isprintable()


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_or_too_large_is_refused_before_it_is_read(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo, device, large = tmp_path / "fifo.zip", tmp_path / "device.zip", tmp_path / "large.zip"
    os.mkfifo(fifo)
    device.symlink_to("/dev/zero")
    with large.open("wb") as file:
        file.truncate(1 << 40)  # it has holes, and takes no room
    for path in (fifo, device):
        with pytest.raises(BundleError, match="it is no regular file"):
            verify_bundle(path)
    with pytest.raises(BundleError, match="it has 1099511627776 bytes"):
        verify_bundle(large)
    # A folder of a tree with such a file is refused, too.
    with pytest.raises(BundleError, match=r"it is no regular file|it has 1099511627776 bytes"):
        check_tree(tmp_path)
    monkeypatch.setattr(bundle_checker, "MEMBER_LIMIT", 10)
    assert "the limit is 10" in failed(verify_bundle(bundle))["file"]
