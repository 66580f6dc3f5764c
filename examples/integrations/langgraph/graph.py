"""The agent as a graph: a node asks the model in an activity, another one carries out its calls in workflow code.

A node with `execute_in: "workflow"` may wait for a person. The state is plain JSON (OpenAI's messages), because it
crosses activities.
"""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.messages import convert_to_messages, convert_to_openai_messages
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from temporalio import workflow

from examples.integrations import payments


class State(TypedDict):
    """The conversation so far."""

    messages: Annotated[list[dict[str, Any]], operator.add]


async def look_up_invoice(number: str) -> str:
    """Look an invoice up.

    Args:
        number: The number of the invoice.
    """
    return await workflow.execute_activity(payments.look_up_invoice, number, start_to_close_timeout=payments.TIMEOUT)


async def wire_transfer(to: str, cents: int, config: RunnableConfig) -> str:  # noqa: D417 - the model does not see config
    """Send money. It cannot be taken back.

    Args:
        to: The IBAN of the receiver.
        cents: How much, in euro cents.
    """
    return await payments.transfer_if_approved(to, cents, config["configurable"]["requested_by"])


TOOLS = {each.__name__: tool(each, parse_docstring=True) for each in (look_up_invoice, wire_transfer)}


async def ask_model(state: State) -> State:
    """Ask the model, in an activity."""
    model = ChatOpenAI(model=payments.MODEL, use_responses_api=True).bind_tools(list(TOOLS.values()))
    answer = await model.ainvoke(convert_to_messages(state["messages"]))
    return {"messages": convert_to_openai_messages([answer], text_format="string")}


async def call_tools(state: State, config: RunnableConfig) -> State:
    """Carry out the calls of the last answer side by side, in workflow code."""
    [answer] = convert_to_messages(state["messages"][-1:])
    results = await asyncio.gather(*(TOOLS[call["name"]].ainvoke(call, config) for call in answer.tool_calls))
    return {"messages": convert_to_openai_messages(results)}


async def next_node(state: State) -> str:
    """Where to go after an answer of the model. It is workflow code, where LangGraph cannot run what is not async."""
    return "call_tools" if state["messages"][-1].get("tool_calls") else END


def payer() -> StateGraph[State]:
    """Make the graph. The plugin changes its nodes, so each plugin needs one of its own."""
    graph = StateGraph(State)
    graph.add_node("ask_model", ask_model, metadata={"execute_in": "activity"})
    graph.add_node("call_tools", call_tools, metadata={"execute_in": "workflow"})
    graph.add_edge(START, "ask_model")
    graph.add_conditional_edges("ask_model", next_node)
    graph.add_edge("call_tools", "ask_model")
    return graph
