"""The live view: the state of a run in progress, and its displays on a terminal, in lines and in notebooks."""
