"""The start of `dspy-rlm demo`."""

from __future__ import annotations

import argparse
import os


def demo(options: argparse.Namespace) -> int:
    """Runs the demonstration without network, whatever the environment variables say."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    from dspy_rlm.cli.demo.run import run_demo
    from dspy_rlm.cli.watching import live_of

    return run_demo(journal=options.journal, live=live_of(plain=options.plain, quiet=options.quiet))
