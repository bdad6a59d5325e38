"""What tests of sessions share: tools, limits, and ways to run a cell that has to end in one way."""

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
    """Gives back what it gets."""
    return args[0] if len(args) == 1 and not kwargs else (args, kwargs)


def fail(kind="ValueError", text="no"):
    raise {**globals()["__builtins__"], "QuotaError": QuotaError}[kind](text)


class QuotaError(OSError):
    pass


TOOLS = {"echo": echo, "fail": fail, "upper": str.upper}


def output(session, code):
    """What a cell printed that ran to its end."""
    result = session.run_cell(code)
    assert isinstance(result, Completed), result
    return result.output


def failure(session, code):
    """How a cell failed, in a session that keeps its state."""
    pid = session.pid
    result = session.run_cell(code)
    assert isinstance(result, Failed), result
    assert (result.state_lost, session.pid) == (False, pid)
    return result


def shown(result):
    """A traceback, whichever cell it is of."""
    return re.sub(r"<cell \d+>", "<cell>", result.traceback)


def when(event, action, *args):
    """Does something in another thread once the event has come."""

    def work():
        if event.wait(60):
            action(*args)

    thread = threading.Thread(target=work)
    thread.start()
    return thread
