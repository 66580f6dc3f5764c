"""What can be sent to decide something, and the commands that send it: the `temporal` CLI's and Assent's own."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from assent.core.approvals import EFFECTS
from assent.wire.protocol import APPROVE, REJECT, REVOKE, SUBMIT_INPUT, SUBMIT_RESULT, InputField, RequirementKind
from assent.wire.text import one_line

RESULT: Final = "THE RESULT"
WHY: Final = "WHY"


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to decide: a signal, and the *body* of the signal without `id` and `by`.

    *label* is a word of at most 9 letters for it; *means* explains it where the label is not enough.
    """

    label: str
    signal: str
    body: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    means: str = ""


def choices(kind: RequirementKind, fields: Sequence[InputField] = ()) -> list[Choice]:
    """The ways to decide a requirement of this kind. None of them is the one that is meant by saying nothing."""
    reject = Choice("reject", REJECT, {"reason": WHY})
    if kind == "external":
        blank: dict[str, JsonValue] = blank_values(fields) if fields else {"output": RESULT}
        return [Choice("result", SUBMIT_RESULT, blank), reject]
    if kind == "input":
        return [Choice("fill in", SUBMIT_INPUT, {"values": blank_values(fields)}), reject]
    if kind == "outcome":
        return [
            Choice("happened", SUBMIT_RESULT, {"output": RESULT}, EFFECTS[kind][SUBMIT_RESULT]),
            Choice("again", APPROVE, {}, EFFECTS[kind][APPROVE]),
            Choice("give up", REJECT, {"reason": WHY}, EFFECTS[kind][REJECT]),
        ]
    if kind == "budget":
        end = Choice("end", REJECT, {"reason": WHY}, EFFECTS[kind][REJECT])
        return [Choice("extend", APPROVE, {}, EFFECTS[kind][APPROVE]), end]
    return [Choice("approve", APPROVE), reject]


_BLANKS: Final[dict[str, JsonValue]] = {
    "string": "TEXT", "integer": "INTEGER", "number": "NUMBER", "boolean": "TRUE OR FALSE", "array": ["LIST"],
    "object": {"OBJECT": ""},
}  # fmt: skip
"""What stands for a value until a person has put one there; none of them passes for a number or a choice."""


_BLANK_DEPTH: Final = 3
"""How deep objects and lists are spelt out; deeper, a person sees that there is one."""


def blank_values(fields: Sequence[InputField]) -> dict[str, JsonValue]:
    """What stands for the values: the required fields, or all of them where none is required."""
    wanted = [each for each in fields if each.required] or list(fields)
    return {each.name: _blank(each.type) for each in wanted} or {"FIELD": "VALUE"}


def _blank(schema: dict[str, JsonValue], definitions: JsonValue = None, depth: int = 0) -> JsonValue:
    definitions = schema.get("$defs", definitions)
    schema = resolved(_first_choice(schema), definitions)
    if "enum" in schema or "const" in schema:
        return "ONE OF THE CHOICES"
    kind, properties, items = schema.get("type"), schema.get("properties"), schema.get("items")
    if depth < _BLANK_DEPTH and kind == "object" and isinstance(properties, dict) and properties:
        required = schema.get("required")
        names = required if isinstance(required, list) and required else list(properties)
        named = {str(name): properties[str(name)] for name in names if str(name) in properties}
        return {
            name: _blank(each, definitions, depth + 1) if isinstance(each, dict) else "VALUE"
            for name, each in named.items()
        }
    if depth < _BLANK_DEPTH and kind == "array":
        each_of = schema.get("prefixItems") or [items]
        if isinstance(each_of, list) and each_of[0] is not None:
            return [_blank(each, definitions, depth + 1) if isinstance(each, dict) else "VALUE" for each in each_of]
    return _BLANKS.get(str(kind), "VALUE")


def _first_choice(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the first of the schemas between which a person may choose, null left out; other schemas as they are."""
    choices_of_type = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(choices_of_type, list):
        return schema
    return next((each for each in choices_of_type if isinstance(each, dict) and each.get("type") != "null"), schema)


def resolved(schema: dict[str, JsonValue], definitions: JsonValue) -> dict[str, JsonValue]:
    """Return what a reference (`$ref`) of a JSON schema refers to; a schema without one as it is."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not isinstance(definitions, dict):
        return schema
    definition = definitions.get(reference.rpartition("/")[2])
    return definition if isinstance(definition, dict) else schema


# -- the commands -----------------------------------------------------------------------------------------------------


def talking_commands(program: str, run_id: str, by: str = "YOUR NAME") -> list[tuple[str, str]]:
    """The commands that continue an idle conversation and that end it, each with a label."""
    by_option = f" --by {shlex.quote(by)}"
    return [
        ("continue", run_command(f"{program} send-message", run_id, " TEXT", by_option)),
        ("end it", run_command(f"{program} close", run_id, "", by_option)),
    ]


def run_command(begin: str, run_id: str, more: str = "", options: str = "") -> str:
    """A command that *begin*s so, with a run's id and *more* after it, and *options*."""
    operands = f"{shell_quoted(run_id)}{more}"
    # Another client may start a run whose id looks like an option.
    return f"{begin}{options} -- {operands}" if run_id.startswith("-") else f"{begin} {operands}{options}"


def assent_command(program: str, run_id: str, short_id: str, choice: Choice, *, sign: bool = False) -> str:
    """The `assent` command of a choice, which signs it with *sign*; *program* is how it begins."""
    options = "".join(f" --{name} {_value(value)}" for name, value in choice.body.items())
    name = choice.signal.replace("_", "-")
    return run_command(f"{program} {name}", run_id, f" {short_id}", f" --by YOUR_NAME{options}{' --sign' * sign}")


def _value(value: JsonValue) -> str:
    return WHY if value == WHY else shell_quoted(format_json(value, ", "))


def revoke_command(program: str, run_id: str, short_id: str) -> str:
    """The `assent` command that ends a grant."""
    return assent_command(program, run_id, short_id, Choice("revoke", REVOKE))


def show_command(program: str, run_id: str) -> str:
    """The `assent` command that shows all of a run."""
    return run_command(f"{program} show", run_id)


def watch_command(program: str, run_id: str) -> str:
    """The `assent` command that shows all events of a run."""
    return run_command(f"{program} watch", run_id)


def tree_command(program: str, run_id: str) -> str:
    """The `assent` command that lists the pending calls of a run and its child runs."""
    return f"{program} pending --tree {shell_quoted(run_id)}"


def audit_command(program: str, run_id: str) -> str:
    """The `assent` command that audits a run."""
    return run_command(f"{program} audit", run_id)


def signal_command(run_id: str, name: str, body: dict[str, JsonValue], *, namespace: str = "default") -> str:
    """The `temporal` command that sends a signal, over three lines, ready to paste into bash, zsh or ksh."""
    lines = [
        f"temporal workflow signal --name {name}{_namespace(namespace)}",
        f"  --workflow-id {shell_quoted(run_id)}",
        f"  --input {shell_quoted(format_json(body, ','))}",
    ]
    return " \\\n".join(lines)


def metadata_command(run_id: str, *, namespace: str = "default") -> str:
    """The `temporal` command that shows operators what waits in a run, and how to decide it."""
    return f"temporal workflow metadata{_namespace(namespace)} --workflow-id {shell_quoted(run_id)}"


def _namespace(namespace: str) -> str:
    return "" if namespace == "default" else f" --namespace {shell_quoted(namespace)}"


def format_json(value: JsonValue, comma: str) -> str:
    """JSON as it is typed, with *comma* between its parts."""
    return json.dumps(value, ensure_ascii=False, separators=(comma, ":"))


def shell_quoted(text: str) -> str:
    """*text* quoted for a shell; what would not show, as octal bytes."""
    if one_line(text) == text:
        return shlex.quote(text)
    escaped = "".join(_octal(character) for character in text)
    return f"$'{escaped}'"


def _octal(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if one_line(character) == character:
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogatepass"))
