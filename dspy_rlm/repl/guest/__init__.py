"""Python that runs inside the sandbox for this package: standard library only, sent as source."""
