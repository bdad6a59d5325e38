"""Terminal output: a run's progress, and escaping of text from anywhere."""
