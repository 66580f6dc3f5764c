"""A browser as far as the page knows: it keeps cookies, follows redirects, and sends back the token of a form."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Final

from httpx import ASGITransport, AsyncClient, Response
from starlette.types import ASGIApp

ORIGIN: Final = "https://approvals.example.com"
PROXY: Final = "10.1.2.3"


@dataclass
class Visitor:
    """One person at one browser, behind the proxy that signs people in, unless *name* is empty."""

    http: AsyncClient

    @classmethod
    def at(cls, app: ASGIApp, name: str = "", *, address: str = PROXY, origin: str = ORIGIN) -> Visitor:
        headers = [(b"x-forwarded-user", name.encode())] if name else []
        transport = ASGITransport(app=app, client=(address, 1234), raise_app_exceptions=False)
        return cls(AsyncClient(transport=transport, base_url=origin, headers=headers))

    async def get(self, path: str) -> Response:
        return await self.http.get(path)

    async def post(self, path: str, *, origin: str | None = None, **fields: str) -> Response:
        """Fill in the form of a page, as its buttons do."""
        if "token" not in fields:
            found = re.search(r'name="token" value="([^"]+)"', (await self.get(path)).text)
            fields["token"] = html.unescape(found[1]) if found else ""
        headers = {"origin": origin or str(self.http.base_url).rstrip("/")}
        return await self.http.post(path, data=fields, headers=headers)

    async def decide(self, path: str, **fields: str) -> str:
        """Post a form, and return the text of the page after it."""
        answer = await self.post(path, **fields)
        assert answer.status_code == 303, words(answer)
        return words(await self.get(answer.headers["location"]))


def words(answer: Response) -> str:
    """What a page shows: its text without markup."""
    body = answer.text.partition("<body>")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
