"""An agent that can delete what a service knows about a user; every deletion is put on record."""

from __future__ import annotations

from assent import Agent, OpenAIResponses, approval, tool

USERS = {"user-42": ["profile", "3 orders"], "user-43": ["profile"]}


@approval(type="audit")
@tool(requires_confirmation=True)
def delete_user_data(user_id: str) -> str:
    """Delete everything that is stored about a user, for good.

    Args:
        user_id: Whose data, such as `user-7`.
    """
    deleted = USERS.pop(user_id, None)
    return f"deleted of {user_id}: {', '.join(deleted)}" if deleted else f"there is no user {user_id}"


agent = Agent(
    name="accounts",
    model=OpenAIResponses("gpt-5-mini"),
    instructions=(
        "You look after user accounts. Call the tool that does what you are asked for, at once and once; the system "
        "asks a person for permission by itself. Then say in one sentence what was done."
    ),
    tools=[delete_user_data],
)
