"""What a prompt shows of a run that goes on: steps within a budget, and observations."""
