"""Estimates what converting a value from the sandbox would cost, and refuses what costs too much.

It knows types and plain values, and nothing of frames, codecs or sessions.
"""
