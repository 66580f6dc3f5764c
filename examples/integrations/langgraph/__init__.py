"""A payer in LangGraph."""
