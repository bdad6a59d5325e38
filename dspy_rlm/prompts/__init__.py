"""Everything the LM reads (instructions, variables, history), and the code in its replies. Makes no LM call."""
