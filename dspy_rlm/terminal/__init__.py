"""What is shown on a terminal: a run's progress, and text that a terminal must not obey. Runs nothing."""
