"""`dspy-rlm run`: an RLM of a program with inputs from the shell, or a whole program that uses `dspy.RLM`."""
