"""The models that are configured: what is known of each, where that comes from, and whether it answers."""
