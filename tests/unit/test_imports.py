"""What is used is imported, and no more: the help, the version and an agent's module load no Temporal."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_by(code: str) -> set[str]:
    """The modules that a new process loads for *code*, with their packages, apart from Python's own."""
    code = f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name for name in done.stderr.split() if name.split(".")[0] not in sys.stdlib_module_names}


def test_assent_alone_loads_no_other_module() -> None:
    assert loaded_by("import assent") == {"assent", "assent._version"}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_loads_no_temporal_no_model_and_no_command(option: str) -> None:
    loaded = loaded_by(f"from assent.cli import main; assert main([{option!r}]) == 0")
    assert "typer" in loaded
    assert not loaded & {"temporalio", "pydantic", "httpx", "openai", "structlog", "asyncio"}
    assert not loaded & {"assent.client", "assent.wire.protocol", "assent.cli.runs", "assent.cli.connect"}


def test_an_agents_module_loads_no_temporal_and_no_client() -> None:
    loaded = loaded_by("from assent import Agent, Budget, OpenAIResponses, PermissionPolicy, approval, ask_user, tool")
    assert "assent.agents.agent" in loaded
    assert not loaded & {"temporalio", "httpx", "openai", "rich", "typer", "assent.audit", "assent.client"}


def test_a_name_used_first_in_a_sandbox_is_the_hosts_own() -> None:
    # A second copy of a module in the sandbox would have classes of its own, and take memory for each run.
    code = """
import sys, assent
from temporalio.worker.workflow_sandbox import SandboxRestrictions
from temporalio.worker.workflow_sandbox._importer import Importer
from temporalio.worker.workflow_sandbox._restrictions import RestrictionContext
restrictions = SandboxRestrictions.default.with_passthrough_modules("assent")
with Importer(restrictions, RestrictionContext()).applied():
    inside = assent.RunRequest
assert "assent.wire.protocol" in sys.modules
assert inside is sys.modules["assent.wire.protocol"].RunRequest
"""
    assert "assent.wire.protocol" in loaded_by(code)


def test_a_worker_needs_no_opentelemetry_and_loads_neither_its_sdk_nor_jsonschema() -> None:
    loaded = loaded_by("import assent.worker")
    assert not loaded & {"temporalio.contrib.opentelemetry", "opentelemetry.sdk", "jsonschema", "referencing"}
    code = """
import sys
sys.modules["opentelemetry"] = None
import assent.worker
from assent.runtime import tracing
with tracing.tool("refund", "refunds", "c1", "{}", "run") as span:
    span.content("gen_ai.tool.call.result", lambda: 1 / 0)
assert tracing.trace is None and not tracing.is_replay_safe()
"""
    assert "assent.runtime.tracing" in loaded_by(code)
