"""A workflow of another team, which runs an agent through Nexus."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow


@workflow.defn
class Caller:
    @workflow.run
    async def run(self, endpoint: str, request: dict[str, Any]) -> str:
        client = workflow.create_nexus_client(service="assent", endpoint=endpoint)
        result: dict[str, Any] = await client.execute_operation(
            "run_agent", request, output_type=dict[str, Any], schedule_to_close_timeout=timedelta(days=1)
        )
        return str(result["content"])
