"""The workflows that a worker runs: deterministic, and thin over the pure core in `assent`."""

from .agent_run import AgentRun
from .sandbox import RUNNER
from .serving import worker_for

__all__ = ["RUNNER", "AgentRun", "worker_for"]
