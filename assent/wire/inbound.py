"""What people and services send to a run: the input of each signal and update.

They forbid unknown fields and say which field is wrong. Nothing here may be renamed.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, field_validator, model_validator
from pydantic_core import to_json

from assent.wire.duration import Duration
from assent.wire.limits import CONDITIONS_LIMIT
from assent.wire.policy import Condition

USES_LIMIT: Final = 1_000
"""The most uses of one grant."""


class Inbound(BaseModel):
    """A message from outside: frozen, strict about types, and unknown fields are errors; so are NaN and infinities."""

    # `1e999` is JSON, and lenient readers make an infinity of it, which has no digest.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# White space around a name or an id is a slip of the fingers; inside arguments, values and results it is what it is.
_Words = Annotated[str, StringConstraints(strip_whitespace=True)]
_Text = Field(min_length=1)
_Id = Field(min_length=1, max_length=64)
_Name = Field(min_length=1, max_length=200)
_Reason = Field(min_length=1, max_length=20_000)


class Remember(Inbound):
    """What an approval is remembered for: further calls of the same tool in the same run, within bounds.

    At most *uses* calls, until *expires_after* (as JSON: seconds) has passed; one of the two is required. *arguments*
    are conditions on the arguments, as in a policy's rules; without them any arguments will do.
    """

    uses: int | None = Field(default=None, ge=1, le=USES_LIMIT)
    expires_after: Duration | None = None
    arguments: dict[str, Condition] | None = Field(default=None, min_length=1, max_length=50)

    @field_validator("arguments", mode="before")
    @classmethod
    def _conditions(cls, value: object) -> object:
        # The strictness of messages is for what people type; a list is how JSON writes the alternatives of `one_of`.
        if not isinstance(value, dict):
            return value
        if len(to_json(value)) > CONDITIONS_LIMIT:
            message = f"too long; conditions may have {CONDITIONS_LIMIT} bytes"
            raise ValueError(message)
        given = cast("dict[str, object]", value)
        return {name: Condition.model_validate(each, strict=False) for name, each in given.items()}

    @model_validator(mode="after")
    def _is_bounded(self) -> Remember:
        if self.uses is None and self.expires_after is None:
            message = "give a limit: uses, or expires_after in seconds"
            raise ValueError(message)
        return self


class _FromPerson(Inbound):
    """What a person sends. *by* is their name, as a claim; *ref* is the sender's own mark, to know its answer by."""

    by: _Words = _Name
    ref: _Words | None = Field(default=None, max_length=64)


class Approve(_FromPerson):
    """The signal `approve`. *arguments* are run in the place of the model's; *remember* is a grant for further calls.

    Of an `outcome` requirement it says: run it again.
    """

    id: _Words = _Id
    reason: _Words | None = Field(default=None, max_length=20_000)
    arguments: dict[str, JsonValue] | None = None
    remember: Remember | None = None


class Reject(_FromPerson):
    """The signal `reject`. *reason* is what the model is told. Of an `outcome` requirement it says: give up."""

    id: _Words = _Id
    reason: _Words = _Reason


class SubmitResult(_FromPerson):
    """The signal `submit_result`: the result of a call that was carried out elsewhere, or its *error*.

    *evidence* is kept with it: a link, a ticket, whatever shows it. Of an `outcome` requirement it says: it happened.
    """

    id: _Words = _Id
    output: JsonValue = None
    error: _Words | None = Field(default=None, min_length=1, max_length=20_000)
    evidence: JsonValue = None


class SubmitInput(_FromPerson):
    """The signal `submit_input`: the fields that a tool needs from a person."""

    id: _Words = _Id
    values: dict[str, JsonValue]


class SendMessage(_FromPerson):
    """The signal `send_message`: something more for the model to read before its next turn."""

    content: _Words = _Text


class Revoke(_FromPerson):
    """The signal `revoke`: a remembered grant ends. *id* is the grant's."""

    id: _Words = _Id
    reason: _Words | None = Field(default=None, max_length=20_000)


class Close(_FromPerson):
    """The signal `close`: a conversation ends, at once or with the answer that is under way."""

    reason: _Words | None = Field(default=None, max_length=20_000)


class Decide(_FromPerson):
    """The update `decide`: as `approve`, `reject` or `revoke`, plus the *verdict*, with an answer."""

    id: _Words = _Id
    verdict: Literal["approve", "reject", "revoke"]
    reason: _Words | None = Field(default=None, max_length=20_000)
    arguments: dict[str, JsonValue] | None = None
    remember: Remember | None = None
