"""Environment variables: of this process for a while, and of its children."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_OTHERS: Final = ("TEMPORAL_", "ASSENT_")


@contextmanager
def variables(**values: str) -> Generator[None]:
    """Set these variables while the block runs, and let no proxy stand between this machine and itself."""
    around = os.environ.get("NO_PROXY", "")
    values["NO_PROXY"] = f"{around},127.0.0.1,localhost" if around else "127.0.0.1,localhost"
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def child_environment(address: str) -> dict[str, str]:
    """The environment of a child that is to use the server at *address*, whatever the user's own settings name."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    ours = {"TEMPORAL_ADDRESS": address, "TEMPORAL_CONFIG_FILE": os.devnull, "PYTHONPATH": path}
    return kept | ours
