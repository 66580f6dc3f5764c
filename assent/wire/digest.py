"""What exactly is approved: strict reading of arguments, and the digests that bind a decision to one operation.

A digest is taken over a JSON array, so that no field can be shifted into its neighbour: `["ab", "c"]` and
`["a", "bc"]` are different bytes. Every digest starts with a domain of its own.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, NoReturn, cast

from pydantic import AfterValidator, JsonValue

from assent.wire.errors import ArgumentsError
from assent.wire.text import bounded

_REQUIREMENT: Final = "assent.requirement.v1"
_ITEM: Final = "assent.item.v1"
_KEY: Final = "assent.key.v1"
_POLICY: Final = "assent.policy.v1"
_TOOL: Final = "assent.tool.v1"
_VALUES: Final = "assent.values.v1"


def canonical(value: object) -> bytes:
    """The one JSON text of a JSON value: sorted keys, no white space, UTF-8.

    Raises:
        ValueError: the value holds NaN or an infinity, which JSON does not have.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def json_size(value: object) -> int:
    """Return the number of bytes of a JSON value in its canonical text."""
    return len(canonical(value))


def json_depth(value: object) -> int:
    """Return how many objects and lists of a JSON value are in each other; 0 for text, a number or the like."""
    if not isinstance(value, dict | list):
        return 0
    inner = cast("dict[str, object] | list[object]", value)
    return 1 + max(map(json_depth, inner.values() if isinstance(inner, dict) else inner), default=0)


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of *data* as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def text_digest(text: str) -> str:
    """The SHA-256 of a text's UTF-8 bytes, as hex."""
    return sha256_hex(text.encode("utf-8", "surrogatepass"))


def requirement_id(
    *,
    run_id: str,
    nonce: str,
    call_id: str,
    tool: str,
    arguments: str,
    policy_version: str,
    needed: int,
    expires_at: datetime | None,
    binding: str = "",
    proof: str | None = None,
) -> str:
    """The id of a requirement: what exactly is approved, as 64 hex digits.

    *arguments* are the raw text that the model produced; *nonce* is unique to the requirement, so that equal calls,
    and a call before and after a workflow reset, are different requirements. *binding* is the gate's; empty where
    there is no tool. *proof* is the level of proof that a decision needs.
    """
    deadline = None if expires_at is None else expires_at.isoformat()
    parts = [_REQUIREMENT, run_id, nonce, call_id, tool, text_digest(arguments), policy_version, needed, deadline]
    more = [binding, proof] if proof is not None else [binding] if binding else []
    return sha256_hex(canonical([*parts, *more]))


def tool_digest(tool: object) -> str:
    """The digest of what a tool says of itself, as a JSON value: 32 hex digits."""
    return sha256_hex(canonical([_TOOL, tool]))[:32]


def values_digest(values: object) -> str:
    """The digest of the values that a tool gets, as a JSON value: 32 hex digits. Raises ValueError as `canonical`."""
    return sha256_hex(canonical([_VALUES, values]))[:32]


def sorted_lists(value: JsonValue) -> JsonValue:
    """*value* with each list in it sorted."""
    if isinstance(value, list):
        return sorted(map(sorted_lists, value), key=canonical)
    if isinstance(value, dict):
        return {name: sorted_lists(each) for name, each in value.items()}
    return value


def split_binding(binding: str) -> tuple[str, str]:
    """The two digests of a gate's binding: of the tool, and of the values that differ from the arguments."""
    tool, _, values = binding.partition("-")
    return tool, values


def extend(digest: str, items: Iterable[object]) -> str:
    """The running digest of a conversation after *items* were appended to one whose digest is *digest*."""
    for item in items:
        digest = sha256_hex(canonical([_ITEM, digest, item]))
    return digest


def idempotency_key(run_id: str, first_execution_id: str, call_id: str) -> str:
    """The key of one tool call: 32 hex digits, the same at every retry. Temporal gives *first_execution_id*."""
    return sha256_hex(canonical([_KEY, run_id, first_execution_id, call_id]))[:32]


def policy_digest(rules: object) -> str:
    """The version of a policy: 16 hex digits over its rules as JSON."""
    return sha256_hex(canonical([_POLICY, rules]))[:16]


def parse_arguments(raw: str) -> dict[str, JsonValue]:
    """Read a model's tool arguments, strictly.

    Lenient readers disagree about duplicate keys, so that what was shown and what runs could differ; hence they are
    errors, as are `NaN` and the infinities, which JSON does not have.

    Raises:
        ArgumentsError: *raw* is not JSON, not an object, has a duplicate key or a number that JSON does not have.
            The message is written for the model.
    """
    if not raw.strip():
        return {}  # Some models send nothing for a tool without parameters.
    try:
        value: object = json.loads(
            raw, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
    except ArgumentsError:
        raise
    except (ValueError, RecursionError) as error:
        raise ArgumentsError(f"the arguments are not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ArgumentsError(f"the arguments must be a JSON object, not {type(value).__name__}")
    return cast("dict[str, JsonValue]", value)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    digests: dict[str, object] = {}
    for key, value in pairs:
        if key in digests:
            raise ArgumentsError(f"the arguments name {key!r} twice")
        digests[key] = value
    return digests


def _no_constant(name: str) -> NoReturn:
    raise ArgumentsError(f"the arguments hold {name}, which is not a JSON number")


def _in_range(value: JsonValue) -> JsonValue:
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError:
            message = "an integer in it has more than 308 digits, which other readers of JSON do not take"
            raise ValueError(message) from None
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _in_range(each)
    return value


Json = Annotated[JsonValue, AfterValidator(_in_range)]
"""A JSON value without integers beyond the range of a double.

Python's have no end; but readers in other languages, such as the `temporal` CLI's, fail on a text that has one."""


def _integer(text: str) -> int:
    _finite(text)
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ArgumentsError(f"the arguments hold {bounded(text, 50)}, which is too large a number")
    return number
