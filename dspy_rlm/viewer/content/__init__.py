"""The parts of a document: runs, steps, calls, figures and evidence, each computed from the records of a journal. No I/O."""
