"""The approvers file: one line says what is wrong with it, and where."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from assent.proof.approvers import Approvers
from assent.wire.errors import ConfigurationError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDU/fZxnAHqALjkhueUCVsTD1wEw69ESOH33IvwCmlpa"
BOB = f'[[people]]\nname = "bob"\n[[people.keys]]\nssh = "{KEY} bob@work"\n'
PASSKEYS = '[site]\nrp_id = "s"\norigins = ["https://s"]\n' + "".join(
    f'[[people]]\nname = "{name}"\n[[people.keys]]\npasskey = "{name}s"\npublic_key = "pQEC"\n'
    for name in ("bob", "eve")
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("people = 3", "people: "),
        ("peple = []", "peple: Extra inputs are not permitted"),
        ("[[people]]\n", "people.0.name: Field required"),
        ('[[people]]\nname = "\u200b"\n', "is no name"),
        (BOB + '[[people]]\nname = "BOB"\n', "'BOB' names both 'bob' and 'BOB'"),
        (BOB + '[[people]]\nname = "eve"\nalso_known_as = ["bob"]\n', "'bob' names both 'bob' and 'eve'"),
        (BOB + BOB.replace("bob", "eve"), "'bob' and 'eve' have the same key"),
        (PASSKEYS, "'bob' and 'eve' have the same key"),
        (
            '[[services]]\nname = "s"\npublic_key = "NT99nGcAeoAuOSG55QJWxMPXATDr0RI4ffci_AKaWlo"\n' + BOB,
            "'the service s' and 'bob' have the same key",
        ),
        ('[[services]]\nname = "s"\npublic_key = "AA"\n', "give an Ed25519 public key: 43 characters of base64url"),
        ('[[people]]\nname = "a"\n[[people.keys]]\nssh = "AAAA"\n', "give a public key as in a .pub file"),
        (
            '[[people]]\nname = "a"\n[[people.keys]]\nssh = "ssh-dss AAAA"\n',
            "keys of the type ssh-dss cannot be checked here",
        ),
        ('[[people]]\nname = "a"\n[[people.keys]]\npasskey = "x"\npublic_key = "y"\n', "[site] rp_id, origins"),
        (BOB.replace("\n", '\nlogins = { "slack:T1" = "U1" }\n', 1), "'slack:T1', which is no [[issuers]] url"),
        (
            '[[issuers]]\nurl = "i"\n'
            + "".join(f'[[people]]\nname = "{name}"\nlogins = {{ "i" = "U1" }}\n' for name in "ab"),
            "'a' and 'b' have the same login 'U1'",
        ),
        ('digest = "x"', "digest: Assent computes it"),
        ("name = ", "not TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Approvers.from_toml(text, where="approvers.toml")
    assert str(caught.value).startswith("approvers.toml: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: the approvers file cannot be read"):
        Approvers.from_file(tmp_path / "none.toml")


def test_keys_of_an_allowed_signers_file_are_those_of_its_principals(tmp_path: Path) -> None:
    path = tmp_path / "approvers.toml"
    path.write_text(
        'allowed_signers = "allowed_signers"\n[[people]]\nname = "bob"\nalso_known_as = ["bob@example.com"]\n'
    )
    signers = tmp_path / "allowed_signers"
    dates = 'valid-after="20260101Z",valid-before="202701010000Z"'
    signers.write_text(
        f'# keys\nbob@example.com namespaces="assent-decision",{dates} {KEY} work\nbob namespaces="git" {KEY}\n'
    )
    [(person, key)] = Approvers.from_file(path).ssh_key(KEY)
    assert person.name == "bob"
    assert [key.is_valid(datetime(year, 6, 1, tzinfo=UTC)) for year in (2025, 2026, 2027)] == [False, True, False]
    before = Approvers.from_file(path).digest
    signers.write_text(f"bob {KEY}\n")
    assert Approvers.from_file(path).digest != before
    for line, why in ((f"eve {KEY}", "no person of this name"), (f"* {KEY}", "patterns are not supported")):
        signers.write_text(line + "\n")
        with pytest.raises(ConfigurationError, match=why):
            Approvers.from_file(path)
