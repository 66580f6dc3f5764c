"""Why Temporal cannot be reached or used, and what to check: one line from what the SDK and the server say."""

import re
from typing import Final

from temporalio.service import RPCError, RPCStatusCode

from assent.wire.errors import ConfigurationError, ServerUnreachableError
from assent.wire.text import bounded

_SHOWN: Final = 300
"""Characters of an error of the SDK or the server that a message shows."""
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]]+):([0-9]{1,5})")
_START: Final = "start one (assent worker --embedded), or set TEMPORAL_ADDRESS"
_NAMESPACE: Final = "--namespace or TEMPORAL_NAMESPACE"
_FILES: Final = "TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH"
_PORT: Final = "check the port (7233 unless you chose another, not that of the Web UI)"
_CREDENTIALS: Final = "check TEMPORAL_API_KEY, or TEMPORAL_TLS_CLIENT_CERT_PATH"

_NO_ANSWER: Final[tuple[tuple[str, str, str], ...]] = (
    (r"dns error", "the name of its host is unknown", "check TEMPORAL_ADDRESS"),
    (r"ConnectionRefused", "nothing listens there", _START),
    (r"tcp connect error", "the network does not lead there", "check TEMPORAL_ADDRESS"),
)
"""Where no server answers: an expression for the text of the SDK's core, the cause, and what to check."""
_WRONG: Final[tuple[tuple[str, str, str], ...]] = (
    (
        r"InvalidContentType",
        "it does not use TLS",
        "check the port; an API key or a TEMPORAL_TLS_… variable switches TLS on, TEMPORAL_TLS=false off",
    ),
    (
        r"UnknownIssuer",
        "its certificate is from an authority that is not trusted here",
        "check TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    ),
    (
        r"InvalidCertificate\(NotValidForName",
        "its certificate is for another name",
        "check TEMPORAL_ADDRESS and TEMPORAL_TLS_SERVER_NAME",
    ),
    (r"InvalidCertificate\(Expired", "its certificate has expired", "renew the certificate of the server"),
    (
        r"InvalidCertificate\(NotValidYet",
        "its certificate is not valid yet",
        "check the clocks of this machine and of the server",
    ),
    (r"InvalidCertificate", "its certificate is not valid", "check the certificate of the server"),
    (
        r"KeyMismatch|PrivateKeyParseError|CertificateParseError|InconsistentKeys|NoCertificatesPresented",
        "the client's certificate and key do not fit each other, or are not PEM without a password",
        f"check {_FILES}",
    ),
    (r"H2NotNegotiated", "it does not speak HTTP/2 over TLS", _PORT),
    (r"AlertReceived", "it refuses the TLS connection", f"check {_FILES}"),
    (r"code: Unauthenticated", "it does not accept the credentials", _CREDENTIALS),
    (r"code: PermissionDenied", "it does not permit this with these credentials", _CREDENTIALS),
)
"""Where something answers that cannot be used."""
_BROKEN: Final = re.compile(r"Http2|connection closed|[Bb]roken ?[Pp]ipe|close_notify|Canceled|ConnectionReset|Eof")
_SAID: Final = re.compile(r'code: (\w+), message: "([^"]*)"')


def check_address(address: str) -> None:
    """Refuse what is not the address of a server.

    Raises:
        ConfigurationError: it is a URL, or has no host or port.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 65_536:
        message = f"the address of Temporal, {address!r}, is not HOST:PORT, e.g. localhost:7233; check TEMPORAL_ADDRESS"
        raise ConfigurationError(message)


def check_namespace_name(namespace: str) -> None:
    """Refuse what no namespace is called, and no header can carry.

    Raises:
        ConfigurationError: it is empty, or has characters that cannot be seen.
    """
    if not namespace.strip() or not namespace.isprintable():
        message = f"the namespace {bounded(repr(namespace), _SHOWN)} is no name; check {_NAMESPACE}"
        raise ConfigurationError(message)


def unreachable(address: str, error: BaseException, *, tls: bool) -> ServerUnreachableError:
    """Return why the server at *address* cannot be used, by the SDK's *error*, and what to check."""
    text = str(error)
    if isinstance(error, TimeoutError):
        problem = "it takes the connection and says nothing; check the port, and whether a firewall is between"
        return ServerUnreachableError(f"no Temporal server answers at {address}: {problem}")
    for pattern, cause, check in _NO_ANSWER:
        if re.search(pattern, text):
            return ServerUnreachableError(f"no Temporal server answers at {address}: {cause}; {check}")
    cause, check = _diagnose(text, tls=tls)
    return ServerUnreachableError(f"the server at {address} cannot be used: {cause}; {check}")


def _diagnose(text: str, *, tls: bool) -> tuple[str, str]:
    for pattern, cause, check in _WRONG:
        if re.search(pattern, text):
            match = _SAID.search(text) if "code:" in pattern else None
            return f"{cause} ({_one_line(match[2])})" if match and match[2] else cause, check
    if _BROKEN.search(text) and tls:
        return "it breaks the TLS connection off", f"{_PORT}; if it asks for a client's certificate, set {_FILES}"
    if _BROKEN.search(text):
        return "it does not speak Temporal's protocol without TLS", f"{_PORT}; if it uses TLS, set TEMPORAL_TLS=true"
    if (match := _SAID.search(text)) is not None:
        return f"it answers {match[1]} ({_one_line(match[2])})", "try again, or check TEMPORAL_ADDRESS"
    return _one_line(text.removeprefix("Failed client connect: ")), "check TEMPORAL_ADDRESS"


def fatal_answer(error: RPCError) -> ServerUnreachableError | None:
    """Return what an answer of the server means if it answers nothing at all so; None for other answers."""
    message = _one_line(error.message)
    match error.status:
        case RPCStatusCode.UNAUTHENTICATED:
            problem = f"the Temporal server does not accept the credentials ({message}); {_CREDENTIALS}"
        case RPCStatusCode.PERMISSION_DENIED:
            problem = f"the Temporal server does not permit this ({message}); {_CREDENTIALS} and TEMPORAL_NAMESPACE"
        case RPCStatusCode.NOT_FOUND if error.message.lower().startswith("namespace "):
            problem = f"{message.rstrip('.')} on the Temporal server; check {_NAMESPACE}"
        case RPCStatusCode.INVALID_ARGUMENT if error.message.lower().startswith("namespace "):
            problem = f"the Temporal server does not accept the namespace ({message}); check {_NAMESPACE}"
        case RPCStatusCode.UNIMPLEMENTED if "unknown service" in error.message:
            problem = f"the server is not a Temporal server ({message}); check TEMPORAL_ADDRESS"
        case RPCStatusCode.UNAVAILABLE | RPCStatusCode.DEADLINE_EXCEEDED:
            problem = f"the Temporal server does not answer: {message}"
        case _:
            return None
    return ServerUnreachableError(problem)


def worker_stopped(error: RuntimeError) -> ServerUnreachableError | None:
    """Return why the server ended a worker, by the SDK's *error*; None if it was not the server."""
    match = _SAID.search(str(error))
    if match is None:
        return None
    problem = f"the Temporal server no longer answers this worker ({match[1]}: {_one_line(match[2])})"
    return ServerUnreachableError(f"{problem}; check TEMPORAL_NAMESPACE and TEMPORAL_API_KEY")


def _one_line(text: str) -> str:
    return bounded(" ".join(text.split()), _SHOWN)
