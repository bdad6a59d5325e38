"""Host functions that cells can call: declares, binds, runs and times them. Knows nothing of processes."""
