"""What runs inside the sandbox on behalf of this package: standard library only, sent as source."""
