"""The live view: the state of a run that goes on, and its displays on a terminal, in lines and in notebooks."""
