"""The approvals page over a real Temporal server, by the requests that a browser sends."""
