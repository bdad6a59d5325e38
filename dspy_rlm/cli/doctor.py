"""`dspy-rlm doctor`: the parts of the sandbox, and by choice a model."""

from __future__ import annotations

import argparse
import subprocess
import sys


def doctor(options: argparse.Namespace) -> int:
    """Runs the checks; returns 0 if all parts work."""
    command = [sys.executable, "-m", "sandbox_runtime", "doctor"]
    return subprocess.call([*command, "--json"] if options.json else command)
