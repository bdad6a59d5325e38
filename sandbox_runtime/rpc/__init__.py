"""One sandbox process and the messages on its pipe. Knows no namespace and no value."""
