"""The activities that a worker runs: the model call, the tool calls and the notices."""

from .activities import Activities

__all__ = ["Activities"]
