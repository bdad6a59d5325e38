"""Python values as they cross between host and sandbox, in both directions, at a bounded cost.

Knows no process.
"""
