"""Histories of yesterday, replayed by the code of today: a folder for each version of the rules."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from assent.wire.protocol import RULES_VERSION

HISTORIES: Final = Path(__file__).parent / "histories"
FOLDER: Final = HISTORIES / f"rules-{RULES_VERSION}"
"""Where histories of today's rules are recorded."""
