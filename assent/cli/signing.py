"""Signs decisions with an SSH key: `--sign` of the commands that decide, and the command `sign`."""

import asyncio
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import JsonValue

from assent.cli import exit_codes
from assent.cli.common import By, CallId, RunId, connection_options, emit, warn
from assent.cli.connect import with_client
from assent.cli.parsing import json_object, json_value, seconds_of
from assent.client.client import AgentClient
from assent.client.run_handle import RunHandle
from assent.views.commands import shell_quoted
from assent.wire import protocol
from assent.wire.errors import ConfigurationError, MessageError
from assent.wire.proofs import NAMESPACE, DecisionStatement, SshProof
from assent.wire.text import one_line

DEFAULT_KEY: Final = Path("~/.ssh/id_ed25519")
_PATIENCE: Final = 120.0
"""Seconds that ssh-keygen may take: a person may have to type a passphrase, or touch a key."""

Sign = Annotated[bool, typer.Option("--sign", help="Prove who decides: sign it with your SSH key (ssh-keygen).")]
Key = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"The key that signs; a .pub file for one in ssh-agent. Default: {DEFAULT_KEY}.",
        envvar="ASSENT_SIGNING_KEY",
    ),
]


async def signed(
    run: RunHandle,
    signal: str,
    body: Mapping[str, JsonValue],
    key: Path | None,
    valid_for: timedelta = timedelta(minutes=10),
) -> dict[str, JsonValue]:
    """Return the body of a decision with the proof of who sends it.

    Raises:
        ConfigurationError: ssh-keygen is not there, or does not sign with this key. One line.
        MessageError, RequirementNotFoundError: as `RunHandle.statement`.
    """
    statement = await run.statement(signal, body, valid_for=valid_for)
    proof = await asyncio.to_thread(ssh_proof, statement, key)
    return {**body, "proof": proof.model_dump(mode="json")}


def ssh_proof(statement: DecisionStatement, key: Path | None) -> SshProof:
    """Sign a statement with ssh-keygen, which may ask for a passphrase, or for a touch.

    Raises:
        ConfigurationError: ssh-keygen is not there, or does not sign with this key. One line.
    """
    return SshProof(
        kind="sshsig",
        signature=ssh_signature(statement.signed_bytes(), NAMESPACE, key),
        issued_at=statement.issued_at,
        expires_at=statement.expires_at,
    )


def ssh_signature(data: bytes, namespace: str, key: Path | None) -> str:
    """Sign bytes with ssh-keygen, for one purpose, the *namespace*. Raises as `ssh_proof`."""
    path = (key or DEFAULT_KEY).expanduser()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(path)]
    try:
        signed = subprocess.run(  # noqa: S603 - no shell, and the key is the caller's own file
            command, input=data, capture_output=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError:
        raise ConfigurationError("ssh-keygen is not installed; it signs decisions") from None
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"ssh-keygen did not sign within {_PATIENCE:g} s") from None
    if signed.returncode:
        reason = one_line(signed.stderr.decode("utf-8", "replace").strip()) or f"exit code {signed.returncode}"
        raise ConfigurationError(f"ssh-keygen does not sign with {path}: {reason}; name your key with --key")
    return signed.stdout.decode("ascii")


def sign(
    context: typer.Context,
    run: RunId,
    call: CallId,
    *,
    by: By,
    reject: Annotated[bool, typer.Option("--reject", help="Reject the call; otherwise it is approved.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    arguments: Annotated[str | None, typer.Option(metavar="JSON", help="Approve it with these arguments.")] = None,
    values: Annotated[str | None, typer.Option(metavar="JSON", help="Submit the values that it asks for.")] = None,
    output: Annotated[str | None, typer.Option(metavar="JSON", help="Submit the result of an external call.")] = None,
    valid_for: Annotated[str, typer.Option(metavar="TIME", help="How long it counts: 30m, 2h, up to 7d.")] = "1h",
    key: Key = None,
) -> int:
    """Print a signed decision as JSON, to be sent with the `temporal` CLI or by a program; nothing is sent."""
    options = {"--reject": reject or None, "--arguments": arguments, "--values": values, "--output": output}
    named = [name for name, value in options.items() if value is not None]
    if len(named) > 1:
        raise MessageError(f"{' and '.join(named)} are different decisions; give one")
    signal, body = protocol.APPROVE, dict[str, JsonValue](id=call, by=by)
    if reject:
        signal = protocol.REJECT
    elif arguments is not None:
        body["arguments"] = json_object("--arguments", arguments)
    elif values is not None:
        signal, body["values"] = protocol.SUBMIT_INPUT, json_object("--values", values)
    elif output is not None:
        signal, body["output"] = protocol.SUBMIT_RESULT, json_value("--output", output)
    if reason is not None:
        body["reason"] = reason
    valid = timedelta(seconds=seconds_of("--valid-for", valid_for))

    async def work(client: AgentClient) -> int:
        handle = client.get_run(run)
        emit(await signed(handle, signal, body, key, valid))
        command = f"temporal workflow signal --workflow-id {shell_quoted(run)} --name {signal} --input-file FILE"
        warn(f"nothing was sent; to send it: {command}")
        return exit_codes.DONE

    return with_client(connection_options(context), work)
