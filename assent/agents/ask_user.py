"""`ask_user`: the tool by which a model asks a person something itself."""

from assent.agents.tool_decorator import tool


@tool(requires_user_input=True, user_input_fields=["answer"], idempotent=True)
def ask_user(question: str, answer: str, choices: list[str] | None = None) -> str:
    """Ask the user a question, and wait for the answer. Use it when you cannot continue without the answer.

    Args:
        question: what to ask, in full; the user sees only this.
        answer: the answer.
        choices: the possible answers, where there are only so many; leave it out for a free answer.
    """
    del question, choices
    return answer
