"""One server and one scripted model for the whole session."""

pytest_plugins = ["assent.testing.fixtures"]
