"""What touches DSPy's insides: callbacks, streams, traces, pickles, interpreters. Knows no run."""
