"""Ends of runs: by repetition, by a signal, and with the outputs that are there when no turn is left."""
