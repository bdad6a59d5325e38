"""Threads, cancellation, and DSPy's stream from any thread. Knows no run and no LM."""
