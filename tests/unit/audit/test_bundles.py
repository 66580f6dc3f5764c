"""A bundle: whole or not at all, the same bytes for the same contents, and one changed byte is found."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from assent._version import __version__
from assent.audit.bundle_checker import verify_bundle
from assent.audit.bundle_writer import (
    EVENTS,
    README,
    RECORDS,
    STATEMENT,
    SUBJECTS,
    VERIFICATION,
    new_bundle,
)
from assent.audit.hash_chain import execution_line, missing_line
from assent.audit.statement import ExecutionRange
from assent.wire.digest import canonical
from assent.wire.errors import BundleError
from tests.replay import FOLDER
from tests.unit.audit.sample_bundles import (
    EXPORTED,
    FINDINGS,
    RUN_ID,
    by_hand,
    changed,
    contents,
    events,
    failed,
    forged,
    found,
    rebuild,
    written,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "run.zip"
    written(path)
    return path


def test_a_bundle_that_was_just_written_is_found_whole(bundle: Path) -> None:
    report = verify_bundle(bundle, rebuild=rebuild)
    assert report.ok
    assert [check.name for check in report.checks] == [
        "file", "statement", "digests", "events", "records", "verification", "signature",
    ]  # fmt: skip
    assert all("\n" not in check.detail for check in report.checks)
    assert found(report, "signature").ok is None
    assert found(report, "signature").detail.startswith("not signed: ")


@pytest.mark.parametrize("recorded", sorted(FOLDER.glob("*.json")), ids=lambda path: str(path.stem))
def test_a_recorded_history_makes_a_bundle(recorded: Path, tmp_path: Path) -> None:
    lines = [canonical(event) for event in json.loads(recorded.read_text())["events"]]
    predicate = written(tmp_path / "run.zip", [execution_line("r1"), *lines])
    assert (predicate.events, predicate.chain_length) == (len(lines), len(lines) + 1)
    assert verify_bundle(tmp_path / "run.zip", rebuild=rebuild).ok


def test_the_files_of_a_bundle_are_the_bytes_that_were_given(bundle: Path) -> None:
    files = contents(bundle)
    assert list(files) == [README, EVENTS, RECORDS, VERIFICATION, STATEMENT]
    assert files[EVENTS] == b"".join(line + b"\n" for line in [execution_line("r1"), *events()])
    assert files[RECORDS] == b"".join(line + b"\n" for line in rebuild(RUN_ID, events()))
    assert files[VERIFICATION] == FINDINGS


def test_the_statement_says_whose_events_and_how_many(tmp_path: Path) -> None:
    lines = [missing_line("r0"), execution_line("r1"), *events(3), execution_line("r2"), *events(2)]
    predicate = written(tmp_path / "run.zip", lines)
    assert predicate.executions == (
        ExecutionRange(execution_id="r0", missing=True),
        ExecutionRange(execution_id="r1", first_event_id=1, last_event_id=3),
        ExecutionRange(execution_id="r2", first_event_id=1, last_event_id=2),
    )
    assert (predicate.run_id, predicate.events, predicate.chain_length) == (RUN_ID, 5, 8)
    assert (predicate.complete, predicate.assent_version, predicate.exported_at) == (False, __version__, EXPORTED)
    statement = json.loads(contents(tmp_path / "run.zip")[STATEMENT])
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://assent.dev/audit/v1"
    assert [subject["name"] for subject in statement["subject"]] == list(SUBJECTS)
    assert statement["predicate"]["chainHead"] == predicate.chain_head


def test_a_missing_execution_is_said(tmp_path: Path) -> None:
    written(tmp_path / "run.zip", [missing_line("r0"), execution_line("r1"), *events()])
    report = verify_bundle(tmp_path / "run.zip", rebuild=rebuild)
    assert report.ok
    assert found(report, "events").detail.endswith("; incomplete: 'r0' could not be had")
    assert report.predicate
    assert not report.predicate.complete


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    written(tmp_path / "one.zip")
    written(tmp_path / "other.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def test_the_bytes_of_the_zip_do_not_change_with_python_or_with_assent(tmp_path: Path) -> None:
    # A bundle is checked by writing it again, so what was written years ago must still come out the same.
    forged(
        tmp_path / "fixed.zip",
        {README: b"r", EVENTS: b"e\n", RECORDS: b"", VERIFICATION: b"[]", STATEMENT: b"{}"},
        restate=False,
    )
    report = verify_bundle(tmp_path / "fixed.zip")
    assert found(report, "file").ok
    digest = hashlib.sha256((tmp_path / "fixed.zip").read_bytes()).hexdigest()
    assert digest == "94c95b44d61aa45934627024724643e8bd2f75b16ccad2932d827cb42cf3b9ad"


# -- one changed byte ------------------------------------------------------------------------------------------------


def test_one_changed_byte_anywhere_fails(bundle: Path, tmp_path: Path) -> None:
    data, other = bundle.read_bytes(), tmp_path / "changed.zip"
    for at in range(len(data)):
        other.write_bytes(changed(data, at, 1 + at % 255))
        assert not verify_bundle(other).ok, f"byte {at} of {len(data)}"


def test_one_changed_bit_of_the_zips_own_bytes_fails(bundle: Path, tmp_path: Path) -> None:
    data, other = bundle.read_bytes(), tmp_path / "changed.zip"
    directory = data.index(b"PK\x01\x02")
    starts = [at for at in range(directory) if data.startswith(b"PK\x03\x04", at)]
    headers = [at for start in starts for at in range(start, start + 30 + 24 + 20)] + list(range(directory, len(data)))
    for at in headers:
        for bit in (at % 8, (at + 3) % 8):
            other.write_bytes(changed(data, at, 1 << bit))
            assert not verify_bundle(other).ok, f"bit {bit} of byte {at}"


def test_one_byte_less_or_more_anywhere_fails(bundle: Path, tmp_path: Path) -> None:
    data, other = bundle.read_bytes(), tmp_path / "changed.zip"
    for at in [*range(0, len(data), 7), len(data)]:
        other.write_bytes(data[:at] + b"\0" + data[at:])
        assert not verify_bundle(other).ok, f"a byte before {at}"
        other.write_bytes(data[:at] + data[at + 1 :] if at < len(data) else data[:-1])
        assert not verify_bundle(other).ok, f"without byte {at}"


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"not a zip" * 100])
def test_what_is_not_a_zip_is_said_to_be_no_bundle(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    assert "not a" in failed(verify_bundle(tmp_path / "x.zip"))["file"]


# -- writing -----------------------------------------------------------------------------------------------------------


def test_an_existing_file_is_overwritten_only_when_that_is_said(bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(BundleError, match="exists already: name another file, or say that it may be overwritten"):
        written(bundle, [execution_line("r1"), *events(5)])
    assert bundle.read_bytes() == before
    with pytest.raises(BundleError, match="exists already"), new_bundle(bundle, run_id="w"):
        pytest.fail("a long history is not read first")
    written(bundle, [execution_line("r1"), *events(5)], overwrite=True)
    assert bundle.read_bytes() != before
    assert verify_bundle(bundle, rebuild=rebuild).ok


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    def late() -> bytes:
        (tmp_path / "run.zip").write_text("another export")
        return FINDINGS

    with pytest.raises(BundleError, match="exists already"):
        written(tmp_path / "run.zip", verification=late)
    assert [path.name for path in tmp_path.iterdir()] == ["run.zip"]
    assert (tmp_path / "run.zip").read_text() == "another export"


@pytest.mark.parametrize(
    "lines", [[], events(), [execution_line("r1"), *events(3)[1:]], [execution_line("r1"), b"{}\n{}"]]
)
def test_a_bundle_that_fails_leaves_nothing_behind(lines: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        written(tmp_path / "run.zip", lines, records=[])
    assert not list(tmp_path.iterdir())


def test_a_record_with_a_line_feed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="record 2 holds a line feed"):
        written(tmp_path / "run.zip", records=[b"{}", b"{}\n{}"])
    assert not list(tmp_path.iterdir())


def test_an_export_that_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> Iterable[bytes]:
        yield execution_line("r1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "run.zip", interrupted(), records=[])
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_is_not_finished_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(BundleError, match="was not finished"),
        new_bundle(tmp_path / "run.zip", run_id="w") as bundle,
    ):
        bundle.add_event(execution_line("r1"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot be written: No such file or directory$"):
        written(tmp_path / "gone" / "run.zip")
    with pytest.raises(BundleError, match=r"cannot be read: No such file or directory$"):
        verify_bundle(tmp_path / "gone" / "run.zip")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_place_that_takes_no_file_is_said_in_one_line(tmp_path: Path, *, overwrite: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(BundleError, match="it is a folder" if overwrite else "exists already"):
        written(folder, overwrite=overwrite)
    with pytest.raises(BundleError, match=r"cannot be written: File name too long$"):
        written(tmp_path / ("n" * 300), overwrite=overwrite)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    written(path)
    assert verify_bundle(path, rebuild=rebuild).ok


def test_only_its_owner_may_read_a_bundle(bundle: Path) -> None:
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600


def test_events_and_records_are_not_held(tmp_path: Path) -> None:
    def many() -> Iterable[bytes]:
        yield execution_line("r1")
        for number in range(1, 2_001):
            yield canonical({"eventId": str(number), "eventType": "x", "data": "x" * 10_000})

    tracemalloc.start()
    written(tmp_path / "run.zip", many(), records=(canonical("x" * 10_000) for _ in range(1_000)))
    assert verify_bundle(tmp_path / "run.zip").ok
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "run.zip").stat().st_size > 30_000_000
    assert peak < 8_000_000


# -- by hand -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not all(map(shutil.which, ["bash", "unzip", "jq", "sha256sum"])), reason="needs unzip and jq")
def test_the_readme_of_a_bundle_says_how_to_check_it_by_hand(tmp_path: Path) -> None:
    predicate = written(tmp_path / "run.zip", [execution_line("r1"), *events(), execution_line("ü\\"), *events()])
    done = by_hand(tmp_path / "run.zip", tmp_path / "unpacked", signed=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *(f"{name}: OK" for name in SUBJECTS),
        f"{predicate.chain_head} {predicate.chain_head}",
    ]
