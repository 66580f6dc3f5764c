"""The payload codec that `ASSENT_PAYLOAD_CODEC=module:NAME` names: what encrypts or compresses all that is stored.

Workers and clients of the same runs must be given the same one. (`temporalio.converter.PayloadCodec` says what it is.)
"""

import dataclasses
import os
import re
from collections.abc import Callable
from typing import Final, cast

from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

from assent.runtime.settings import load_module
from assent.wire.errors import ConfigurationError

VARIABLE: Final = "ASSENT_PAYLOAD_CODEC"
HINT: Final = f"if its payloads are encoded, name their codec in {VARIABLE}"
_UNKNOWN: Final = re.compile(r"Unknown payload encoding ([^\s'\"]{1,100})")
"""What the SDK says of a payload that it cannot read."""


def configured_codec() -> PayloadCodec | None:
    """The codec that the environment names; None where it names none.

    Raises:
        ConfigurationError: as `load_codec`.
    """
    # Not by `Settings`: a client must not fail for what only a worker reads.
    name = os.environ.get(VARIABLE, "").strip()
    return load_codec(name) if name else None


def encoding(converter: DataConverter, codec: PayloadCodec | None) -> DataConverter:
    """*converter* with the *codec*: with one, the words of failures are encoded too, since they may quote anything."""
    if codec is None:
        return converter
    failures = DefaultFailureConverterWithEncodedAttributes
    return dataclasses.replace(converter, payload_codec=codec, failure_converter_class=failures)


def load_codec(name: str) -> PayloadCodec:
    """The codec `module:NAME`: an instance, or a class or function without arguments that gives one.

    The working directory is searched too, as `python -m` does.

    Raises:
        ConfigurationError: there is no such name, or it gives no codec. One line.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigurationError(f"{VARIABLE}={name!r} is not module:NAME")
    target: object = load_module(module)
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ConfigurationError(f"{VARIABLE}: module {module!r} has no {attribute!r}")
        target = getattr(target, part)
    codec = target if isinstance(target, PayloadCodec) else _instantiate(name, target)
    if not isinstance(codec, PayloadCodec):
        raise ConfigurationError(
            f"{VARIABLE}: {name!r} is not a temporalio.converter.PayloadCodec, and does not return one"
        )
    return codec


def encoding_problem(error: Exception) -> str | None:
    """Return what to say of an *error* of the SDK about a payload that only a codec can decode; None for others."""
    match = _UNKNOWN.search(str(error))
    return match and f"encoded by {match[1]!r}; name their codec in {VARIABLE}=module:NAME"


def _instantiate(name: str, target: object) -> object:
    if not callable(target):
        return None
    try:
        return cast("Callable[[], object]", target)()
    except ConfigurationError:
        raise
    except Exception as error:  # It is the user's own, and may raise anything
        line = next(iter(str(error).splitlines()), "")
        raise ConfigurationError(f"{VARIABLE}: {name!r} fails: {type(error).__name__}: {line}") from error
