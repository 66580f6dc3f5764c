"""Agents as their users write them, and programs that run them. Start one with `python examples/NAME.py`."""
