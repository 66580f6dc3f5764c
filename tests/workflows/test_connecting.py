"""Temporal cannot be reached or used: one line says the cause and what to check, and programs exit with 4."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from assent import Agent, AgentClient, ConfigurationError, OpenAIChat, ServerUnreachableError
from assent.runtime import connection
from assent.runtime.embedded_server import free_port
from assent.runtime.settings import Settings
from assent.testing import Environment
from assent.worker import serving
from tests.support import servers
from tests.support.preloaded import assent_command, python_command
from tests.support.servers import Authority, answering, in_front_of, listening, server_side

ROOT = Path(__file__).parents[2]
AGENTS = """
from assent import Agent, OpenAIChat

agent = Agent(name="a", model=OpenAIChat("m", base_url="http://127.0.0.1:9/v1"))
"""
PORT = "check the port (7233 unless you chose another, not that of the Web UI)"
NO_TLS = f"it does not speak Temporal's protocol without TLS; {PORT}; if it uses TLS, set TEMPORAL_TLS=true"
BROKEN_OFF = f"it breaks the TLS connection off; {PORT}; if it asks for a client's certificate, set TEMPORAL_TLS_"


async def refused(address: str, **options: str) -> str:
    """Return the one line that says why the server at *address* cannot be used."""
    with pytest.raises(ServerUnreachableError) as caught:
        await AgentClient.connect(address, **options)
    [line] = str(caught.value).splitlines()
    assert "worker.py" not in line
    assert "tonic" not in line
    return line


@pytest.fixture(autouse=True)
def _no_temporal_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("TEMPORAL_"):
            monkeypatch.delenv(name)


# -- the address ------------------------------------------------------------------------------------------------------


async def test_nothing_listens_at_the_address() -> None:
    address = f"localhost:{free_port()}"
    told = "nothing listens there; start one (assent worker --embedded), or set TEMPORAL_ADDRESS"
    assert await refused(address) == f"no Temporal server answers at {address}: {told}"


async def test_the_host_is_unknown() -> None:
    told = "no Temporal server answers at nowhere.invalid:7233: the name of its host is unknown; check TEMPORAL_ADDRESS"
    assert await refused("nowhere.invalid:7233") == told


@pytest.mark.parametrize(
    "address",
    ["localhost", "localhost:", "localhost:x", "localhost:99999", "http://localhost:7233", "::1:7233", "a b:1"],
)
async def test_what_is_no_address_is_refused_before_anything_is_tried(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await AgentClient.connect(address)
    told = f"the address of Temporal, {address!r}, is not HOST:PORT, e.g. localhost:7233; check TEMPORAL_ADDRESS"
    assert str(caught.value) == told


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.5)
    async with listening(servers.says_nothing) as port:
        assert "it takes the connection and says nothing; check the port" in await refused(f"localhost:{port}")


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (servers.speaks_http, NO_TLS),
        (servers.says_hello, NO_TLS),
        (servers.hangs_up, NO_TLS),
        (
            answering(12, "unknown service temporal.api"),
            "the server is not a Temporal server (unknown service",
        ),
        (answering(8, "too many"), "cannot be used: it answers ResourceExhausted (too many); try again, or check"),
        (answering(14, "no hosts"), "cannot be used: it answers Unavailable (no hosts); try again, or check"),
    ],
)
async def test_something_else_listens_at_the_port(handler: servers.Handler, told: str) -> None:
    async with listening(handler) as port:
        assert told in await refused(f"localhost:{port}")


# -- TLS --------------------------------------------------------------------------------------------------------------


async def test_tls_towards_a_server_without_it(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = assent_environment.server.address.replace("127.0.0.1", "localhost")
    told = f"the server at {address} cannot be used: it does not use TLS; check the port; an API key or a TEMPORAL_TLS_"
    for variable, value in (("TEMPORAL_TLS", "true"), ("TEMPORAL_API_KEY", "hunter2")):
        with monkeypatch.context() as patched:
            patched.setenv(variable, value)
            line = await refused(address)
            assert line.startswith(told)
            assert "hunter2" not in line


async def test_certificates_that_do_not_fit(
    assent_environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server, client, stranger = authority.issue("server"), authority.issue("client"), other.issue("unknown")
    ca, cert, key = (f"TEMPORAL_TLS_{name}_PATH" for name in ("SERVER_CA_CERT", "CLIENT_CERT", "CLIENT_KEY"))
    trusted, mine = {ca: authority.certificate}, {cert: client.certificate, key: client.key}
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    locked = tmp_path / "locked.key"
    locked.write_bytes(client.locked_key())
    no_http2 = server_side(server)
    no_http2.set_alpn_protocols([])
    sides = {
        "plain": server_side(server),
        "mutual": server_side(server, authority),
        "other name": server_side(authority.issue("elsewhere", host="elsewhere.test")),
        "expired": server_side(authority.issue("expired", days=-1)),
        "early": server_side(authority.issue("early", since=1)),
        "no http2": no_http2,
    }
    cases: list[tuple[str, dict[str, Path], str]] = [
        ("plain", {}, NO_TLS),
        (
            "plain",
            {ca: other.certificate},
            "its certificate is from an authority that is not trusted here; check",
        ),
        (
            "plain",
            {ca: garbage},
            "its certificate is from an authority that is not trusted here; check",
        ),
        (
            "other name",
            trusted,
            "its certificate is for another name; check TEMPORAL_ADDRESS and",
        ),
        ("expired", trusted, "its certificate has expired; renew the certificate of the server"),
        ("early", trusted, "its certificate is not valid yet; check the clocks of this machine and of the server"),
        ("no http2", trusted, f"it does not speak HTTP/2 over TLS; {PORT}"),
        ("mutual", trusted, BROKEN_OFF),
        ("mutual", {**trusted, cert: stranger.certificate, key: stranger.key}, BROKEN_OFF),
        (
            "mutual",
            {**trusted, **mine, key: stranger.key},
            "the client's certificate and key do not fit each other",
        ),
        *(
            ("mutual", {**trusted, **mine, **files}, "do not fit each other, or are not PEM without a password; check")
            for files in ({cert: garbage, key: garbage}, {cert: garbage}, {key: garbage}, {key: locked})
        ),
    ]
    async with AsyncExitStack() as stack:
        passing = in_front_of(assent_environment.server.address)
        ports = {name: await stack.enter_async_context(listening(passing, side)) for name, side in sides.items()}
        for side, files, told in cases:
            with monkeypatch.context() as patched:
                for variable, path in files.items():
                    patched.setenv(variable, str(path))
                line = await refused(f"localhost:{ports[side]}")
                # A server that refuses a certificate may do so with a word of TLS, or by hanging up.
                alert = "it refuses the TLS connection" if told is BROKEN_OFF else told
                assert told in line or alert in line, (side, files)
        for variable, path in {**trusted, **mine}.items():
            monkeypatch.setenv(variable, str(path))
        assert await AgentClient.connect(f"localhost:{ports['mutual']}")


async def test_half_of_a_clients_certificate_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(Authority(tmp_path).certificate))
    with pytest.raises(ConfigurationError, match="the Temporal settings do not fit: Must have both client cert"):
        await AgentClient.connect("localhost:7233")


# -- credentials and namespaces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1])
async def test_a_wrong_key_is_told_of_with_the_servers_own_words(after: int) -> None:
    async with listening(answering(16, "invalid token", after=after)) as port:
        told = "does not accept the credentials (invalid token); check TEMPORAL_API_KEY, or"
        assert told in await refused(f"localhost:{port}")


async def test_a_client_that_may_not_read_the_namespace_is_told_so_by_its_first_call() -> None:
    async with listening(answering(7, "Request unauthorized.", after=1)) as port:
        client = await AgentClient.connect(f"localhost:{port}")
        for call in (client.pending(), client.get_run("r").state(), client.start("a", "Go.")):
            with pytest.raises(ServerUnreachableError, match=r"does not permit this \(Request unauthorized\.\); check"):
                await call
    async with listening(answering(7, "Request unauthorized.")) as port:
        told = "it does not permit this with these credentials (Request unauthorized.); check TEMPORAL_API_KEY, or"
        assert told in await refused(f"localhost:{port}")


async def test_a_namespace_that_is_not_there(assent_environment: Environment) -> None:
    told = "Namespace nowhere is not found on the Temporal server; check --namespace or TEMPORAL_NAMESPACE"
    assert await refused(assent_environment.server.address, namespace="nowhere") == told


@pytest.mark.parametrize("namespace", ["", " ", "a\nb", "\x1b[31mred"])
async def test_what_is_no_name_of_a_namespace_is_refused_before_anything_is_tried(namespace: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await AgentClient.connect(f"localhost:{free_port()}", namespace=namespace)
    assert str(caught.value) == f"the namespace {namespace!r} is no name; check --namespace or TEMPORAL_NAMESPACE"


async def test_a_namespace_whose_name_the_server_does_not_take(assent_environment: Environment) -> None:
    told = "does not accept the namespace (Namespace length exceeds limit.); check --namespace or TEMPORAL_NAMESPACE"
    assert told in await refused(assent_environment.server.address, namespace="n" * 2_000)


async def test_a_worker_finds_out_before_it_says_that_it_serves() -> None:
    agent = Agent(name="a", model=OpenAIChat("m", base_url="http://127.0.0.1:9/v1"))
    async with listening(answering(7, "Request unauthorized.", after=1)) as port:
        client = await connection.connect(f"localhost:{port}")
        with pytest.raises(ServerUnreachableError, match="does not permit this"):
            async with serving(client, [agent], Settings(task_queue="q")):
                pass


async def test_a_worker_whose_credentials_end_says_so() -> None:
    agent = Agent(name="a", model=OpenAIChat("m", base_url="http://127.0.0.1:9/v1"))
    async with listening(answering(7, "Request unauthorized.", after=3)) as port:
        client = await connection.connect(f"localhost:{port}")
        told = (
            r"no longer answers this worker \(PermissionDenied: Request unauthorized\.\); check TEMPORAL_NAMESPACE and"
        )
        with pytest.raises(ServerUnreachableError, match=told):
            async with asyncio.timeout(30), serving(client, [agent], Settings(task_queue="q")):
                await asyncio.Event().wait()


# -- programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("assent", "pending"),
        ("assent", "worker", "--agents", "my_agents"),
        ("worker.py", "--agents", "my_agents"),
        ("starter.py", "a", "Go."),
    ],
)
async def test_a_program_says_one_line_and_exits_with_4(
    assent_environment: Environment, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "my_agents.py").write_text(AGENTS)
    program = assent_command() if command[0] == "assent" else python_command(ROOT / command[0])
    async with listening(answering(16, "invalid token")) as port:
        cases = {
            "Namespace nowhere is not found": (assent_environment.server.address, "nowhere"),
            "does not accept the credentials": (f"localhost:{port}", "default"),
        }
        for told, (address, namespace) in cases.items():
            kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
            process = await asyncio.create_subprocess_exec(
                *program,
                *command[1:],
                cwd=tmp_path,
                env={**kept, "TEMPORAL_ADDRESS": address, "TEMPORAL_NAMESPACE": namespace},
                stdout=PIPE,
                stderr=PIPE,
            )
            out, err = await asyncio.wait_for(process.communicate(), 60)
            assert (process.returncode, out, err.count(b"\n")) == (4, b"", 1), err
            assert told in err.decode()
