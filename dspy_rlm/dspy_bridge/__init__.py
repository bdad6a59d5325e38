"""Callbacks, streams, traces, pickles and interpreters, as DSPy defines them. Knows nothing of runs."""
