"""Green threads, and the standard library's modules on top of them. Knows nothing of tools or of values."""
