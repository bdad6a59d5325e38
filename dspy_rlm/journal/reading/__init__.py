"""Reading a journal: lines to records."""
