"""Tests that take minutes: run by hand, with `make soak`."""
