"""The workflows that a worker runs: deterministic, and thin over the pure core in `assent`."""
