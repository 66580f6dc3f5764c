"""A payer in pydantic-ai."""
