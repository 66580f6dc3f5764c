"""The external storage: what is put into it is had again, and what is wrong with it is said in one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1 import ExternalStorageReference
from temporalio.converter import (
    ExternalStorage,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from assent import ConfigurationError, HistoryError
from assent.runtime import storage
from assent.runtime.converter import PLAIN
from assent.runtime.storage import THRESHOLD, THRESHOLD_VARIABLE, VARIABLE, Directory, configured_storage, retrieved


def payload(text: str) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=text.encode())


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PAUSE", 0.01)


async def put(root: Path, *texts: str) -> list[StorageDriverClaim]:
    return await Directory(root).store(StorageDriverStoreContext(), [payload(text) for text in texts])


async def had(root: Path, claim: StorageDriverClaim) -> Payload:
    [found] = await Directory(root).retrieve(StorageDriverRetrieveContext(), [claim])
    return found


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


async def test_what_is_stored_is_had_again_under_its_digest(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there"
    [first, second, again] = await put(root, "one", "two", "one")
    assert (await had(root, first), await had(root, second)) == (payload("one"), payload("two"))
    assert (first, len(files(root))) == (again, 2)
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in files(root)] == [
        each.name for each in files(root)
    ]


async def test_a_file_that_was_changed_is_said_and_written_anew(tmp_path: Path) -> None:
    [claim] = await put(tmp_path, "one")
    [file] = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(HistoryError, match=f"payload {claim.claim_data['sha256']} in .* was changed"):
        await had(tmp_path, claim)
    await put(tmp_path, "one")
    assert await had(tmp_path, claim) == payload("one")


async def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    [claim] = await put(tmp_path, "one")
    [file] = files(tmp_path)
    file.unlink()
    with pytest.raises(HistoryError, match=f"payload {file.name} is not in the storage directory") as missing:
        await had(tmp_path, claim)
    assert "\n" not in str(missing.value)


async def test_a_directory_that_cannot_be_used_is_said_after_some_tries(tmp_path: Path) -> None:
    root = tmp_path / "taken"
    root.write_text("a file")
    with pytest.raises(HistoryError, match=f"the storage directory {root} cannot be used: Not a directory"):
        await put(root, "one")


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65])
async def test_a_claim_that_names_another_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(HistoryError, match="has no file"):
        await had(tmp_path, StorageDriverClaim({"sha256": name}))


async def test_a_reference_without_its_storage_names_what_to_configure(tmp_path: Path) -> None:
    [claim] = await put(tmp_path, "one")
    told = ExternalStorageReference(driver_name="assent.directory", claim_data=dict(claim.claim_data))
    [reference] = PLAIN.to_payloads([told])
    with pytest.raises(
        HistoryError, match=r"the external storage 'assent\.directory': name that storage in ASSENT_STORAGE"
    ):
        await retrieved(None, reference)
    assert await retrieved(ExternalStorage(drivers=[Directory(tmp_path)]), reference) == payload("one")
    assert await retrieved(None, payload("plain")) == payload("plain")


@pytest.mark.parametrize(
    ("name", "threshold", "said"),
    [
        ("nowhere", "", "ASSENT_STORAGE='nowhere' is neither directory:/absolute/path nor s3://bucket/prefix"),
        ("directory:relative", "", "ASSENT_STORAGE='directory:relative' is neither"),
        ("directory:", "", "is neither directory"),
        ("s3:/bucket", "", "is neither directory"),
        ("s3://", "", "is neither directory"),
        ("directory:/somewhere", "many", "ASSENT_STORAGE_THRESHOLD='many' is not a number of bytes, 16384 or more"),
        ("directory:/somewhere", "16383", "ASSENT_STORAGE_THRESHOLD='16383' is not a number of bytes, 16384 or more"),
        ("directory:/somewhere", "-1", "ASSENT_STORAGE_THRESHOLD='-1' is not a number of bytes, 16384 or more"),
    ],
)
def test_a_setting_that_cannot_be_read_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, threshold: str, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, name)
    monkeypatch.setenv(THRESHOLD_VARIABLE, threshold)
    with pytest.raises(ConfigurationError) as refused:
        configured_storage()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_environment_names_a_storage_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert configured_storage() is None
    monkeypatch.setenv(VARIABLE, f"directory:{tmp_path}")
    found = configured_storage()
    assert found is not None
    assert (found.payload_size_threshold, found.drivers[0].name()) == (THRESHOLD, "assent.directory")
    monkeypatch.setenv(THRESHOLD_VARIABLE, "16384")
    found = configured_storage()
    assert found is not None
    assert found.payload_size_threshold == 16_384
