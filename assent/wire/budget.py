"""What a run may use: tokens, model calls, money, time. And what model calls cost, by a table of prices."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from assent.wire.declarations import declared
from assent.wire.duration import LONGEST_DURATION, Duration

MILLION: Final = 1_000_000
_DIGITS: Final = 9


@declared
class Price(BaseModel):
    """What a model costs: money for a million *input* tokens, and for a million *output* tokens. In any currency."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input: float = Field(ge=0)
    output: float = Field(ge=0)

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """What so many tokens cost, to nine digits behind the point."""
        return round((input_tokens * self.input + output_tokens * self.output) / MILLION, _DIGITS)


@declared
class Budget(BaseModel):
    """What a run may use before it asks for more, or ends: None is no limit.

    *max_tokens* are those of all model calls, read and written. *max_model_calls* counts model calls that answered.
    *max_cost* is money, in the currency of the worker's table of prices (`ASSENT_PRICES`). *max_time* is time since the
    run began, waiting for people included. The limits are checked before each model call, so the last call may exceed
    them. With *on_reached* `ask`, the run asks one of *approvers* for the same amount again (None: anyone but the
    requester). With `end`, the run ends.

    Raises:
        ConfigurationError: a field is unknown, of the wrong type, or not above 0.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    max_tokens: int | None = Field(default=None, ge=1)
    max_model_calls: int | None = Field(default=None, ge=1)
    max_cost: float | None = Field(default=None, gt=0, le=1e12)
    max_time: Duration | None = None
    on_reached: Literal["ask", "end"] = "ask"
    approvers: tuple[str, ...] | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """Its limits by name, *max_time* in seconds."""
        bounds = {name: getattr(self, name) for name in BOUNDS}
        return {
            name: value.total_seconds() if isinstance(value, timedelta) else value
            for name, value in bounds.items()
            if value is not None
        }


BOUNDS: Final = ("max_tokens", "max_model_calls", "max_cost", "max_time")


def tightened(own: Budget | None, asked: Budget | None) -> Budget | None:
    """The budget of a run: its agent's *own*, and what its request *asked*, which can only tighten it."""
    if own is None or asked is None:
        return own or asked
    fields: dict[str, object] = {}
    for name in BOUNDS:
        set_bounds = [value for value in (getattr(own, name), getattr(asked, name)) if value is not None]
        fields[name] = min(set_bounds, default=None)
    ends = "end" in {own.on_reached, asked.on_reached}
    approvers = asked.approvers if own.approvers is None else own.approvers
    return Budget.model_validate({**fields, "on_reached": "end" if ends else "ask", "approvers": approvers})


def extended(budget: Budget, to: Mapping[str, float]) -> Budget:
    """The budget with its bounds raised *to* these, by name."""
    convert: dict[str, Callable[[float], object]] = {
        "max_tokens": int,
        "max_model_calls": int,
        "max_cost": float,
        "max_time": lambda seconds: min(timedelta(seconds=seconds), LONGEST_DURATION),
    }
    return budget.model_copy(update={name: convert[name](bound) for name, bound in to.items() if name in BOUNDS})
