"""The state of a run in layers: its fields and limits, the prompts made from it, its turns. No I/O."""
