"""Programs that try to output more text than `Limits.output_chars` allows.

What the sandbox cuts itself can be undone inside of it. The host measures each text again.
"""

from __future__ import annotations

from .program import program

_DRIVER = 'import sys\ndriver = sys.modules["sandbox_runtime.guest.entry"].driver\n'
_OURS = "reaches for our driver"

PROGRAMS = (
    program("the message of an exception", "reached()\nraise ValueError('x' * 3_000_000)"),
    program(
        "the name of an exception", "reached()\nraise type('E' * 3_000_000, (Exception,), {})('x')"
    ),
    program(
        "exceptions behind exceptions",
        """
error = None
for number in range(90):
    new = ValueError(str(number) * 50_000)
    new.__cause__ = error
    error = new
reached()
raise error
""",
    ),
    program(
        "notes and groups",
        """
error = ExceptionGroup("g" * 1_000_000, [KeyError("k" * 1_000_000) for _ in range(20)])
error.add_note("n" * 3_000_000)
reached()
raise error
""",
    ),
    program(
        "text without an encoding",
        r"reached()" "\nprint('\\ud800' * 3_000_000)\nraise ValueError('\\udfff' * 3_000_000)",
    ),
    program(
        "a name that is not there", "reached()\nexec('n' * 3_000_000)", ends=("completed", "failed")
    ),
    program(
        "an unknown output",
        "reached()\nSUBMIT(**{'n' * 3_000_000: 1})",
        ends=("completed", "failed", "submitted"),
    ),
    program(
        "an error of a tool",
        "reached()\nlookup('k', times='x' * 3_000_000)",
        ends=("failed",),
    ),
    program("an argument that a tool has not", "reached()\nlookup('k', **{'n' * 3_000_000: 1})"),
    program(
        "many tools that are not there",
        "reached()\nfor name in ['t' * 3_000_000] * 3:\n    try:\n        globals()[name]()\n    except KeyError as error:\n        print(error)",
    ),
    program(
        "the driver's room for output",
        _DRIVER
        + "driver.output._half = driver.output._head_room = 10**9\nreached()\nprint('x' * 3_000_000)",
        ours=_OURS,
    ),
    program(
        "the driver's room by the closure of SUBMIT",
        """
def reach(function, depth=0):
    for cell in function.__closure__ or ():
        thing = cell.cell_contents
        if hasattr(thing, "output"):
            thing.output._half = thing.output._head_room = 10**9
        elif callable(thing) and hasattr(thing, "__closure__") and depth < 5:
            reach(thing, depth + 1)
reach(SUBMIT)
reached()
print("x" * 3_000_000)
""",
        ours=_OURS,
    ),
    program(
        "output that renders itself",
        _DRIVER
        + "reached()\ntype(driver.output).render = lambda self: 'x' * 3_000_000\nprint('y')",
        ours=_OURS,
        destroys=True,
    ),
    program(
        "an error that describes itself",
        """
import sandbox_runtime.guest.driver as driver_module
driver_module.describe = lambda error, limit: dict.fromkeys(("errorType", "message", "traceback"), "x" * 3_000_000)
reached()
1 / 0
""",
        ours=_OURS,
        destroys=True,
        ends=("failed",),
    ),
    program(
        "much is said before the end of the process",
        _DRIVER
        + """
reached()
for _ in range(300):
    driver.output._emit("x" * 10_000)
import ctypes
ctypes.string_at(1 << 31)
""",
        ours=_OURS,
        destroys=True,
        ends=("failed",),
    ),
    program(
        "a forged count of what was left out",
        "reached()\nprint('\\n... (999,999,999,999,999,999 characters omitted) ...\\n' * 100_000)",
    ),
)
