"""Random lives of a run: whatever happens, in whatever order, the promises hold after every step."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import JsonValue

from assent.approvals import fold_name
from assent.authorization import refusal
from assent.conversation import Conversation
from assent.digest import requirement_id
from assent.events import CallModel, Cancel, Complete, Fail, RunTool
from assent.protocol import DecisionResult, Gate, Item, ModelTurn, ToolCallInput, Usage
from assent.requirements import Requirement, RunState
from assent.run import ATTEMPTS_KEPT, MAX_TURNS, Run, Step, decide, state_of

from strategies import (
    PEOPLE,
    TOOLS,
    WORKFLOW_ID,
    Play,
    function_call,
    gates,
    json_values,
    message_names,
    people,
    said,
    spellings,
    texts,
    through_json,
    written_arguments,
)

Position = tuple[int, int]
PERSON = {spelling: person for person, all_spellings in PEOPLE.items() for spelling in all_spellings}
TOOL_OF = {"allow": "look", "ask": "pay", "external": "deploy"}
COUNTED = {"approved", "rejected", "executed", "failed", "recorded"}

wanted_calls = st.lists(st.tuples(st.none() | gates, written_arguments), max_size=5)
id_makers: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [str, str.upper, lambda id: id[:6], lambda id: id[:8], lambda id: f" {id[:12]}\n", lambda id: id[:5]]
)
bodies = st.fixed_dictionaries(
    {},
    optional={"reason": texts, "output": json_values, "error": texts, "verdict": st.sampled_from(["approve", "reject"])},
)


class Witness(Play):
    """A run that is watched: each event is handled twice, and must come to the same and leave its inputs alone."""

    def tell(self, event: object) -> Step:
        """What the event comes to."""
        run, before = self.run, copy.deepcopy(self.run)
        kept = copy.deepcopy(event)
        step = super().tell(event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        again = decide(before, kept)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert repr(step) == repr(again), "decide is deterministic"
        assert repr(run) == repr(before), "decide does not change the run it is given"
        return step
