"""`dspy-rlm serve-policy`: scripted LMs behind an OpenAI-compatible server, to try commands and programs without a key."""

from __future__ import annotations

import argparse
import sys
import threading

from dspy_rlm.cli.demo.search import players
from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError
from dspy_rlm.terminal.escaping import show
from dspy_rlm.testing import PolicyServer


def serve_policies(options: argparse.Namespace) -> int:
    """Runs the command."""
    return serve(options.port)


def serve(port: int) -> int:
    """Serves until Ctrl-C. The first line of stdout is the address.

    Raises:
        CommandError: The port cannot be used.
    """
    try:
        server = PolicyServer(players(), port=port)
    except (OSError, OverflowError) as error:
        raise CommandError(
            f"Cannot serve on port {port}: {error}. Name another one, or 0 for any.", CONFIGURATION
        ) from error
    with server:
        show(server.base_url, sys.stdout)
        show(
            f"Scripted policies, no language models: openai/{', openai/'.join(players())}. Ctrl-C ends.",
            sys.stderr,
        )
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0
