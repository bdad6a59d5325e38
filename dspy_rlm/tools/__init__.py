"""Checks the user's tools and turns them into host functions that cells can call. Knows nothing of prompts."""
