"""Approving by clicking in the real Temporal Web UI, in headless Chromium."""
