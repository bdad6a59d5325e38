"""The entry point of `dspy-rlm ask`: finds mistakes that need no DSPy, and reports errors as text and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from dspy_rlm.cli.asking.request import STDERR, Request, request_of
from dspy_rlm.cli.exit_codes import INTERRUPTED, code_of
from dspy_rlm.cli.failures import explain, named
from dspy_rlm.cli.notes import Notes


def ask(options: argparse.Namespace) -> int:
    """Answers a question; returns the exit code.

    Raises:
        KeyboardInterrupt: Ctrl-C, where there is no answer.
        Exception: An error that the command line does not expect.
    """
    return answered(options, request_of, _ask)


def _ask(request: Request, notes: Notes) -> int:
    if request.paths:
        from dspy_rlm.inputs.paths import check_paths

        check_paths(request.paths)
    from dspy_rlm.cli.ask import run_ask

    return run_ask(request, notes)


def answered(
    options: argparse.Namespace,
    parse: Callable[[argparse.Namespace], Request],
    run: Callable[[Request, Notes], int],
) -> int:
    """Runs a command that has an answer. Its errors are text on stderr, and with `--json` an object on stdout too.

    Args:
        options: The parsed arguments.
        parse: Returns the request of the arguments. It imports no DSPy.
        run: Runs the request; returns the exit code.

    Raises:
        KeyboardInterrupt: Ctrl-C, where there is no answer.
        Exception: An error that the command line does not expect.
    """
    notes = Notes(as_json=options.events == STDERR)
    request: Request | None = None
    try:
        request = parse(options)
        notes.quiet = not request.shows_steps
        return run(request, notes)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as interrupt:
        if options.json:
            _print_envelope(interrupt, INTERRUPTED, request)
        raise
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        if options.json:
            _print_envelope(error, code, request)
        notes.error(f"dspy-rlm: {explain(error, request)}")
        return code


def _print_envelope(error: BaseException, code: int, request: Request | None) -> None:
    from dspy_rlm.cli.asking.envelope import envelope, write_whole
    from dspy_rlm.terminal.escaping import show_exactly

    run = getattr(error, "run", None)
    text = json.dumps(envelope(exit_code=code, run=run, error=named(error)), indent=2)
    if request is not None and request.output is not None:
        write_whole(request.output, f"{text}\n")
    else:
        show_exactly(text, sys.stdout)
