"""Programs with ordinary mistakes of models, without malice: the session must survive all of them."""

from __future__ import annotations

from .program import program

# Deeper than any intended value, though a cell may compute with it.
DEEP = 5_000
_NEST = f"DEEP = {DEEP}\ndeep, other = [], []\nfor _ in range(DEEP):\n    deep, other = [deep], [other]\n"

NO_PYTHON = "it is no Python, so nothing of it runs"

PROGRAMS = (
    *(
        program(
            f"nested {DEEP:,} deep, {what}", f"{_NEST}reached()\n{code}", "print(1 + 1)", shows="2"
        )
        for what, code in (
            ("as JSON", "import json\njson.loads('[' * DEEP + ']' * DEEP)\njson.dumps(deep)"),
            ("printed", "print(len(repr(deep)))"),
            ("compared", "print(deep == other)"),
            (
                "pickled",
                "import pickle\ntry:\n    pickle.dumps(deep)\nexcept RecursionError:\n    pass",
            ),
            (
                "copied",
                "import copy\ntry:\n    copy.deepcopy(deep)\nexcept RecursionError:\n    pass",
            ),
            ("freed", "del deep, other\nprint('freed')"),
        )
    ),
    program(
        "an exception with an argument that is no JSON",
        "reached()\nraise ValueError({1, 2}, object(), print)",
        ends=("failed",),
        shows="ValueError",
    ),
    program(
        "an exception with bytes and NaN",
        "reached()\nraise ValueError(b'\\xff', float('nan'), 10**5000)",
        ends=("failed",),
    ),
    program(
        "an exception that holds itself",
        "error = ValueError('a')\nerror.args = (error,)\nreached()\nraise error",
        ends=("failed",),
    ),
    program(
        "an exception with lone surrogates",
        "reached()\nraise ValueError('\\ud800')",
        ends=("failed",),
        shows="ValueError",
    ),
    program(
        "an exception that is a class",
        "reached()\nraise KeyError",
        ends=("failed",),
        shows="KeyError",
    ),
    program(
        "raise of what is no exception",
        "reached()\nraise 'text'",
        ends=("failed",),
        shows="TypeError",
    ),
    program(
        "an unclosed bracket",
        "print((1 + 2)\nprint(3",
        ends=("failed",),
        shows="SyntaxError",
        silent=NO_PYTHON,
    ),
    program(
        "an unclosed text", 'print("abc)', ends=("failed",), shows="SyntaxError", silent=NO_PYTHON
    ),
    program(
        "tabs and spaces",
        "if True:\n\tx = 1\n        y = 2\n",
        ends=("failed",),
        shows="TabError",
        silent=NO_PYTHON,
    ),
    program(
        "a null byte",
        "x = 1\x00\nprint(x)",
        ends=("failed",),
        shows="SyntaxError",
        silent=NO_PYTHON,
    ),
    program(
        "a lone surrogate in the code", "reached()\nprint('\ud800')", ends=("completed", "failed")
    ),
    program(
        "a byte order mark and odd line ends",
        "\ufeffx = 1\r\ny = 2\rprint(x + y)\x0c\n",
        ends=("failed",),
        shows="SyntaxError",
        silent=NO_PYTHON,
    ),
    program(
        "odd line ends and a form feed",
        "x = 1\r\ny = 2\rprint(x + y)\x0c\r\nreached()",
        shows="3",
    ),
    program("an empty cell", "", ends=("completed",), silent="there is nothing in it"),
    program(
        "only comments",
        "# nothing\n\n   \n# at all",
        ends=("completed",),
        silent="there is nothing in it",
    ),
    program(
        "a fence of Markdown",
        "```python\nprint(1)\n```",
        ends=("failed",),
        shows="SyntaxError",
        silent=NO_PYTHON,
    ),
    program(
        "a prompt of the REPL",
        ">>> print(1)\n1",
        ends=("failed",),
        shows="SyntaxError",
        silent=NO_PYTHON,
    ),
    program(
        "return outside of a function",
        "return 5",
        ends=("failed",),
        shows="SyntaxError",
        silent=NO_PYTHON,
    ),
    program("await of what cannot be awaited", "reached()\nawait 5", ends=("failed",)),
    program("yield at the top", "yield 5", ends=("failed",), shows="SyntaxError", silent=NO_PYTHON),
    program("SystemExit", "reached()\nraise SystemExit(3)", ends=("failed",)),
    program("sys.exit", "import sys\nreached()\nsys.exit('bye')", ends=("failed",)),
    program("exit()", "reached()\nexit()", ends=("failed",)),
    program("quit()", "reached()\nquit(1)", ends=("failed",)),
    program("KeyboardInterrupt", "reached()\nraise KeyboardInterrupt('mine')", ends=("failed",)),
    program("GeneratorExit", "reached()\nraise GeneratorExit", ends=("failed",)),
    program("StopIteration", "reached()\nraise StopIteration(5)", ends=("failed",)),
    program(
        "StopAsyncIteration and CancelledError",
        "import asyncio\nreached()\nraise asyncio.CancelledError('mine')",
        ends=("failed",),
    ),
    program(
        "CancelledError in an await",
        "import asyncio\nawait asyncio.sleep(0)\nreached()\nraise asyncio.CancelledError",
        ends=("failed",),
    ),
    program("input()", "reached()\nname = input('Your name? ')\nprint(name)", ends=("failed",)),
    program(
        "getpass and stdin",
        "import getpass, sys\nprint(repr(sys.stdin.readline()))\nreached()\nprint(getpass.getpass())",
        ends=("completed", "failed"),
    ),
    program("breakpoint()", "reached()\nbreakpoint()"),
    program("help()", "help(len)\nreached()\nhelp()"),
    program("license() and copyright", "print(license, copyright, credits)\nlicense()\nreached()"),
    program(
        "variables with the names of modules",
        "json = 1\nsys = 2\nlen_ = 3\nre = os = asyncio = builtins = None\nreached()",
        "print(json + sys)",
        shows="3",
    ),
    program(
        "variables with the names of builtins",
        "list = [1]\nlen = 5\nstr = print\nprint = None\nisinstance = int = dict = type = repr = None\nreached()",
        "del list, len, str, print, isinstance, int, dict, type, repr\nprint('fine')",
        shows="fine",
    ),
    program("a slice of a dict", "d = {'a': 1}\nreached()\nd[:3]", ends=("failed",)),
    program(
        "a set submitted", "reached()\nSUBMIT(answer={1}, count=1)", ends=("submitted", "failed")
    ),
    program(
        "SUBMIT of one dict",
        "reached()\nSUBMIT({'answer': 'a', 'count': 1})",
        ends=("submitted", "failed"),
    ),
    program(
        "SUBMIT with a name that is not there",
        "reached()\nSUBMIT(answer=undefined, count=1)",
        ends=("failed",),
        shows="NameError",
    ),
    program(
        "SUBMIT in a function in a comprehension",
        "def f(x):\n    reached()\n    SUBMIT(answer=x, count=1)\n[f(n) for n in 'abc']",
        ends=("submitted",),
        submits="a",
    ),
    program(
        "SUBMIT in a try with a bare except",
        "try:\n    reached()\n    SUBMIT(answer='a', count=1)\nexcept Exception:\n    print('no')",
        ends=("submitted",),
        submits="a",
    ),
    program(
        "asyncio.run in a cell",
        "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    return 5\nreached()\nprint(asyncio.run(main()))",
        ends=("completed", "failed"),
    ),
    program(
        "get_event_loop and run_until_complete",
        "import asyncio\nasync def main():\n    return 5\nreached()\nprint(asyncio.get_event_loop().run_until_complete(main()))",
        ends=("completed", "failed"),
    ),
    program(
        "a coroutine that is not awaited",
        "async def f():\n    return 1\nreached()\nf()",
        ends=("completed", "failed"),
    ),
    program(
        "a tool that is awaited", "reached()\nprint(await echo(1))", ends=("completed", "failed")
    ),
    program(
        "a thread",
        "import threading\nt = threading.Thread(target=print, args=(1,))\nreached()\nt.start()\nt.join()",
    ),
    program(
        "a pool of processes",
        "from concurrent.futures import ProcessPoolExecutor\nreached()\nwith ProcessPoolExecutor() as pool:\n    print(list(pool.map(abs, [1])))",
    ),
    program(
        "a pool of threads",
        "from concurrent.futures import ThreadPoolExecutor\nreached()\nwith ThreadPoolExecutor() as pool:\n    print(list(pool.map(abs, [-1])))",
    ),
    program(
        "pip install",
        "import subprocess, sys\nreached()\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', 'requests'])",
        ends=("failed",),
    ),
    program(
        "an import that is not there",
        "reached()\nimport pandas_that_is_not_there",
        ends=("failed",),
    ),
    program(
        "a division by zero in a deep call",
        "def f(n):\n    return f(n - 1) if n else 1 / 0\nreached()\nf(200)",
        ends=("failed",),
        shows="ZeroDivisionError",
    ),
    program(
        "a warning as it is compiled",
        "print('\\d')\nx = 1 is 1\nassert (1, 'x')\nreached()",
        ends=("completed", "failed"),
    ),
    program(
        "code that is very long",
        "x = 0\n" + "x += 1\n" * 20_000 + "reached()\nprint(x)",
        ends=("completed",),
        shows="20000",
    ),
    program(
        "a line that is very long",
        "x = [" + "1, " * 100_000 + "]\nprint(len(x))\nreached()",
        ends=("completed",),
        shows="100000",
    ),
    program(
        "globals changed while they are read",
        "for name in list(globals()):\n    globals()[name + '_copy'] = globals()[name]\nreached()\nprint('done')",
        shows="done",
    ),
    program(
        "a name like ours",
        "driver = _host = js = Driver = 5\nclass CellTimeoutError(Exception):\n    pass\nreached()\nraise CellTimeoutError('mine')",
        ends=("failed",),
    ),
    program(
        "a future import",
        "from __future__ import annotations\ndef f(x: Undefined) -> Nothing:\n    return x\nreached()\nprint(f(1))",
        ends=("completed",),
        shows="1",
    ),
    program(
        "print with odd arguments",
        "import sys\nprint('a', file=sys.__stderr__)\nprint('b', end='', flush=True, file=sys.stderr)\nreached()\nprint(sep=None)",
    ),
    program(
        "logging",
        "import logging\nlogging.basicConfig(level=0)\nlogging.warning('x %s')\nlogging.getLogger().error('%d', 'no number')\nreached()",
    ),
    program(
        "a plot that is not there",
        "reached()\nimport matplotlib.pyplot as plt\nplt.plot([1])",
        ends=("failed",),
    ),
)
