"""The documentation's site, as `make docs` built it."""
