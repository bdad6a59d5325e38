"""Runs under random faults, and compares what they report with what the server has counted.

python -m tests.accounting --runs 300 --seed 1
"""
