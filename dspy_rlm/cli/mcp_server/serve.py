"""The command `dspy-rlm mcp`: from its flags to a server that runs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import fields
from typing import Any

from dspy_rlm.cli.asking.request import (
    MODEL_VARIABLE,
    SUB_MODEL_VARIABLE,
    Budgets,
    named_models,
    prices,
)
from dspy_rlm.cli.exit_codes import CONFIGURATION, USAGE, CommandError
from dspy_rlm.cli.journals import folder_of_runs, journal_of
from dspy_rlm.terminal.escaping import log_plainly, show
from sandbox_runtime.helpers import start_thread

# The time that runs have to end after Ctrl-C.
GRACE_SECONDS = 2.0

# The limits that have a default in an RLM; a client must not exceed those either.
_DEFAULTS = {"max_iterations": 20, "max_llm_calls": 50, "max_depth": 1}


def serve(options: argparse.Namespace) -> int:
    """Serves until the client closes stdin, or until Ctrl-C or SIGTERM.

    Raises:
        CommandError: The configuration cannot be used.
    """
    server = prepared(options)
    log_plainly()
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):  # the usual end
        asyncio.run(_serve(server, options.http))
    return 0


async def _serve(server: Any, place: str | None) -> None:
    if place is not None:
        from dspy_rlm.cli.mcp_server.http import serve_http

        await serve_http(server, place)
        return
    if sys.stdin.isatty():
        show(
            "An MCP server: it waits for messages of a client on stdin. Name this command in the client's list of "
            "servers. Ctrl-D ends it.",
            sys.stderr,
        )
    _end_on_signals()
    await server.run_stdio_async()


def _end_on_signals() -> None:
    """Lets Ctrl-C and SIGTERM cancel the runs, and end the process soon after.

    A thread of the `mcp` package waits for the next line on stdin, and cannot be stopped.
    """
    serving = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if serving is not None:
            serving.cancel()
        start_thread(_exit_soon, "rlm-mcp-exit")

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, end)


def _exit_soon() -> None:
    time.sleep(GRACE_SECONDS)
    os._exit(0)


def prepared(options: argparse.Namespace) -> Any:
    """Returns the server of a command line.

    Raises:
        CommandError: The configuration cannot be used, or the `mcp` package is missing.
    """
    try:
        from dspy_rlm.cli.mcp_server.tools import server_of
    except ModuleNotFoundError as error:
        raise CommandError(
            f'`dspy-rlm mcp` needs the {error.name} package: pip install "dspy-rlm[mcp]".',
            CONFIGURATION,
        ) from error
    from dspy_rlm.cli.mcp_server.asking import Asking
    from dspy_rlm.cli.mcp_server.caps import NAMES, Caps
    from dspy_rlm.cli.mcp_server.recorded import Recorded
    from dspy_rlm.cli.mcp_server.roots import Roots

    if options.parallel < 1:
        raise CommandError("--parallel must be 1 or more.", USAGE)
    budgets = _budgets(options)
    limits = {**_DEFAULTS, **{name: budgets[name] for name in NAMES if name in budgets}}
    settings = {name: value for name, value in budgets.items() if name not in NAMES}
    if options.on_exhausted:
        settings["on_exhausted"] = options.on_exhausted
    folder = None
    if not options.no_journal:
        folder = folder_of_runs(options.journal)
        settings["journal"] = journal_of(str(folder))
    roots = Roots(options.roots)
    recorded = Recorded(folder, all_runs=options.all_runs)
    variable = os.environ.get(SUB_MODEL_VARIABLE)
    asking = Asking(
        model=options.model or os.environ.get(MODEL_VARIABLE),
        sub_models=named_models(options.sub_models or ([variable] if variable else [])),
        api_base=options.api_base,
        caps=Caps(limits, total_cost=options.total_cost, total_runs=options.total_runs),
        settings=settings,
        roots=roots,
        recorded=recorded,
    )
    return server_of(asking, recorded, roots, options.parallel)


def _budgets(options: argparse.Namespace) -> dict[str, Any]:
    names = [one.name for one in fields(Budgets) if one.name != "prices"]
    return Budgets(
        **{name: getattr(options, name) for name in names}, prices=prices(options.prices) or None
    ).set
