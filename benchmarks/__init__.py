"""Benchmarks that put this project beside the one to beat, in one run on one machine."""
