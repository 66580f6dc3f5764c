"""The exit codes of the command, for scripts."""

from typing import Final

DONE: Final = 0
NO_EFFECT: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
NO_SERVER: Final = 4
NO_WORKER: Final = 5
BUG: Final = 70
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

_IGNORED: Final = "the decision had no effect (late, duplicate, refused, superseded)"
TABLE: Final = (
    (DONE, "done"),
    (NO_EFFECT, f"the run failed or was cancelled, {_IGNORED}, or a check of an audit or a bundle failed"),
    (USAGE, "wrong usage or settings, or the server refused"),
    (NOT_FOUND, "no such run, call or grant, an ambiguous id, or a run that cannot be read"),
    (NO_SERVER, "no Temporal server answers, or it cannot be used: wrong namespace, credentials, certificate or port"),
    (NO_WORKER, "sent, but no worker has read it (only with --require-answer)"),
    (BUG, "an error in Assent itself"),
    (INTERRUPTED, "interrupted by Ctrl-C"),
)
