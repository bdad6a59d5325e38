"""The limits of models that all runs of the process keep together."""
