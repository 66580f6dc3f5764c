"""The workflows that a worker runs: deterministic, and thin over the pure core in `assent`."""

from .agent_run import AgentRun
from .serving import RUNNER, worker_for

__all__ = ["RUNNER", "AgentRun", "worker_for"]
