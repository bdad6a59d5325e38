"""Confinement by the operating system: Landlock in `os_isolation.py`, seccomp in `seccomp_filter.py`.

Knows nothing of Deno or of this sandbox: it confines a command line.
"""
