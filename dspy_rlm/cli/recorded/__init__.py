"""The commands on recorded runs: list, show, stats, prune; replay, compare, fork, open."""
