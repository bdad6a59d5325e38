"""Signatures as cells write them, and the inputs and outputs of one, checked. Makes no request."""
