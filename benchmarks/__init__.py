"""Benchmarks that compare this project with its peer in DSPy, in one run on one machine."""
