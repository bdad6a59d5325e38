"""`python -m dspy_rlm`: the command line, where the script `dspy-rlm` is not on the PATH."""

from __future__ import annotations

import sys

from dspy_rlm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
