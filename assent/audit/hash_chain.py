"""The hash chain over a run's history: one digest for all events and their order.

    head 0  =  SHA-256 of the canonical JSON of ["assent.chain.v1", run_id]
    head i  =  SHA-256 of head i-1 as 64 hex digits, a line feed, and line i

A line is the canonical JSON text of one history event, or of a marker: `{"execution": ID}` begins each execution of
the run, and `{"missing": ID}` stands for one that could not be had. What precedes the first line feed has a
fixed length and no line holds one, so no byte can move between lines; head 0 begins with a bracket, which no other
digest's input does.
"""

import hashlib
from typing import Final

from assent.wire.digest import canonical, sha256_hex
from assent.wire.errors import BundleError

DOMAIN: Final = "assent.chain.v1"


class HashChain:
    """The hash chain of the run *run_id*, which grows line by line."""

    __slots__ = ("_head", "_length")

    def __init__(self, run_id: str) -> None:
        self._head = sha256_hex(canonical([DOMAIN, run_id]))
        self._length = 0

    @property
    def head(self) -> str:
        """The digest of every line so far, and of their order, as 64 hex digits."""
        return self._head

    @property
    def length(self) -> int:
        """The number of lines, markers included."""
        return self._length

    def extend(self, line: bytes) -> None:
        """Append one line, given without a line feed.

        Raises:
            BundleError: *line* holds a line feed, so that a file of lines would read as other lines.
        """
        if b"\n" in line:
            message = f"line {self._length + 1} of the chain holds a line feed: give the canonical JSON of one event"
            raise BundleError(message)
        digest = hashlib.sha256(self._head.encode())
        digest.update(b"\n")
        digest.update(line)
        self._head = digest.hexdigest()
        self._length += 1


def execution_line(execution_id: str) -> bytes:
    """Return the marker that begins the events of one execution."""
    return canonical({"execution": execution_id})


def missing_line(execution_id: str) -> bytes:
    """Return the marker that stands for an execution whose events are gone."""
    return canonical({"missing": execution_id})
