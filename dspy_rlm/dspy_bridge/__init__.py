"""Callbacks, streams, traces, pickles and interpreters, as DSPy has them. Knows no run."""
