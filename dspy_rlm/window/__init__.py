"""The view that a prompt has of a run that goes on: steps within a budget, and observations."""
