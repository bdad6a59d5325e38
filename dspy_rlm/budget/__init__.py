"""The limits of a run, its one ledger, and what a call may cost before it is sent. Makes no request; knows no LM."""
