"""What goes wrong with an MCP server, between its connection and the activities that call it."""

from assent.agents.mcp_question import Question


class ServerDownError(Exception):
    """An MCP server cannot be reached now: one line. Nothing was called."""


class ConnectionLostError(Exception):
    """A call was sent to an MCP server, and there is no answer: one line. It may or may not have taken effect."""


class StateRefusedError(Exception):
    """An MCP server does not take back the state of its own question: it expired, or the server was restarted."""


class QuestionError(Exception):
    """An MCP server asks a person in the middle of a call."""

    def __init__(self, question: Question) -> None:
        """*question* is what it asks."""
        super().__init__(question.words)
        self.question = question


class ToolError(Exception):
    """An MCP server says that a call failed, in its own words."""
