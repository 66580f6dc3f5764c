"""What the programs beside share: somewhere to run, and someone to talk to. None of it is needed in production."""

from examples.support.hackernews_server import hacker_news
from examples.support.processes import run_python, shell_lines, signal_by_hand, temporal_here, worker_process
from examples.support.stage import address_of, model, say, say_verified, soon, stage

__all__ = [
    "address_of",
    "hacker_news",
    "model",
    "run_python",
    "say",
    "say_verified",
    "shell_lines",
    "signal_by_hand",
    "soon",
    "stage",
    "temporal_here",
    "worker_process",
]
