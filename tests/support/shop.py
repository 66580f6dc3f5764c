"""A team's own workflows, activities and interceptor, as they are before Assent comes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)


@dataclass
class Parcel:
    """A value of the team's, which the default converter writes and reads."""

    to: str
    grams: int


@activity.defn
def book(parcel: Parcel) -> str:
    return f"booked {parcel.grams} g to {parcel.to}"


@activity.defn
async def label(parcel: Parcel) -> str:
    return f"label for {parcel.to}"


@workflow.defn
class Shipping:
    @workflow.run
    async def run(self, parcel: Parcel) -> str:
        short = timedelta(seconds=20)
        booked = await workflow.execute_activity(book, parcel, start_to_close_timeout=short)
        return f"{booked}; {await workflow.execute_activity(label, parcel, start_to_close_timeout=short)}"


@workflow.defn
class Calling:
    """Calls an activity by its name, and says how that ended."""

    @workflow.run
    async def run(self, name: str) -> str:
        once = RetryPolicy(maximum_attempts=1)
        try:
            return str(
                await workflow.execute_activity(
                    name, Parcel("x", 1), start_to_close_timeout=timedelta(seconds=20), retry_policy=once
                )
            )
        except Exception as error:
            return str(error.__cause__)


class Counting(Interceptor):
    """An interceptor of the team's: counts the activities and workflows of its worker."""

    def __init__(self) -> None:
        self.activities: list[str] = []
        self.workflows: list[str] = []

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        seen = self.activities

        class Inbound(ActivityInboundInterceptor):
            async def execute_activity(self, input: ExecuteActivityInput) -> Any:
                seen.append(activity.info().activity_type)
                return await self.next.execute_activity(input)

        return Inbound(next)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        seen = self.workflows
        input.unsafe_extern_functions["note"] = lambda: seen.append(workflow.info().workflow_type)

        return CountingInbound


class CountingInbound(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        workflow.extern_functions()["note"]()
        return await self.next.execute_workflow(input)
