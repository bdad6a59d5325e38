"""A namespace that outlives its process: checkpoints, replay, supervision.

Knows neither pools nor how an engine is installed.
"""
