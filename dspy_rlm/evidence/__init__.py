"""Answers that can be checked: validators, quotes and spans, the coverage of the inputs, the lineage of the outputs."""
