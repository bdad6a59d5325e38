"""Everything the LM reads: instructions, variables, history; and the code in what it says. Makes no request."""
