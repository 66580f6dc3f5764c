"""An agent that gets versions deployed, by a pipeline that it cannot reach itself."""

from __future__ import annotations

from assent import Agent, OpenAIResponses, approval, tool


@approval
@tool(external_execution=True)
def deploy_to_production(service: str, version: str) -> str:
    """Deploy a version of a service to production.

    Args:
        service: The service's name.
        version: The version, such as `1.4.2`.
    """
    message = f"{service} {version} is deployed elsewhere; this is never called"
    raise NotImplementedError(message)


agent = Agent(
    name="deployer",
    model=OpenAIResponses("gpt-5-mini"),
    instructions=(
        "You get services deployed. Call the tool at once and once; an operator makes the deployment and submits "
        "its result. Then summarise the result in one sentence."
    ),
    tools=[deploy_to_production],
)
