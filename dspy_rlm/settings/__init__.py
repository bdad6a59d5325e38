"""The settings of an RLM: its arguments, checked, as one frozen value. They know nothing of runs."""
