"""Parses the signatures that cells write; checks the inputs and outputs of a signature. Makes no LM call."""
