"""Keeps the driver intact after hostile cells: snapshots of Python's names, hooks and memory, and their
restoring. Knows nothing of cells or values.
"""
