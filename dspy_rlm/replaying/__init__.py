"""Uses of a recorded run: repeat it, leave it at a step, look into it, compare it with another."""
