"""The files and the Deno that a sandbox is started from: where they lie, and whether they are what they should be.

Knows no session and nothing of packages.
"""
