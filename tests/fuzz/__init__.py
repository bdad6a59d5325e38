"""Bytes that nobody meant to send, for both ends of the pipe, and for all else that the host reads.

`python -m pytest tests/fuzz` runs the corpus and a few thousand mutations of it. For longer:

    python -m tests.fuzz --seconds 3600                  # all targets, in turn
    python -m tests.fuzz --seconds 600 --target values   # or one
    cd sandbox_runtime/deno && deno task fuzz 1000000    # the other end; how many mutations

Where `atheris` is installed it is used, with its coverage; elsewhere inputs are mutated by `mutations.py`.
An input is a finding if its target raises, or takes more CPU or memory than `oracle.py` allows for its size.
What a fuzzer finds goes into `corpus`, as a file with a name that says what it is.
"""
