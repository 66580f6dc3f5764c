"""The `assent` command: `assent --help`, and `docs/cli.md`.

I/O; not in workflow code.
"""

from assent.cli.main import main

__all__ = ["main"]
