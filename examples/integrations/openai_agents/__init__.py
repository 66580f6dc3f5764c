"""A payer in the OpenAI Agents SDK."""
