"""Signatures: who has the key signed this, by the formats that other tools read, and nothing else passes."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from google.protobuf.json_format import Parse

from assent.audit.bundle_checker import verify_bundle
from assent.audit.bundle_writer import EVENTS, SIGNED, STATEMENT
from assent.audit.hash_chain import execution_line
from assent.audit.signing import check_signature, load_signer
from assent.audit.statement import Envelope, read_envelope, read_statement
from assent.wire.digest import canonical
from assent.wire.errors import BundleError, ConfigurationError
from tests.unit.audit.sample_bundles import by_hand, changed, contents, events, failed, forged, found, rebuild, written

pytestmark = pytest.mark.slow

ENVELOPE: Final = Envelope(b"{}", "0" * 64, bytes(64))


class Keys:
    """A key pair as PEM files."""

    def __init__(self, folder: Path, name: str, kind: str = "ed25519") -> None:
        self.key = Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
        self.private = folder / f"{name}.pem"
        self.public = folder / f"{name}.pub.pem"
        self.private.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.public.write_bytes(self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def encrypted(self, passphrase: bytes) -> Path:
        path = self.private.with_suffix(".encrypted.pem")
        path.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)))
        return path


@pytest.fixture(params=["ed25519", "P-256"])
def keys(tmp_path: Path, request: pytest.FixtureRequest) -> Keys:
    return Keys(tmp_path, "ours", request.param)


@pytest.fixture(params=["ed25519", "P-256"])
def others(tmp_path: Path, request: pytest.FixtureRequest) -> Keys:
    return Keys(tmp_path, "others", request.param)


@pytest.fixture
def bundle(tmp_path: Path, keys: Keys) -> Path:
    written(tmp_path / "run.zip", signer=load_signer(keys.private))
    return tmp_path / "run.zip"


def test_a_signed_bundle_is_found_signed(bundle: Path, keys: Keys) -> None:
    report = verify_bundle(bundle, public_key=keys.public, rebuild=rebuild)
    assert report.ok
    assert found(report, "signature").ok
    assert found(report, "signature").detail == f"signed by the key {report.keyid}"


def test_without_a_key_a_signature_is_said_and_not_checked(bundle: Path) -> None:
    report = verify_bundle(bundle)
    assert report.ok
    assert found(report, "signature").ok is None
    assert found(report, "signature").detail == f"signed by keyid '{report.keyid}', not checked: give --key"


def test_an_unsigned_bundle_fails_where_a_key_is_given(tmp_path: Path, keys: Keys) -> None:
    written(tmp_path / "unsigned.zip")
    report = verify_bundle(tmp_path / "unsigned.zip", public_key=keys.public)
    assert failed(report) == {"signature": "not signed, and a key was given"}


def test_a_bundle_that_another_key_signed_fails(bundle: Path, others: Keys) -> None:
    report = verify_bundle(bundle, public_key=others.public)
    assert failed(report)["signature"].startswith("signed with another key: ")


@pytest.mark.parametrize("with_key", [True, False])
def test_one_changed_byte_anywhere_in_a_signed_bundle_fails(
    with_key: bool, bundle: Path, keys: Keys, tmp_path: Path
) -> None:
    data, other = bundle.read_bytes(), tmp_path / "changed.zip"
    for at in range(0 if with_key else 3, len(data), 6):
        other.write_bytes(changed(data, at, 1 + at % 255))
        assert not verify_bundle(other, public_key=keys.public if with_key else None).ok, f"byte {at}"


def test_a_forged_event_cannot_be_signed_for(bundle: Path, keys: Keys, tmp_path: Path) -> None:
    written(tmp_path / "longer.zip", [execution_line("r1"), *events(4)])
    unsigned = contents(tmp_path / "longer.zip")
    envelope = read_envelope(contents(bundle)[SIGNED])
    resigned = Envelope(unsigned.pop(STATEMENT), envelope.keyid, envelope.signature)
    other = forged(tmp_path / "other.zip", {**unsigned, SIGNED: resigned.to_bytes()})
    report = verify_bundle(other, public_key=keys.public, rebuild=rebuild)
    assert list(failed(report)) == ["signature"]
    assert failed(report)["signature"].endswith("over this statement")


def test_a_signed_statement_does_not_hold_for_other_events(bundle: Path, keys: Keys, tmp_path: Path) -> None:
    files = contents(bundle)
    other = forged(tmp_path / "other.zip", {**files, EVENTS: b"\n".join([execution_line("r1"), *events(4), b""])})
    report = verify_bundle(other, public_key=keys.public)
    assert sorted(failed(report)) == ["digests", "events"]


def envelopes() -> dict[str, bytes]:
    """Return other texts of an envelope, and texts that are none."""
    good = json.loads(ENVELOPE.to_bytes())
    [signature] = good["signatures"]
    return {
        "not JSON": b"envelope",
        "another value": b"[]",
        "no signature": canonical({**good, "signatures": []}),
        "two signatures": canonical({**good, "signatures": [signature, signature]}),
        "another payload type": canonical({**good, "payloadType": "text/plain"}),
        "another field": canonical({**good, "more": 1}),
        "another field in the signature": canonical({**good, "signatures": [{**signature, "cert": "x"}]}),
        "other base64 of the same bytes": canonical({**good, "payload": good["payload"].replace("0=", "1=")}),
        "not base64": canonical({**good, "payload": "ü"}),
        "white space": ENVELOPE.to_bytes() + b"\n",
        "a key twice": ENVELOPE.to_bytes().replace(b'{"payload"', b'{"payload":"e30=","payload"'),
    }


@pytest.mark.parametrize("case", envelopes())
def test_only_one_text_of_an_envelope_is_read(case: str) -> None:
    assert read_envelope(ENVELOPE.to_bytes()) == ENVELOPE
    assert envelopes()[case] != ENVELOPE.to_bytes()
    with pytest.raises(BundleError, match=r"^the envelope ") as caught:
        read_envelope(envelopes()[case])
    assert str(caught.value).isprintable()


# -- other tools ------------------------------------------------------------------------------------------------------


def test_the_signature_is_over_the_encoding_that_dsse_asks_for(bundle: Path, keys: Keys) -> None:
    envelope = json.loads(contents(bundle)[SIGNED])
    payload = base64.b64decode(envelope["payload"])
    [signature] = envelope["signatures"]
    encoded = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    public = keys.key.public_key()
    more = () if isinstance(public, Ed25519PublicKey) else (ec.ECDSA(SHA256()),)
    public.verify(base64.b64decode(signature["sig"]), encoded, *more)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"


def test_securesystemslib_verifies_what_we_sign(bundle: Path, keys: Keys, others: Keys) -> None:
    dsse, signer = import_module("securesystemslib.dsse"), import_module("securesystemslib.signer")
    keyid = verify_bundle(bundle).keyid
    envelope = dsse.Envelope.from_dict(json.loads(contents(bundle)[SIGNED]))
    assert list(envelope.verify([signer.SSlibKey.from_crypto(keys.key.public_key(), keyid)], 1)) == [keyid]
    with pytest.raises(import_module("securesystemslib.exceptions").VerificationError):
        envelope.verify([signer.SSlibKey.from_crypto(others.key.public_key(), keyid)], 1)


def test_we_verify_what_securesystemslib_signs(keys: Keys) -> None:
    dsse, signer = import_module("securesystemslib.dsse"), import_module("securesystemslib.signer")
    keyid = load_signer(keys.private).keyid
    public = signer.SSlibKey.from_crypto(keys.key.public_key(), keyid)
    envelope = dsse.Envelope(b'{"any":"statement"}', "application/vnd.in-toto+json", {})
    envelope.sign(signer.CryptoSigner(keys.key, public))
    assert check_signature(read_envelope(canonical(envelope.to_dict())), keys.public) == keyid


def test_the_statement_validates_as_in_totos_own_library_reads_it(bundle: Path) -> None:
    library, messages = (
        import_module("in_toto_attestation.v1.statement"),
        import_module("in_toto_attestation.v1.statement_pb2"),
    )
    payload = read_envelope(contents(bundle)[SIGNED]).payload
    read = Parse(payload, messages.Statement())
    library.Statement.copy_from_pb(read).validate()
    assert {subject.name: subject.digest["sha256"] for subject in read.subject} == read_statement(payload).digests
    assert read.predicate["events"] == 3


@pytest.mark.skipif(not all(map(shutil.which, ["bash", "unzip", "jq", "openssl"])), reason="needs jq and openssl")
def test_openssl_makes_the_keys_and_checks_the_signature_as_the_readme_says(tmp_path: Path) -> None:
    def openssl(*arguments: str) -> bytes:
        return subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True).stdout

    openssl("genpkey", "-algorithm", "ed25519", "-out", "key.pem")
    openssl("pkey", "-in", "key.pem", "-pubout", "-out", "PUBLIC.pem")
    predicate = written(tmp_path / "run.zip", signer=load_signer(tmp_path / "key.pem"))
    report = verify_bundle(tmp_path / "run.zip", public_key=tmp_path / "PUBLIC.pem")
    assert report.ok
    der = openssl("pkey", "-pubin", "-in", "PUBLIC.pem", "-outform", "DER")
    assert report.keyid == hashlib.sha256(der).hexdigest()

    (tmp_path / "unpacked").mkdir()
    shutil.copy(tmp_path / "PUBLIC.pem", tmp_path / "unpacked")
    done = by_hand(tmp_path / "run.zip", tmp_path / "unpacked", signed=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "Signature Verified Successfully"
    assert done.stdout.splitlines()[-1] == f"{predicate.chain_head} {predicate.chain_head}"


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_a_key_that_openssl_encrypted_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.pem"
    command = ["openssl", "genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:open sesame", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("ASSENT_SIGNING_PASSPHRASE", "open sesame")
    assert len(load_signer(path).keyid) == 64


# -- keys -------------------------------------------------------------------------------------------------------------


def test_an_encrypted_key_takes_its_passphrase_from_the_environment(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = keys.encrypted(b"open sesame")
    monkeypatch.delenv("ASSENT_SIGNING_PASSPHRASE", raising=False)
    with pytest.raises(ConfigurationError, match=r"is encrypted: put its passphrase into ASSENT_SIGNING_PASSPHRASE$"):
        load_signer(path)
    monkeypatch.setenv("ASSENT_SIGNING_PASSPHRASE", "wrong")
    with pytest.raises(ConfigurationError, match=r"cannot be opened with ASSENT_SIGNING_PASSPHRASE$") as caught:
        load_signer(path)
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv("ASSENT_SIGNING_PASSPHRASE", "open sesame")
    assert load_signer(path).keyid == load_signer(keys.private).keyid


def test_a_passphrase_that_a_key_does_not_need_is_ignored(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_SIGNING_PASSPHRASE", "open sesame")
    assert load_signer(keys.private).keyid


def test_a_key_of_another_kind_is_said_with_what_to_do(tmp_path: Path, keys: Keys) -> None:
    key = rsa.generate_private_key(65537, 2048)
    private, public = tmp_path / "rsa.pem", tmp_path / "rsa.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for load in (lambda: load_signer(private), lambda: check_signature(ENVELOPE, public)):
        with pytest.raises(ConfigurationError, match="is of neither Ed25519 nor P-256; make one with: openssl genpkey"):
            load()
    with pytest.raises(ConfigurationError, match="is not a private key in PEM; make one with: openssl genpkey"):
        load_signer(keys.public)
    with pytest.raises(ConfigurationError, match="is not a public key in PEM; make one with: openssl pkey"):
        check_signature(ENVELOPE, keys.private)
    with pytest.raises(ConfigurationError, match=r"cannot be read: No such file or directory$"):
        load_signer(tmp_path / "gone.pem")


def test_a_key_on_another_curve_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigurationError, match="is of neither Ed25519 nor P-256"):
        load_signer(path)


def test_a_signer_does_not_show_its_key(keys: Keys) -> None:
    assert repr(load_signer(keys.private)) == f"Signer(keyid='{load_signer(keys.private).keyid}')"


def test_without_the_extra_bundles_are_written_and_checked_and_signatures_say_what_to_install(
    bundle: Path, keys: Keys, tmp_path: Path
) -> None:
    code = f"""
import sys
sys.modules["cryptography"] = None
from datetime import UTC, datetime
from pathlib import Path
from assent.audit.bundle_writer import new_bundle
from assent.audit.bundle_checker import verify_bundle
from assent.wire.errors import ConfigurationError
from assent.audit.hash_chain import execution_line
from assent.audit.signing import load_signer
path = Path({str(tmp_path / "unsigned.zip")!r})
with new_bundle(path, run_id="w") as new:
    new.add_event(execution_line("r"))
    new.finish(records=[], verification=b"[]", exported_at=datetime.now(UTC))
assert verify_bundle(path).ok
assert verify_bundle(Path({str(bundle)!r})).ok
for act in (lambda: load_signer(Path({str(keys.private)!r})),
            lambda: verify_bundle(Path({str(bundle)!r}), public_key=Path({str(keys.public)!r}))):
    try:
        act()
    except ConfigurationError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    line = "signatures need the package cryptography, which is not installed: pip install 'assent-agents[signing]'"
    assert done.stdout.splitlines() == [line, line]
