"""Hostile programs as data, by class, and the judge of sandboxes. See `catalogue.py`."""
