"""The commands `web`, the page on which people decide, and `invite`, which lets a person make a passkey for it."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import urlsplit

import typer

from assent.cli import exit_codes
from assent.cli.common import connection_options
from assent.cli.connect import with_client
from assent.cli.parsing import seconds_of
from assent.cli.signing import Key, ssh_signature
from assent.client.client import AgentClient
from assent.runtime.logs import configure_logs
from assent.wire.errors import ConfigurationError, MessageError
from assent.wire.proofs import instant


def web(
    context: typer.Context,
    *,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to listen. Default: 127.0.0.1:8234.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The address that browsers use: https://approvals.example.com.")
    ] = None,
    passkeys: Annotated[
        bool, typer.Option("--passkeys", help="People sign in with their passkeys of the approvers file.")
    ] = False,
    trusted_header: Annotated[
        str | None, typer.Option(metavar="HEADER", help="A proxy signs people in and names them in this header.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="An address or network of that proxy (repeatable).")
    ] = None,
    demo_sign_in: Annotated[
        str | None, typer.Option(metavar="NAME", help="For a trial: sign in everyone on this machine under this name.")
    ] = None,
) -> int:
    """Serve the page on which people decide, in a browser. Needs no worker.

    People sign in with a passkey, by OpenID Connect (ASSENT_WEB_OIDC_ISSUER, ASSENT_WEB_OIDC_CLIENT_ID,
    ASSENT_WEB_OIDC_CLIENT_SECRET), or by a header of a proxy. Every option is a variable, too: ASSENT_WEB_LISTEN,
    ASSENT_WEB_URL, …
    """
    try:
        from assent.web.app import listen as listen_at
        from assent.web.app import serve
        from assent.web.settings import WebSettings
    except ModuleNotFoundError as error:
        message = f"the approvals page needs the package {error.name}; install the extra `web`"
        raise ConfigurationError(message) from None
    configure_logs()
    settings = WebSettings.read(
        listen=listen,
        url=url,
        passkeys=passkeys,
        trusted_header=trusted_header,
        trusted_proxies=trusted_proxy,
        demo_sign_in=demo_sign_in,
    )

    async def work(client: AgentClient) -> int:
        listening = listen_at(settings)
        print(f"Approvals at {settings.base}", flush=True)
        await serve(client, settings, listening)
        return exit_codes.DONE

    return with_client(connection_options(context), work)


def invite(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The person's name in the approvers file.", show_default=False)
    ],
    *,
    by: Annotated[str, typer.Option(metavar="NAME", help="Your name: an administrator of the approvers file.")],
    url: Annotated[
        str, typer.Option(metavar="URL", envvar="ASSENT_WEB_URL", help="The address of the approvals page.")
    ],
    valid_for: Annotated[str, typer.Option(metavar="TIME", help="How long the invitation counts: 12h, 2d.")] = "1d",
    key: Key = None,
) -> int:
    """Print a link with which a person makes a passkey. You sign it with your SSH key, as an administrator."""
    try:
        from assent.web.enrolment import NAMESPACE, Invitation
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"invitations need the package {error.name}; install the extra `web`") from None
    parts = urlsplit(url)
    if parts.hostname is None:
        raise MessageError(f"--url is {url!r}; give an address, as https://approvals.example.com")
    until = datetime.now(UTC) + timedelta(seconds=seconds_of("--valid-for", valid_for))
    invitation = Invitation(name, by, parts.hostname, instant(until))
    signature = ssh_signature(invitation.signed_bytes(), NAMESPACE, key)
    sys.stdout.write(f"{url.rstrip('/')}/enrol?invitation={invitation.token(signature)}\n")
    return exit_codes.DONE
