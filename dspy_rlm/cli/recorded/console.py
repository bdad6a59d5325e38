"""`dspy-rlm open`: the REPL of a step of a recorded run, to look around in. No LM is called."""

from __future__ import annotations

import argparse
import code
import codeop
import sys

from dspy_rlm.cli.exit_codes import COMPLETE, FAILED
from dspy_rlm.cli.journals import find_run
from dspy_rlm.journal import load
from dspy_rlm.replaying.open_repl import Repl, open_repl
from dspy_rlm.terminal.escaping import log_plainly, show
from sandbox_runtime import Failed

BANNER = """\
The REPL of {path} after step {step}. Its LMs and tools answer from the record only.
:vars lists the variables; :quit, or the end of the input, leaves."""


def open_step(options: argparse.Namespace) -> int:
    """Opens the REPL of a step: for a person at a terminal, or for code from `-c` or stdin."""
    log_plainly()
    path = find_run(options.run, options.journals)
    step = options.step if options.step is not None else len(load(path).steps)
    with open_repl(path, step=step) as repl:
        for number in repl.changed_steps:
            show(f"dspy-rlm: step {number} ended in another way than recorded.", sys.stderr)
        if options.code is not None:
            return _run_once(repl, options.code)
        if not sys.stdin.isatty():
            return _run_once(repl, sys.stdin.read())
        Console(repl).interact(banner=BANNER.format(path=path, step=step), exitmsg="")
    return COMPLETE


def _run_once(repl: Repl, source: str) -> int:
    return COMPLETE if _run(repl, source) else FAILED


def _run(repl: Repl, source: str) -> bool:
    """Runs a cell and prints its output; returns False if it failed."""
    result = repl.run(source)
    if result.output:
        show(result.output.rstrip("\n"), sys.stdout)
    if isinstance(result, Failed):
        show(result.traceback or f"{result.error_type}: {result.message}", sys.stderr)
        return False
    return True


class Console(code.InteractiveConsole):
    """Python's own prompt, whose code runs in the sandbox."""

    def __init__(self, repl: Repl) -> None:
        super().__init__()
        self._repl = repl

    def runsource(self, source: str, filename: str = "<input>", symbol: str = "single") -> bool:
        """Runs a statement in the sandbox; returns True if more lines belong to it."""
        if source.strip() == ":quit":
            raise SystemExit
        if source.strip() == ":vars":
            for name, value in self._repl.variables().items():
                show(f"{name}: {value}", sys.stdout)
            return False
        try:
            if codeop.compile_command(source, filename, symbol) is None:
                return True
        except (SyntaxError, ValueError, OverflowError):
            pass  # the sandbox reports the error, or accepts the code: `await` is allowed there
        if source.strip():
            _run(self._repl, source)
        return False
