"""The `assent` command: `assent --help`, and `docs/reference/cli.md`."""

from assent.cli.main import main

__all__ = ["main"]
