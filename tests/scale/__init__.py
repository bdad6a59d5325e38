"""A job on a Ray cluster of three nodes whose processes are killed at random."""
