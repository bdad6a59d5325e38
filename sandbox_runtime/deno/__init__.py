"""What runs inside the sandbox process: TypeScript for Deno, and the Python that Pyodide loads.

The Python modules here are ordinary ones. The host imports `crossing` for the names that a pickle
refers to, and the tests run `bootstrap` under CPython.
"""
