"""The pure core, tested by the hundred."""
