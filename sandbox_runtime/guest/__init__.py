"""The Python that runs inside Pyodide: the driver of cells and what it needs. The standard library only.

The host imports it for the names that a pickle refers to, and the tests run it under CPython. It imports nothing
of the host's.
"""
