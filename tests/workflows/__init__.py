"""Runs over the real server."""
