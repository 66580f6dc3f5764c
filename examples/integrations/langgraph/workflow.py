"""The workflow that runs the graph."""

from __future__ import annotations

from temporalio import workflow
from temporalio.langgraph import graph

with workflow.unsafe.imports_passed_through():
    from examples.integrations import payments


@workflow.defn
class LangGraphPayer:
    """One request, to the agent's last words."""

    @workflow.run
    async def run(self, prompt: str, requested_by: str) -> str:
        """Run the graph."""
        messages = [{"role": "system", "content": payments.INSTRUCTIONS}, {"role": "user", "content": prompt}]
        state = (
            await graph("payer")
            .compile()
            .ainvoke({"messages": messages}, {"configurable": {"requested_by": requested_by}})
        )
        return str(state["messages"][-1]["content"])
