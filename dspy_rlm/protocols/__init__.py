"""The protocols between a run, its record and its journal, and the wrappers of host functions. No I/O."""
