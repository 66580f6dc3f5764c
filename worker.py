"""Run a worker: `python worker.py --agents MODULE [--task-queue NAME] [--embedded]`. Ends gracefully on SIGTERM.

`--deployment NAME --build-id ID` switch worker versioning on: see docs/guides/deployment.md. It is `assent worker`
(`assent/cli/worker.py`) of a checkout; what serves the agents is `assent/worker.py`.
"""

import sys

from assent.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["worker", *sys.argv[1:]]))
