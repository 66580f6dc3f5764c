"""The command `web`: the page on which people decide, in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from assent.cli import exit_codes
from assent.cli.common import place_of
from assent.cli.connect import with_client
from assent.client.client import AgentClient
from assent.runtime.logs import configure_logs
from assent.wire.errors import ConfigurationError


def web(
    context: typer.Context,
    *,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to listen. Default: 127.0.0.1:8234.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The address that browsers use: https://approvals.example.com.")
    ] = None,
    trusted_header: Annotated[
        str | None, typer.Option(metavar="HEADER", help="A proxy signs people in and names them in this header.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="An address or network of that proxy (repeatable)."),
    ] = None,
    demo_sign_in: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="To try it: everyone on this machine is signed in under this name."),
    ] = None,
) -> int:
    """Serve the page on which people decide, in a browser. Needs no worker.

    People sign in by OpenID Connect (ASSENT_WEB_OIDC_ISSUER, ASSENT_WEB_OIDC_CLIENT_ID, ASSENT_WEB_OIDC_CLIENT_SECRET),
    or by a header of a proxy. Every option is a variable, too: ASSENT_WEB_LISTEN, ASSENT_WEB_URL, …
    """
    try:
        from assent.web.app import serve
        from assent.web.settings import WebSettings
    except ModuleNotFoundError as error:
        message = f"the approvals page needs the package {error.name}; install the extra `web`"
        raise ConfigurationError(message) from None
    configure_logs()
    settings = WebSettings.read(
        listen=listen, url=url, trusted_header=trusted_header, trusted_proxies=trusted_proxy, demo_sign_in=demo_sign_in
    )

    async def work(client: AgentClient) -> int:
        print(f"Approvals at {settings.base}", flush=True)
        await serve(client, settings)
        return exit_codes.DONE

    return with_client(place_of(context), work)
