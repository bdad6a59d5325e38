"""Programs that misuse their tools."""

from __future__ import annotations

from .program import program

_DRIVER = 'import sys\ndriver = sys.modules["sandbox_runtime.guest.entry"].driver\n'

PROGRAMS = (
    program("a tool that is not there", "reached()\nprint(launch('x'))", ends=("failed",), calls=0),
    program(
        "arguments that do not fit",
        """
for ask in (lambda: lookup(), lambda: lookup("a", 1, 2, 3), lambda: lookup(nothing=1), lambda: lookup("a", times="b")):
    try:
        reached()
        print(ask())
    except Exception as error:
        print(type(error).__name__)
""",
        calls=1,
    ),
    program(
        "arguments that are instances",
        """
class Odd:
    def __reduce__(self):
        return (print, ("FOR" + "GED",))
for value in (Odd(), Odd, print, lambda: 1, (n for n in range(3)), open, type, object(), ...):
    try:
        reached()
        echo(value)
        print("sent", type(value))
    except Exception as error:
        print(type(error).__name__)
""",
    ),
    program(
        "an argument that holds itself",
        """
cycle = []
cycle.append(cycle)
loop = {}
loop["me"] = loop
for value in (cycle, loop):
    try:
        reached()
        print(echo(value))
    except Exception as error:
        print(type(error).__name__)
""",
    ),
    program(
        "an argument that is deep",
        """
for depth in (50, 500, 5_000, 100_000):
    deep = []
    for _ in range(depth):
        deep = [deep]
    try:
        reached()
        echo(deep)
        print(depth, "sent")
    except Exception as error:
        print(depth, type(error).__name__)
""",
    ),
    program(
        "an argument that is huge",
        """
for size in (30_000_000, 100_000_000):
    reached()
    try:
        print(size, len(echo("x" * size)))
    except Exception as error:
        print(size, type(error).__name__)
""",
        calls=2,
    ),
    program(
        "a number that is huge",
        """
for value in (10**5000, -(10**20_000), 1 << 1_000_000):
    try:
        reached()
        echo(value)
        print("sent")
    except Exception as error:
        print(type(error).__name__, str(error)[:100])
""",
    ),
    program(
        "numbers that are none",
        "reached()\nfor value in (float('nan'), float('inf'), -0.0, 1e400, 5e-324):\n    print(echo(value))",
    ),
    program(
        "texts that no encoding has",
        """
for value in ("\\ud800", "a\\udfffb", "\\x00", "\\u2028", "\\U0010ffff", "\\r\\n\\r\\nContent-Length: 3"):
    try:
        reached()
        echo(value)
        print("sent", ascii(value))
    except Exception as error:
        print(type(error).__name__)
""",
    ),
    program(
        "a flood of calls",
        "for number in range(3000):\n    echo(number)\nreached()\nprint('done')",
        shows="done",
        calls=3000,
    ),
    program(
        "a call that is swallowed and repeated",
        """
for _ in range(50):
    try:
        reached()
        lookup("x", times="many")
    except BaseException:
        pass
print("over")
""",
        shows="over",
    ),
    program(
        "attributes of the tool",
        """
for name in dir(echo):
    if name.startswith("__") and name not in ("__closure__", "__globals__", "__code__", "__wrapped__", "__self__"):
        continue
    print(name, str(getattr(echo, name, None))[:60])
echo.__code__ = (lambda *a, **k: "mine").__code__ if not echo.__closure__ else echo.__code__
reached()
""",
        calls=0,
    ),
    program(
        "the name inside of the tool",
        """
import types
for index, cell in enumerate(echo.__closure__ or ()):
    if cell.cell_contents in ("echo", "echo() arguments"):
        cell.cell_contents = "launch"
try:
    reached()
    print(echo("x"))
except Exception as error:
    print(type(error).__name__, error)
finally:
    for cell in echo.__closure__ or ():
        if cell.cell_contents == "launch":
            cell.cell_contents = "echo"
""",
        calls=0,
        ours="changes our function's cells",
    ),
    program(
        "a tool is rebound",
        "def echo(value):\n    return 'mine'\nreached()\nprint(echo(1))",
        "print(echo('back'))",
        shows="echo: back",
        calls=1,
    ),
    program(
        "SUBMIT is rebound",
        "def SUBMIT(**_):\n    print('swallowed')\nreached()\nSUBMIT(answer='a', count=1)",
        "SUBMIT(answer='b', count=2)",
        ends=("submitted",),
        submits="b",
    ),
    program(
        "tools are deleted",
        "del echo, lookup, SUBMIT\nreached()",
        "print(echo('back'))",
        shows="echo: back",
    ),
    program(
        "a call when the cell is over, by a task",
        """
import asyncio
async def late():
    await asyncio.sleep(0.01)
    return echo("late")
task = asyncio.ensure_future(late())
reached()
""",
        "import asyncio\nawait asyncio.sleep(0.1)\nprint('quiet')",
        shows="quiet",
        calls=0,
    ),
    program(
        "a call when the cell is over, by a finaliser",
        """
class Late:
    def __del__(self):
        echo("late")
held = Late()
held.me = held
""",
        "del held\nimport gc\ngc.collect()\nreached()\nprint('collected')",
        shows="collected",
        calls=1,
    ),
    program(
        "a call when the cell is over, by a weak reference",
        """
import weakref
class Thing: pass
keep = []
def fail():
    held = Thing()
    keep.append(weakref.ref(held, lambda _: echo("late")))
    reached()
    raise ValueError("the traceback holds it")
fail()
""",
        ends=("failed",),
        calls=1,
    ),
    program(
        "SUBMIT by a task of an earlier cell",
        """
import asyncio
async def late():
    while True:
        try:
            await asyncio.sleep(0.001)
        except BaseException:
            pass
        try:
            SUBMIT(answer="late", count=1)
        except Exception:
            pass
task = asyncio.ensure_future(late())
reached()
""",
        "print('mine')",
        shows="mine",
    ),
    program(
        "many awaited at once",
        """
import asyncio
reached()
print(len(await asyncio.gather(*[echo.aio(n) for n in range(1000)])))
""",
        shows="1000",
        calls=1000,
        ours=".aio",
    ),
    program(
        "awaited and cancelled",
        """
import asyncio
tasks = [asyncio.ensure_future(echo.aio(n)) for n in range(100)]
await asyncio.sleep(0)
reached()
for task in tasks:
    task.cancel()
print(len(await asyncio.gather(*tasks, return_exceptions=True)))
""",
        shows="100",
        calls=100,
        ours=".aio",
    ),
    program(
        "awaited by nobody",
        "coroutines = [echo.aio(n) for n in range(10)]",
        "del coroutines\nreached()\nprint('gone')",
        shows="gone",
        calls=0,
        ours=".aio",
    ),
    program(
        "a coroutine of the last cell",
        "held = echo.aio('late')",
        "reached()\nprint(await held)",
        shows="echo: late",
        calls=1,
        ours=".aio",
    ),
    program(
        "a batch of odd things",
        """
import itertools
class Endless:
    def __iter__(self):
        raise ZeroDivisionError
for items in ([], [1], "ab", {1: 2}, range(3), Endless(), None, 5):
    try:
        reached()
        print(echo.batched(items))
    except Exception as error:
        print(type(error).__name__)
""",
        ours=".batched",
    ),
    program(
        "a batch without an end",
        """
import itertools
try:
    reached()
    echo.batched(itertools.repeat("x"))
except BaseException as error:
    print(type(error).__name__)
    raise
""",
        ours=".batched",
        calls=0,
    ),
    program(
        "a batch whose items fail",
        "reached()\nprint([str(item)[:20] for item in lookup.batched(['a', 'b'], ['x', 2])])",
        ours=".batched",
        calls=2,
    ),
    program(
        "a text is asked for a path",
        """
for path in ("@SECRET@", "../secret.txt", "../../secret.txt", "/etc/passwd", "./../secret.txt", "a\\0b", ".", "..", "~", "file://@SECRET@"):
    for ask in (lambda: files[path], lambda: files.grep("-", glob=path), lambda: files.paths(path), lambda: files.tree(path)):
        try:
            reached()
            print(path, str(ask())[:200])
        except Exception as error:
            print(path, type(error).__name__)
""",
        ours="a directory as an input",
    ),
    program(
        "a text is asked for what it is not",
        """
import sys
host_calls = sys.modules["sandbox_runtime.guest.texts.host_calls"]
for operation in ("__class__", "path", "root", "open", "_path", "index", "__init__", None, 5):
    for arguments in ((), ("@SECRET@",), (0, 10**30), (-1, -1), ([], {})):
        try:
            reached()
            print(operation, str(host_calls.ask(files, operation, *arguments))[:200])
        except Exception as error:
            print(operation, type(error).__name__)
""",
        ours="a directory as an input",
    ),
    program(
        "handles by number",
        """
from sandbox_runtime.guest.values.handles import Handle
for number in (*range(-3, 12), 10**9, True, 2**64):
    try:
        reached()
        print(number, echo(Handle(number, "Directory", "")))
    except Exception as error:
        print(number, type(error).__name__)
""",
        ours="our handles",
        calls=13,
    ),
    program(
        "a pattern that never ends, on the host",
        """
for pattern in ("(a+)+$", "(.*)*x", "(?:a|a)*b", "(" * 500, "a{1,99999999}"):
    try:
        reached()
        print(len(files.grep(pattern)))
    except Exception as error:
        print(type(error).__name__)
""",
        ours="a directory as an input",
    ),
    program(
        "the driver registers other tools",
        _DRIVER
        + """
import json
tools = [{"name": name, "doc": ""} for name in ("echo", "lookup", "launch")]
fields = [{"name": name, "type": "str"} for name in ("answer", "count")]
told = json.dumps({"outputs": fields, "tools": tools})
try:
    driver.register(told)
except RuntimeError as error:
    print(error)
driver._running = False
try:
    driver.register(told)
finally:
    driver._running = True
reached()
try:
    print(driver._namespace["launch"]("x"))
except Exception as error:
    print(type(error).__name__, error)
""",
        ours="our driver",
        destroys=True,
        calls=0,
    ),
)
