"""The things that one run leaves for the next: a REPL with its inputs and variables. Knows nothing of the loop of a run."""
