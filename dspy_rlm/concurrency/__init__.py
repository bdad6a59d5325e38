"""Cancellation, and DSPy's stream from any thread. Knows nothing of runs and LMs."""
