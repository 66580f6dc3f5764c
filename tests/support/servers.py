"""What may answer in the place of a Temporal server: TLS in front of one, one that refuses, another program."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler = Callable[[StreamReader, StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path

    def locked_key(self) -> bytes:
        """Return the key as PEM that needs a password."""
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(b"secret")
        return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


class Authority:
    """An authority that issues certificates, into a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name
        own = self._builder(name, self._key, days=10)
        self._issued = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = folder / f"{name}.pem"
        signed = self._issued.sign(self._key, hashes.SHA256())
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, host: str = "localhost", since: int = -30, days: int = 10) -> Identity:
        """Issue a certificate for a *host* that is valid *since* so many days from now, until so many *days*."""
        key = ec.generate_private_key(ec.SECP256R1())
        hosts = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = self._builder(name, key, since=since, days=days).add_extension(hosts, critical=False)
        made = Identity(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        signed = builder.sign(self._key, hashes.SHA256())
        made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return made

    def _builder(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, days: int, since: int = -30
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=since))
            .not_valid_after(now + timedelta(days=days))
        )


def server_side(identity: Identity, clients_of: Authority | None = None) -> ssl.SSLContext:
    """Make the server's side of TLS; with *clients_of*, clients need a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    context.set_alpn_protocols(["h2"])
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients_of.certificate)
    return context


@asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """Listen on a port of this machine while the block runs."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()

    def accept(reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def in_front_of(address: str) -> Handler:
    """Pass everything on to the server at *address*."""
    host, port = address.split(":")

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_pass(reader, back), _pass(there, writer))

    return handle


async def _pass(source: StreamReader, target: StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    finally:
        target.close()


def answering(status: int, message: str, *, after: int = 0) -> Handler:
    """Answer each gRPC call of a connection with this status, *after* so many that succeed and say nothing."""

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readexactly(24)
        writer.write(_frame(4, 0, b"\0\0\0\0"))
        left = after
        while True:
            head = await reader.readexactly(9)
            body = await reader.readexactly(int.from_bytes(head[:3]))
            kind, flags, stream = head[3], head[4], head[5:9]
            if kind == 4 and not flags & 1:
                writer.write(_frame(4, 1, b"\0\0\0\0"))
            elif kind == 6 and not flags & 1:
                writer.write(_frame(6, 1, b"\0\0\0\0", body))
            elif kind == 1:
                refuses, left = left <= 0, left - 1
                fields = b"\x88" + _field("content-type", "application/grpc")
                if not refuses:
                    writer.write(_frame(1, 4, stream, fields) + _frame(0, 0, stream, bytes(5)))
                    fields = b""
                fields += _field("grpc-status", str(status if refuses else 0)) + _field("grpc-message", message)
                writer.write(_frame(1, 5, stream, fields))
            await writer.drain()

    return handle


def _frame(kind: int, flags: int, stream: bytes, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream + body


def _field(name: str, value: str) -> bytes:
    """A header of HTTP/2 without compression."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


async def speaks_http(reader: StreamReader, writer: StreamWriter) -> None:
    """Answer as a web server of HTTP 1.1."""
    await reader.read(1_000)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def says_hello(reader: StreamReader, writer: StreamWriter) -> None:
    """Speak first, as an SSH server does."""
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await writer.drain()
    await reader.read(1_000)


async def says_nothing(reader: StreamReader, _: StreamWriter) -> None:
    """Take what comes."""
    while await reader.read(1_000):
        pass


async def hangs_up(_: StreamReader, writer: StreamWriter) -> None:
    """Close at once."""
    writer.close()
