"""Helpers for tests of sessions: tools, limits, and running a cell with an expected outcome."""

from __future__ import annotations

import re
import threading

from sandbox_runtime import Completed, Failed, Limits

MEBIBYTE = 2**20

# The limit is met at once, and the cell has all the time that it needs to stop.
HASTY = Limits(cell_seconds=0.3, grace_seconds=30)

UNINTERRUPTIBLE = """
while True:
    try:
        while True: pass
    except BaseException: pass
"""


def echo(*args, **kwargs):
    """Returns its argument."""
    return args[0] if len(args) == 1 and not kwargs else (args, kwargs)


def fail(kind="ValueError", text="no"):
    raise {**globals()["__builtins__"], "QuotaError": QuotaError}[kind](text)


class QuotaError(OSError):
    pass


TOOLS = {"echo": echo, "fail": fail, "upper": str.upper}


def output(session, code):
    """Runs a cell that must complete, and returns its output."""
    result = session.run_cell(code)
    assert isinstance(result, Completed), result
    return result.output


def failure(session, code):
    """Runs a cell that must fail in a session that keeps its state, and returns the failure."""
    pid = session.pid
    result = session.run_cell(code)
    assert isinstance(result, Failed), result
    assert (result.state_lost, session.pid) == (False, pid)
    return result


def everything_in(result):
    """Returns a traceback, whichever cell it is from."""
    return re.sub(r"<cell \d+>", "<cell>", result.traceback)


def when(event, action, *args):
    """Runs an action in another thread once the event is set."""

    def work():
        if event.wait(60):
            action(*args)

    thread = threading.Thread(target=work)
    thread.start()
    return thread
