"""A server of other people, whose answers to calls are held: `python mcp_held.py FOLDER COMMAND ARG…`.

What it was called for is done, and not reported. `FOLDER/held` gets the ids of both processes once an answer is held.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 2.0


def main() -> None:
    """Pass on what the server writes, and an answer to a call later. Its input is the server's."""
    held = Path(sys.argv[1]) / "held"
    with subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE) as server:
        for line in server.stdout or ():
            if "content" in json.loads(line).get("result", {}):
                with held.open("a") as file:
                    file.write(f"{os.getpid()} {server.pid}\n")
                time.sleep(SECONDS)
            sys.stdout.buffer.write(line)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
