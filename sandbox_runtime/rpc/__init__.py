"""One sandbox process and the messages on its pipe. Knows nothing of namespaces or values."""
