"""Jobs: one RLM over many rows, as `dspy_rlm.batch` runs them. Rows in, a journal by key, limits of the whole job, rows out."""
