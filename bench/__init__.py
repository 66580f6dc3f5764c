"""`make bench`: Assent beside a bare Temporal workflow that does the same work, on the same server in the same run."""
