"""Systems to compare an RLM with: retrieval, and compaction into notes. Each is a `dspy.Module` of a signature."""
