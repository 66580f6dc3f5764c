"""The programs of `examples/`, as a reader runs them: real processes, no key, a clean state."""

from __future__ import annotations

from pathlib import Path

import pytest

from assent.testing import ModelServer, call, calls, says
from tests.e2e.example_programs import in_order, running, started

PROGRAMS = {
    "approval_async.py": (
        "Model: a script in the place of gpt-5-mini",
        "Hacker News: out of reach; a local stand-in",
        "Exactly one approval is pending",
        'get_top_hackernews_stories({"num_stories": 2})  for alice',
        "1. Show HN: A spreadsheet",
        "approved by async_user, and executed",
        "Approvals that are pending now: 0",
    ),
    "audit_approval.py": (
        "Approval records of this run: 0",
        "The run completes",
        "type    audit",
        "status  approved",
        "who     bob",
        "why     erasure request 4711",
        "result  executed: deleted of user-42",
    ),
    "external_execution.py": (
        "type     required",
        "source   agent deployer, asked by alice",
        "context  turn 1, call ",
        "$ temporal workflow signal --address",
        "The run completes",
        "resolved by test_user, executed: web 1.4.2 is live",
    ),
    "mcp_files.py": (
        "notes.write_note(",
        "a tool of the MCP server 'notes', which no rule allows",
        "a destructive tool of the MCP server 'notes'",
        "wrote plan.txt",
        "keep it for the audit",
        "The folder has old.txt, plan.txt",
        "every check passed",
    ),
    "own_worker.py": (
        "finance is asked",
        "asked by alice, may be approved by bob and dora",
        "alice may not approve",
        "Paid: 5000.00 EUR to DE02120300000000202051",
        "every check passed",
        "encrypted by the team's own codec",
    ),
    "pause_restart_resume.py": (
        "Two runs pause, because the policy says ask",
        "kill -9",
        "Another worker",
        "approves: About the email: sent to ada@example.com",
        "rejects: About the email: Rejected: not approved",
        "exactly one email",
        "one rejected and never run",
    ),
    "conversation_service.py": (
        "Hello! Whose account is it about?",
        'delete_user_data({"user_id": "user-42"})',
        "Done: deleted of user-42",
        "410: the conversation 'chat-1' has ended; start another one with another id",
        "Audited: ",
    ),
    "team.py": (
        "nothing waits in desk-",
        "desk > accounts: delete_user_data",
        "refused: 'alice' asked for this run and may not approve in it",
        "billing waits: ",
        "The run completes: Deleted, and refunded 990 cents of order-7.",
        "6 model calls, including the child run's",
        "every check passed",
    ),
    "confirm_terminal.py": (
        "There is no terminal to ask at",
        "Rejected: not during business hours",
        "the cache of web was cleared",
        "restart_service: rejected by bob, not run",
        "clear_cache: approved by bob, executed",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_does_what_it_says(name: str, tmp_path: Path) -> None:
    with started(name, cwd=tmp_path) as program:
        assert program.end() == 0, program.text
        in_order(program.text, *PROGRAMS[name])
        assert running(program.mark) == []
    assert "Traceback" not in program.text
    assert list(tmp_path.iterdir()) == [], "nothing is left in the folder where it ran"


def test_at_a_terminal_it_asks_for_sync_and_async_tools_alike(tmp_path: Path) -> None:
    with started("confirm_terminal.py", cwd=tmp_path, terminal=True) as program:
        program.until("Approve it? [y/n]")
        program.type("y")
        # The question may be put twice: what happens meanwhile is printed above it.
        approved = program.until("approved by bob")
        program.until("Approve it? [y/n]", after=approved)
        program.until("web was restarted", after=approved)
        program.type("n")
        program.until("Why not?")
        program.type("it is noon")
        assert program.end() == 0, program.text
    in_order(program.text, "Rejected: it is noon", "restart_service: approved by bob, executed")
    assert "clear_cache: rejected by bob, not run" in program.text


def test_with_a_key_a_program_talks_to_the_provider(tmp_path: Path) -> None:
    with ModelServer.in_thread(api_key="sk-real") as provider:
        provider.script(
            "gpt-5-mini", calls(call("delete_user_data", user_id="user-42")), says("Everything about them is gone.")
        )
        key = {"OPENAI_API_KEY": "sk-real", "OPENAI_BASE_URL": provider.url}
        with started("audit_approval.py", cwd=tmp_path, env=key) as program:
            assert program.end() == 0, program.text
    in_order(
        program.text, f"Model: gpt-5-mini at {provider.url}, because OPENAI_API_KEY is set", "Everything about them"
    )
    assert len(provider.requests) == 2
