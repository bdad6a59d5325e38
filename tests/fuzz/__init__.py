"""Bytes that nobody meant to send, for both ends of the pipe.

`python -m pytest tests/fuzz` runs the corpus and a few thousand mutations of it. For longer:

    pip install atheris
    python -m tests.fuzz frames -max_total_time=600      # or values; the options are libFuzzer's
    cd sandbox_runtime/deno && deno task fuzz 1000000    # the other end; how many mutations

What a fuzzer finds goes into `corpus`, as a file with a name that says what it is.
"""
