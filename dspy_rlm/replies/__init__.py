"""Reads the replies of a root LM: text in, code or a message for the LM out. Knows no adapter, run or sandbox."""
