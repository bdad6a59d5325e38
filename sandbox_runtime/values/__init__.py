"""Python values as they cross between host and sandbox, in both directions, and what that may cost.

Knows no process.
"""
