"""Listing a folder by the rules of Git, in bounded time."""
