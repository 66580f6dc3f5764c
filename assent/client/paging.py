"""Pages of a list, and the tokens that ask for the next page.

A token holds a hash of its query: with other filters it would continue in the middle of another list.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Final, TypeVar

from assent.wire.errors import MessageError

_T = TypeVar("_T")
_CHECK: Final = 6
"""Bytes of a token that identify its query."""
_BEGIN: Final = "p"
"""A token that began with a dash would look like an option on a command line."""


class Page(list[_T]):
    """A list that knows where it continues: *next_page_token* is None on the last page.

    *total* is how many there are in all, where the server counts them without reading them (of the inbox: runs).
    *unreadable* are the runs that could not be read and are missing from the list.
    """

    def __init__(
        self,
        items: Iterable[_T] = (),
        next_page_token: str | None = None,
        total: int | None = None,
        unreadable: Iterable[str] = (),
    ) -> None:
        super().__init__(items)
        self.next_page_token = next_page_token
        self.total = total
        self.unreadable = sorted(unreadable)


def token_of(query: object, position: bytes) -> str:
    """Return the token for *position* in the list that *query* (by its `repr`) asks for."""
    return _BEGIN + base64.urlsafe_b64encode(_check(query) + position).decode().rstrip("=")


def position_of(query: object, token: str | None) -> bytes:
    """Return the position that a token holds; empty without a token.

    Raises:
        MessageError: it is not a token, or one of another query.
    """
    if token is None:
        return b""
    text = token.strip().removeprefix(_BEGIN)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if raw[:_CHECK] != _check(query) or len(raw) == _CHECK:
        raise MessageError(f"{token!r} is not a page token of this list; give the same filters as for the page before")
    return raw[_CHECK:]


def check_limit(limit: int, *, least: int = 0) -> None:
    """Refuse a page size that is too small.

    Raises:
        MessageError: *limit* is less than *least*.
    """
    if limit < least:
        raise MessageError(f"the limit is {limit}; it must be {least} or more: it is how many a page may hold")


def _check(query: object) -> bytes:
    return hashlib.sha256(repr(query).encode("utf-8", "surrogatepass")).digest()[:_CHECK]
