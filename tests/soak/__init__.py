"""A soak test: many sessions in many threads, while their processes are killed and stopped at random."""
