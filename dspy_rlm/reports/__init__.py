"""The figures and the end of a run as plain records, and in words. They know nothing of LMs, budgets or sandboxes."""
