"""Programs that exhaust resources: time, memory, the stack, the output.

Each ends within the limits; what is stated of a program here is what it says if it ends by itself. Those of
`MEMORY` come to the limit of memory before that of time, if a cell may work for 20 s.
"""

from __future__ import annotations

from .program import program

TIME = (
    program("while True", "reached()\nwhile True:\n    pass", ends=("failed",)),
    program("a sum in C", "reached()\nprint(sum(range(10**12)))", ends=("failed",), destroys=True),
    program(
        "a catastrophic regular expression",
        "import re\nreached()\nprint(re.match('(a+)+$', 'a' * 60 + 'b'))",
        ends=("failed",),
    ),
    program(
        "a big power", "reached()\nprint(len(str(7 ** 7 ** 9)))", ends=("failed",), destroys=True
    ),
    program(
        "a factorial",
        "import math\nreached()\nprint(math.factorial(10**7) % 7)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "long to text",
        "import sys\nsys.set_int_max_str_digits(0)\nreached()\nprint(len(str(1 << 400_000_000)))",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "an interrupt that is swallowed",
        """
reached()
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "an interrupt that is swallowed by a context",
        """
class Deaf:
    def __enter__(self):
        return self
    def __exit__(self, *_):
        return True
reached()
while True:
    with Deaf():
        while True:
            pass
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "an interrupt in a finally without end",
        """
reached()
try:
    while True:
        pass
finally:
    while True:
        try:
            while True:
                pass
        finally:
            continue
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "signals are ignored",
        """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
reached()
while True:
    pass
""",
        ends=("failed",),
        destroys=True,
    ),
    program("a sleep for ever", "import time\nreached()\ntime.sleep(10**9)", ends=("failed",)),
    program(
        "an await for ever",
        "import asyncio\nreached()\nawait asyncio.Event().wait()",
        ends=("failed",),
    ),
    program(
        "a cancellation that is swallowed",
        """
import asyncio
reached()
while True:
    try:
        await asyncio.sleep(1000)
    except BaseException:
        pass
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a loop of ready tasks",
        """
import asyncio
async def spin():
    while True:
        await asyncio.sleep(0)
reached()
await asyncio.gather(*[spin() for _ in range(100)])
""",
        ends=("failed",),
    ),
    program(
        "zlib again and again",
        "import zlib\ndata = bytes(5_000_000)\nreached()\nwhile True:\n    data = zlib.decompress(zlib.compress(data, 9))",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "hashing again and again",
        "import hashlib\ndata = bytes(20_000_000)\nreached()\nwhile True:\n    data = data[:-32] + hashlib.sha3_512(data).digest()[:32]",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a sort that calls back",
        """
class Never:
    def __lt__(self, other):
        while True:
            pass
reached()
sorted([Never(), Never()])
""",
        ends=("failed",),
    ),
    program(
        "a generator that never ends in C",
        "import itertools, collections\nreached()\ncollections.deque(itertools.repeat(1), maxlen=0)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a cell that shows its value for ever",
        """
class Slow:
    def __repr__(self):
        while True:
            pass
reached()
Slow()
""",
        ends=("failed",),
    ),
    program(
        "an exception whose text never ends",
        """
class Endless(Exception):
    def __str__(self):
        while True:
            pass
reached()
raise Endless
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a finaliser that never ends",
        """
class Endless:
    def __del__(self):
        while True:
            pass
reached()
Endless()
print("past")
""",
        destroys=True,
    ),
    program(
        "an import that never ends",
        """
import os, sys
with open("/tmp/never.py", "w") as file:
    file.write("while True: pass")
sys.path.insert(0, "/tmp")
reached()
import never
""",
        ends=("failed",),
    ),
    program(
        "compile that takes for ever",
        """
for text in ("-" * 60_000 + "1", "(" * 90 + "1" + ")" * 90, "+".join(["1"] * 3_000_000)):
    reached()
    try:
        compile(text, "x", "eval")
    except (MemoryError, RecursionError, SyntaxError) as error:
        print(type(error).__name__)
""",
        destroys=True,
    ),
    program(
        "a nest of comprehensions",
        "reached()\nprint(len([a for a in range(10**5) for b in range(10**5)]))",
        ends=("failed",),
    ),
    program(
        "difflib of two long texts",
        "import difflib\nreached()\nprint(difflib.SequenceMatcher(None, 'ab' * 20_000, 'ba' * 20_000, False).ratio())",
        ends=("failed",),
    ),
)

MEMORY = (
    program(
        "a list that grows",
        "held = []\nreached()\nwhile True:\n    held.append([0] * 100_000)",
        ends=("failed",),
    ),
    program("bytes all at once", "reached()\nheld = bytearray(2**31 - 100)", ends=("failed",)),
    program(
        "bytes that double",
        "held = b'x'\nreached()\nwhile True:\n    held += held",
        ends=("failed",),
    ),
    program(
        "text that doubles",
        "held = '\\U0001f600'\nreached()\nwhile True:\n    held += held",
        ends=("failed",),
    ),
    program(
        "MemoryError is swallowed",
        """
held = []
for _ in range(3000):
    try:
        held.append(bytearray(4_000_000))
    except MemoryError:
        pass
reached()
print("over")
""",
    ),
    program(
        "dicts and sets",
        "held = set()\nreached()\nfor number in range(10**9):\n    held.add((number, str(number) * 1000))",
        ends=("failed",),
    ),
    program(
        "a zip bomb",
        """
import zlib
packed = zlib.compress(bytes(8_000_000), 1)
held = []
reached()
while True:
    held.append(zlib.decompress(packed))
""",
        ends=("failed",),
    ),
    program(
        "buffers of JavaScript",
        """
from pyodide.ffi import to_js
held = []
data = bytes(10_000_000)
reached()
while True:
    held.append(to_js(data))
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "texts of JavaScript",
        """
from pyodide.ffi import to_js
held = []
reached()
for number in range(10**9):
    held.append(to_js([str(number) * 100_000]))
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "files in memory",
        """
number = 0
data = b"x" * 1_000_000
reached()
while True:
    with open(f"/tmp/filler{number}", "wb") as file:
        file.write(data)
    number += 1
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "very many small files",
        """
import os
os.makedirs("/tmp/many", exist_ok=True)
number = 0
reached()
while True:
    with open(f"/tmp/many/{number}", "wb") as file:
        file.write(bytes(20_000))
    number += 1
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "one file with a hole",
        'with open("/tmp/hole", "wb") as file:\n    reached()\n    file.seek(2**40)\n    file.write(b"x")',
        destroys=True,
    ),
    program(
        "very many tasks",
        """
import asyncio
async def wait(data):
    await asyncio.sleep(1000)
held = []
reached()
while True:
    held.append(asyncio.ensure_future(wait(bytes(20_000))))
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "very many threads",
        "import threading\nrelease = threading.Event()\nreached()\nfor _ in range(1000):\n"
        "    threading.Thread(target=release.wait).start()",
        ends=("failed",),
    ),
    program(
        "very many threads, each with a large frame",
        "import threading\nrelease = threading.Event()\ndef deep(left):\n"
        "    return deep(left - 1) if left else release.wait()\nreached()\nfor _ in range(1000):\n"
        "    threading.Thread(target=deep, args=(150,)).start()",
        ends=("failed",),
    ),
    program(
        "very many frames of generators",
        """
def nest(inner):
    yield from inner
def fill():
    held = iter(())
    for _ in range(3_000_000):
        held = nest(held)
    print(list(held))
reached()
fill()
""",
        destroys=True,
    ),
    program("a list that is multiplied", "reached()\nheld = [[]] * 2**28", ends=("failed",)),
    program("a number of a gigabit", "reached()\nheld = 1 << 2**33", ends=("failed",)),
    program("a format with a width", "reached()\nheld = f'{1:>{2**30}}'", ends=("failed",)),
    program(
        "the memory of wasm",
        """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_size_t
libc.sbrk.restype = ctypes.c_size_t
reached()
held = [libc.malloc(50_000_000) for _ in range(200)]
libc.sbrk(2**30)
print(sum(1 for place in held if place))
""",
        destroys=True,
    ),
    program(
        "proxies that are never destroyed",
        """
from pyodide.ffi import create_proxy
held = []
reached()
while True:
    held.append(create_proxy(lambda data=bytes(20_000): 1))
""",
        ends=("failed",),
        destroys=True,
    ),
)

STACK = (
    program("recursion", "def f():\n    return f()\nreached()\nf()", ends=("failed",)),
    program(
        "recursion without a limit",
        "import sys\nsys.setrecursionlimit(2**31 - 1)\ndef f(n):\n    return [f(n + 1)]\nreached()\nf(0)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "repr of a deep list",
        "deep = []\nfor _ in range(100_000):\n    deep = [deep]\nreached()\nprint(len(repr(deep)))",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a deep list as the last value",
        "deep = []\nfor _ in range(100_000):\n    deep = [deep]\nreached()\ndeep",
        destroys=True,
    ),
    program(
        "JSON of a deep list",
        "import json\nreached()\nprint(json.loads('[' * 200_000))",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "JSON made of a deep list",
        "import json\ndeep = []\nfor _ in range(100_000):\n    deep = [deep]\nreached()\njson.dumps(deep)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a pickle of a deep list",
        "import pickle\ndeep = []\nfor _ in range(100_000):\n    deep = [deep]\nreached()\npickle.dumps(deep)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a deep pickle",
        "import pickle\nreached()\npickle.loads(b'(' * 500_000 + b'l' * 500_000 + b'.')\nprint('freed')",
        destroys=True,
    ),
    program(
        "ast of deep brackets",
        "import ast\nreached()\nast.parse('(' * 100_000 + ')' * 100_000)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "ast of a long chain",
        "import ast\nreached()\nast.literal_eval('-' * 100_000 + '1')",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a chain of attributes compiled",
        "reached()\ncompile('a' + '.a' * 100_000, 'x', 'exec')",
        destroys=True,
    ),
    program(
        "a deep tree of ast compiled",
        """
import ast
node = ast.Constant(1)
for _ in range(100_000):
    node = ast.UnaryOp(ast.USub(), node)
reached()
compile(ast.fix_missing_locations(ast.Expression(node)), "x", "eval")
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "comparing deep lists",
        "a, b = [], []\nfor _ in range(100_000):\n    a, b = [a], [b]\nreached()\nprint(a == b)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "hashing deep tuples",
        "deep = ()\nfor _ in range(100_000):\n    deep = (deep,)\nreached()\nprint(hash(deep))",
        destroys=True,
    ),
    program(
        "copying a deep list",
        "import copy\ndeep = []\nfor _ in range(100_000):\n    deep = [deep]\nreached()\ncopy.deepcopy(deep)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "freeing a deep list",
        "deep = None\nfor _ in range(100_000):\n    deep = (deep,)\nreached()\ndel deep\nprint('freed')",
        shows="freed",
        destroys=True,
    ),
    program(
        "isinstance with deep tuples",
        "kinds = int\nfor _ in range(100_000):\n    kinds = (kinds,)\nreached()\nprint(isinstance('x', kinds))",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a deep chain of exceptions",
        """
error = None
for number in range(50_000):
    new = ValueError(number)
    new.__cause__ = error
    error = new
reached()
raise error
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a deep group of exceptions",
        """
error = ValueError("innermost")
for _ in range(3_000):
    error = ExceptionGroup("g", [error])
reached()
raise error
""",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a deep regular expression",
        "import re\nreached()\nre.compile('(' * 50_000 + ')' * 50_000)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a deep XML",
        "import xml.etree.ElementTree as tree\nreached()\ntree.fromstring('<a>' * 200_000 + '</a>' * 200_000)",
        destroys=True,
    ),
    program(
        "a key function that recurses through C",
        "def f(x):\n    return sorted([1, 2], key=f)\nreached()\nf(1)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a __getattr__ that recurses",
        "class A:\n    def __getattr__(self, name):\n        return getattr(self, name + 'x')\nreached()\nA().a",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "functools.partial of itself",
        "import functools\nf = functools.partial(print)\nf.__setstate__((f, (), {}, {}))\nreached()\nf()",
        ends=("failed",),
        destroys=True,
    ),
)

OUTPUT = (
    program(
        "a flood of lines",
        "reached()\nfor number in range(300_000):\n    print(number, 'x' * 100)",
        destroys=True,
    ),
    program("one long line", "reached()\nprint('x' * 60_000_000)"),
    program("one long value", "reached()\n'\\\\' * 30_000_000"),
    program(
        "a flood on the descriptors",
        "import os\nreached()\nfor _ in range(300):\n    os.write(1, b'x' * 100_000)\n    os.write(2, b'y' * 100_000)",
    ),
    program(
        "a flood of empty writes",
        "import sys\nreached()\nfor _ in range(300_000):\n    sys.stdout.write('')\n    sys.stdout.flush()",
        destroys=True,
    ),
    program(
        "a text of an exception that is long",
        "reached()\nraise ValueError('x' * 20_000_000)",
        ends=("failed",),
    ),
    program(
        "a name of an exception that is long",
        "reached()\nraise type('E' * 5_000_000, (Exception,), {})",
        ends=("failed",),
    ),
    program(
        "notes of an exception",
        "error = ValueError('a')\nfor _ in range(100_000):\n    error.add_note('n' * 100)\nreached()\nraise error",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "warnings without an end",
        "import warnings\nwarnings.simplefilter('always')\nreached()\nfor number in range(5_000):\n    warnings.warn('x' * 1000)",
        destroys=True,
    ),
    program(
        "unraisable exceptions without an end",
        "class A:\n    def __del__(self):\n        raise ValueError('x' * 1000)\nreached()\nfor _ in range(3000):\n    A()",
        destroys=True,
    ),
)

_EMIT = 'import sys\nemit = sys.modules["sandbox_runtime.guest.entry"]._host.emit\nreached()\n'

FLOODS = (
    *(
        program(
            f"a flood of output: {what}",
            _EMIT + f"for _ in range({times}):\n    emit({text})\nprint('done')",
            shows="done",
            ours="reaches for our driver",
        )
        for what, text, times in (
            ("empty texts", "''", 20_000),
            ("single characters", "'x'", 20_000),
            ("large texts", "'x' * 100_000", 1_000),
        )
    ),
    program(
        "a flood of output that never ends",
        _EMIT + "while True:\n    emit('x')\n    emit('')",
        ends=("failed",),
        ours="reaches for our driver",
    ),
    program(
        "a flood of output, and then no more of the interpreter",
        _EMIT + "import os\nfor _ in range(20_000):\n    emit('x')\nos.abort()",
        ends=("failed",),
        destroys=True,
        ours="reaches for our driver",
    ),
)

PROGRAMS = (*TIME, *MEMORY, *STACK, *OUTPUT, *FLOODS)
