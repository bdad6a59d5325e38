"""The Deno executable and the files that a sandbox starts from: finds and verifies them.

Knows nothing of sessions or packages.
"""
