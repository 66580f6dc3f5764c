"""Programs beside Assent, in other languages and frameworks, against the real server."""
