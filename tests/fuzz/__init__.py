"""Fuzzers for both ends of the pipe, and for all other input that the host parses.

`python -m pytest tests/fuzz` runs the corpus and a few thousand mutations of it. For longer:

    python -m tests.fuzz --seconds 3600                  # all targets, in turn
    python -m tests.fuzz --seconds 600 --target values   # or one
    cd sandbox_runtime/deno && deno task fuzz 1000000    # the other end, with the number of mutations

`test_replies.py` and the target `replies` read replies of every structure; `reply_rules.py` has the rules that hold for all of them.

If `atheris` is installed, its coverage guides the fuzzer; otherwise `mutations.py` mutates inputs blindly. An input is a
finding if its target raises, or takes more CPU time or memory than `oracle.py` allows for its size. Findings are added to
`corpus`, in files with descriptive names.
"""
