"""Hostile programs as data, by class, and what judges a sandbox by them. See `catalogue.py`."""
