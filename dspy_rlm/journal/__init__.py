"""The journal: a run as a file that can be read, resumed and repeated."""
