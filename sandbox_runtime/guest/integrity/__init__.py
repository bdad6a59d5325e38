"""What keeps the driver whole after hostile cells: what Python's names, hooks and memory were, and how to put them
back. Knows no cell and no value.
"""
