"""What visibility holds of a run, within its bounds: search attributes, and the memo for where there are none.

Pure; safe in workflow code.
"""

from __future__ import annotations

import json
from typing import Final

from assent.protocol import RunRequest


def request_memo(request: RunRequest | None) -> dict[str, str]:
    """The memo `assent_request`: who asked which agent, for inboxes where no search attributes are registered."""
    if request is None:
        return {}
    asked = {"requested_by": request.requested_by} if request.requested_by else {}
    return {"agent": request.agent, **asked}


KEYWORDS: Final = 2_000
"""Bytes (as ASCII JSON) of a search attribute; over 2 KiB the server terminates the run."""
ANY_TOOL: Final = "*"
"""Stands in `AssentWaitingOn` for more tools than fit."""


def keyword(text: str) -> str:
    """The beginning of *text* that fits into a search attribute."""
    while len(json.dumps(text)) > KEYWORDS:
        text = text[:-1]
    return text
