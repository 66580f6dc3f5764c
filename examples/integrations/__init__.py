"""Agents of other frameworks on Temporal, each in an environment of its own: `make test-integrations`."""
