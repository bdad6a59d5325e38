"""Generators: one task a module. Each makes items from draws, and solves an item a second way, from its text alone."""
