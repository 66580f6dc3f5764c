"""What a server says of its tools: which are taken, how each is gated, and what a change of it is for a person."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest

from assent import (
    Agent,
    ConfigurationError,
    MCPServer,
    OpenAIResponses,
    PermissionPolicy,
    Rule,
    Tool,
    ToolContext,
    approval,
)
from assent.agents import server_schema
from assent.agents.mcp_server import CONTEXT, Answer, Made, definition_change, server_tools
from assent.agents.tool import GateContext
from assent.wire.errors import ArgumentsError
from assent.wire.protocol import Gate

ANY: dict[str, Any] = {"type": "object"}
NOTHING = "'nothing' is not valid under any of the given schemas"


async def never(
    _tool: str, _arguments: dict[str, Any], _context: ToolContext, _answer: Answer | None, _outputs: object
) -> str:
    raise AssertionError


def listed(
    name: str, *, hints: dict[str, bool] | None = None, schema: dict[str, Any] = ANY, **more: Any
) -> dict[str, Any]:
    annotations = {} if hints is None else {"annotations": hints}
    return {"name": name, "inputSchema": schema, **annotations, **more}


def server(**more: Any) -> MCPServer:
    return MCPServer(name="files", command="serve", **more)


def tool_of(given: MCPServer, one: dict[str, Any]) -> Tool:
    [found], _ = server_tools(given, [one], never)
    return found


def gate(found: Tool, policy: PermissionPolicy | None = None, *, requested: PermissionPolicy | None = None) -> Gate:
    agent = Agent(name="clerk", model=OpenAIResponses("gpt"), policy=policy)
    return agent.gatekeeper(requested).gate(
        found, GateContext(run_id="r", call_id="c", tool=found.name, agent="clerk"), "{}"
    )


def test_a_list_that_is_long_or_wrong_is_bounded_with_a_line_for_each() -> None:
    found, lines = server_tools(
        server(exclude=["drop_*"]),
        [
            listed("with spaces"),
            listed("no_schema", schema={"type": "array"}),
            listed("bad_schema", schema={"type": "object", "properties": {"a": {"type": "nothing"}}}),
            listed("long", description="x" * 40_000),
            listed("same.name"),
            listed("same_name"),
            listed("drop_all"),
            *(listed(f"t{number}") for number in range(1_000)),
        ],
        never,
    )
    assert (len(found), found[0].name, found[1].name) == (128, "files.same.name", "files.t0")
    assert lines == [
        "tool 1 (with spaces) is left out: a name is 1 to 128 ASCII letters, digits, '_', '-', '.' and '/'",
        "tool 2 (no_schema) is left out: its input schema is not that of an object",
        f"tool 3 (bad_schema) is left out: a schema of it is none: {NOTHING}",
        "tool 4 (long) is left out: its description and schemas have 40,070 bytes; the limit is 32,768",
        "tool 6 (same_name) is left out: towards the model it would have the name of another, files_same_name",
        "it lists 1,006 tools, of which 128 are used; name those that are needed: MCPServer(tools=[…])",
    ]


def test_what_was_made_of_a_tool_is_kept_until_the_server_changes_it() -> None:
    made = Made()
    first, other = listed("a"), listed("b", schema={"type": "array"})
    [one], _ = server_tools(server(), [first, other], never, made)
    [same], lines = server_tools(server(), [first, other], never, made)
    [changed], _ = server_tools(server(), [listed("a", description="Another.")], never, made)
    assert (one is same, one is changed, len(lines), len(made)) == (True, False, 1, 1)


def test_no_schema_takes_long_to_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is large or deep, nor one whose references lead to one place in very many ways."""
    monkeypatch.setattr(server_schema, "STEPS", 10_000)
    wide = {f"p{number}": {"type": "string"} for number in range(30_000)}
    deep: dict[str, Any] = {}
    for _ in range(150):
        deep = {"type": "object", "properties": {"a": deep}}
    ways = {"a0": {"type": "string"}} | {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}] * 2} for n in range(1, 40)}
    begun = time.process_time()
    [found], lines = server_tools(
        server(),
        [
            listed("wide", schema=ANY | {"properties": wide}),
            listed("deep", schema=deep),
            listed("ways", schema=ANY | {"properties": {"x": {"$ref": "#/$defs/a39"}}, "$defs": ways}),
        ],
        never,
    )
    assert found.validate('{"x": "a"}') == {"x": "a"}
    assert time.process_time() - begun < 5
    assert lines[0].startswith("tool 1 (wide) is left out: its description and schemas have ")
    assert lines[1] == "tool 2 (deep) is left out: a schema of it is too large or too deep"


READS, DESTROYS = {"readOnlyHint": True}, {"destructiveHint": True}


@pytest.mark.parametrize(
    ("hints", "trusted", "rules", "verdict"),
    [
        (None, False, None, "ask"),
        (READS, False, None, "ask"),
        (READS, True, None, "allow"),
        (READS | DESTROYS, True, None, "ask"),
        (None, True, None, "ask"),
        (None, False, [Rule(decision="allow", tool="files.*")], "allow"),
        (None, False, [], "ask"),
        (READS, False, [Rule(decision="allow", effect="read_only")], "ask"),
        (READS, True, [Rule(decision="ask", tool="files.*")], "ask"),
        (DESTROYS, False, [Rule(decision="allow", tool="files.*")], "ask"),
        (DESTROYS, False, [Rule(decision="allow", tool="files.write")], "allow"),
        (DESTROYS, False, [Rule(decision="allow", effect="destructive")], "allow"),
        (DESTROYS, True, [Rule(decision="deny", effect="destructive")], "deny"),
    ],
)
def test_a_call_asks_unless_a_rule_or_a_trusted_servers_word_allows_it(
    hints: dict[str, bool] | None, trusted: bool, rules: list[Rule] | None, verdict: str
) -> None:
    policy = None if rules is None else PermissionPolicy(rules=tuple(rules), default="allow")
    found = tool_of(server(trusted=trusted), listed("write", hints=hints))
    assert gate(found, policy).verdict == verdict


def test_the_policy_of_a_request_allows_nothing() -> None:
    found = tool_of(server(), listed("write"))
    assert gate(found, requested=PermissionPolicy.of(allow=["*"])).verdict == "ask"


def test_a_server_names_the_people_and_the_time_for_its_calls_that_wait() -> None:
    given = server(approvers=["ops"], expires_after=timedelta(hours=1))
    agent = Agent(name="clerk", model=OpenAIResponses("gpt"), groups={"ops": ["ann", "bob"]})
    context = GateContext(run_id="r", call_id="c", tool="files.write", agent="clerk")
    found = agent.gatekeeper().gate(tool_of(given, listed("write")), context, "{}")
    assert (found.approvers, found.expires_after) == (["ann", "bob"], 3600)


def test_the_gate_of_a_tool_asks_whatever_a_rule_allows() -> None:
    two = approval(approvals=2, approvers=["ann", "bob"], proof="person")
    given = server(gates={"drop_*": two, "*": approval(self_approval=True)}, trusted=True)
    allowed = PermissionPolicy.of(allow=["files.*"])
    found = gate(tool_of(given, listed("drop_all", hints={"readOnlyHint": True})), allowed)
    assert (found.verdict, found.needed, found.approvers, found.proof) == ("ask", 2, ["ann", "bob"], "person")
    assert gate(tool_of(given, listed("read")), allowed).self_approval
    versions = {
        Agent(name="clerk", model=OpenAIResponses("gpt"), mcp_servers=[each]).version for each in (given, server())
    }
    assert len(versions) == 2


def test_only_a_trusted_server_makes_its_tool_run_more_than_once() -> None:
    again = listed("write", hints={"idempotentHint": True})
    assert gate(tool_of(server(), again)).at_most_once
    assert not gate(tool_of(server(trusted=True), again)).at_most_once


def test_whatever_the_server_changes_changes_the_digest_and_is_shown() -> None:
    first = listed("write", description="Write a file in the folder of the user.", outputSchema=ANY)
    changed = [
        {**first, "description": "Write a file in the folder of everybody."},
        {**first, "inputSchema": {"type": "object", "required": ["to"]}},
        {**first, "outputSchema": None},
    ]
    before = tool_of(server(), first)
    said = []
    for each in changed:
        after = tool_of(server(), each)
        assert after.digest != before.digest
        assert before.definition is not None
        assert after.definition is not None
        said.append(definition_change(gate(before).definition, after.definition.text))
    assert said == [
        'description was …le in the folder of the user.", and is …le in the folder of everybody."',
        'inputSchema was {"type": "object"}, and is {"required": ["to"], "type": "object"}',
        'outputSchema was {"type": "object"}, and is null',
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"path": "a"}, None),
        ({}, "'path' is a required property"),
        ({"path": 1}, "path: 1 is not of type 'string'"),
        ({"path": "a", "more": 1}, "Additional properties are not allowed ('more' was unexpected)"),
        ({"path": "a", CONTEXT: {}}, "assent/context: there is no such parameter"),
    ],
)
def test_arguments_are_checked_by_the_servers_schema_but_not_by_its_patterns(
    arguments: dict[str, Any], problem: str | None
) -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"path": {"type": "string", "pattern": "^(([b-z])+.)+([B-Z]([b-z])+)+$"}},
        "required": ["path"],
        "additionalProperties": False,
    }
    found = tool_of(server(), listed("write", schema=schema))
    if problem is None:
        assert found.validate(json.dumps(arguments)) == arguments
        return
    with pytest.raises(ArgumentsError) as caught:
        found.validate(json.dumps(arguments))
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "a_b", "command": "x"}, "a name is 1 to 32"),
        ({"name": "a"}, "it has no way to be reached; give one of"),
        ({"name": "a", "command": "x", "url": "http://y"}, "it has command and url; give one of"),
        ({"name": "a", "command": "x", "env": {"TOKEN": "sk-1234"}}, "env and headers hold no values"),
        (
            {"name": "a", "url": "http://y", "headers": {"Authorization": "Bearer abc"}},
            "env and headers hold no values",
        ),
        ({"name": "a", "url": "http://user:word@y/mcp"}, "has no name and password in it"),
        ({"name": "a", "command": "x", "tools": "read_*"}, "tools is 'read_\\*'; give a list of globs"),
        ({"name": "a", "command": "x", "approvers": "ann"}, "approvers is 'ann'; give a list of names"),
        ({"name": "a", "command": "x", "expires_after": timedelta(0)}, "expires_after is .*; give a positive"),
        ({"name": "a", "command": "x", "gates": {"b": approval}}, "gates has .* for 'b'; give approval\\(…\\) with"),
        ({"name": "a", "command": "x", "gates": {"b": approval(type="audit")}}, "gates has .* and not type"),
        ({"name": "a", "command": "x", "gates": {"b": approval(approvals=0)}}, "the gate of 'b': approvals is 0"),
        ({"name": "a", "command": "x", "roots": ["srv"]}, "roots is \\['srv'\\]; give a list of absolute paths"),
        ({"name": "a", "command": "x", "trust": True}, "there is no option 'trust'; did you mean trusted"),
    ],
)
def test_what_is_wrong_with_a_server_is_said_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        MCPServer(**given)


def test_two_servers_of_one_agent_have_two_names() -> None:
    with pytest.raises(ConfigurationError, match="two MCP servers are named 'files'"):
        Agent(name="clerk", model=OpenAIResponses("gpt"), mcp_servers=[server(), server()])
