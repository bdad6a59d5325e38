"""Host functions that cells can call: declared, bound, run in threads, timed. Knows no process."""
