"""Assent against servers that nobody here wrote: `make test-llm`."""
