"""A page of a longer list, and the token that the next one is asked for with.

A token carries a check of the question it belongs to: with other filters it would go on in the middle of another list.

Pure; safe in workflow code.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Final, TypeVar

from assent.wire.errors import MessageError

_T = TypeVar("_T")
_CHECK: Final = 6
"""Bytes of a token that tell its question."""
_BEGIN: Final = "p"
"""A token that began with a dash would look like an option to a command line."""


class Page(list[_T]):
    """A list that knows where it continues: *next_page_token* is None on the last page.

    *total* is how many there are in all, where the server counts them without reading them (of the inbox: runs).
    """

    def __init__(self, items: Iterable[_T] = (), next_page_token: str | None = None, total: int | None = None) -> None:
        super().__init__(items)
        self.next_page_token = next_page_token
        self.total = total


def token_of(question: object, position: bytes) -> str:
    """The token that goes on at *position* of the list that *question*, by its `repr`, asks for."""
    return _BEGIN + base64.urlsafe_b64encode(_check(question) + position).decode().rstrip("=")


def position_of(question: object, token: str | None) -> bytes:
    """The position that a token holds; empty without one.

    Raises:
        MessageError: it is no token, or one of another question.
    """
    if token is None:
        return b""
    text = token.strip().removeprefix(_BEGIN)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if raw[:_CHECK] != _check(question) or len(raw) == _CHECK:
        message = f"{token!r} is no page token of this list; give the same filters as for the page before"
        raise MessageError(message)
    return raw[_CHECK:]


def check_limit(limit: int, *, least: int = 0) -> None:
    """Refuse a page that is too small.

    Raises:
        MessageError: *limit* is less than *least*.
    """
    if limit < least:
        message = f"the limit is {limit}; it must be {least} or more: it is how many a page may hold"
        raise MessageError(message)


def _check(question: object) -> bytes:
    return hashlib.sha256(repr(question).encode("utf-8", "surrogatepass")).digest()[:_CHECK]
