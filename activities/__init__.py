"""The activities that a worker runs: the model call and the tool calls."""

from .activities import Activities

__all__ = ["Activities"]
