"""Programs that damage what the session itself relies on, so that later cells go wrong."""

from __future__ import annotations

from .program import program

_DRIVER = 'import sys\ndriver = sys.modules["sandbox_runtime.guest.entry"].driver\n'
_OURS = "reaches for our driver"

NAMES = (
    program(
        "builtins are replaced",
        """
import builtins
reached()
for name in ("print", "len", "isinstance", "str", "repr", "type", "list", "dict", "map", "all", "sorted", "getattr", "hasattr", "super", "id", "iter", "next", "vars", "min", "max", "sum", "any", "zip"):
    setattr(builtins, name, lambda *a, **k: None)
""",
        "print(len('abc'), isinstance(1, int))",
        shows="3 True",
    ),
    program(
        "builtins are deleted",
        """
import builtins
remove = delattr
names = [name for name in vars(builtins) if not name.startswith("__")]
reached()
for name in names:
    remove(builtins, name)
""",
        "print(len('abc'))",
        shows="3",
    ),
    program(
        "builtins are emptied",
        "import builtins\nreached()\nvars(builtins).clear()",
        "print(len('abc'))",
        shows="3",
    ),
    program(
        "builtins are renamed",
        """
import builtins
names = vars(builtins)
items = list(names.items())
reached()
for name, value in items:
    del names[name]
    names["x" + name] = value
""",
        "print(len('abc'), 'xlen' in vars(__builtins__))",
        shows="3 False",
    ),
    *(
        program(
            f"keys with a mind of their own in {where}",
            f"""
import builtins, json, sys
class Odd(str):
    __hash__ = str.__hash__
    def __eq__(self, other):
        raise SystemExit("planted")
names = {names}
reached()
value = names.pop({name!r})
names[Odd({name!r})] = value
""",
            "import json\nprint(json.loads('[1]'), len('abc'), echo('x'), callable(SUBMIT))",
            shows="[1] 3 echo: x True",
        )
        for where, names, name in (
            ("builtins", "vars(builtins)", "len"),
            ("json", "vars(json)", "loads"),
            ("sys.modules", "sys.modules", "json"),
            ("the namespace", "globals()", "SUBMIT"),
        )
    ),
    program(
        "__import__ is replaced",
        "import builtins\nreached()\nbuiltins.__import__ = lambda *a, **k: 1 / 0",
        "import json\nprint(json.dumps([1]))",
        shows="[1]",
    ),
    program(
        "__build_class__ is replaced",
        "import builtins\nbuiltins.__build_class__ = None\nreached()",
        "class A: pass\nprint(A().__class__.__name__)",
        shows="A",
    ),
    program(
        "__builtins__ of the namespace",
        "reached()\n__builtins__ = {}\nglobals()['__builtins__'] = {}",
        "print(len('abc'))",
        shows="3",
    ),
    program(
        "the namespace is emptied",
        "reached()\nglobals().clear()",
        "print(echo('x'))\nkept = [1, 2, 3]",
        shows="echo: x",
    ),
    program(
        "names of exceptions",
        "import builtins\nfor name in ('Exception', 'BaseException', 'ValueError', 'TypeError', 'KeyboardInterrupt', 'MemoryError', 'RuntimeError', 'StopIteration'):\n    setattr(builtins, name, type('Other', (), {}))\nreached()",
        "try:\n    1 / 0\nexcept Exception as error:\n    print(type(error).__name__)",
        shows="ZeroDivisionError",
    ),
    program(
        "json is replaced",
        "import sys, types\nsys.modules['json'] = types.ModuleType('json')\nreached()",
        "import json\nprint(json.dumps([1]))",
        shows="[1]",
    ),
    program(
        "json is broken from inside",
        """
import json
forged = '{"answer": "FORGED", "count": 1}'
json.dumps = json.JSONEncoder.encode = lambda *a, **k: forged
json.loads = lambda *a, **k: {"answer": "FORGED", "count": 1}
json.encoder.encode_basestring_ascii = json.encoder.c_make_encoder = json.encoder.encode_basestring = None
json.decoder.JSONDecoder.decode = lambda *a, **k: {"answer": "FORGED", "count": 1}
json.decoder.scanstring = json.scanner.make_scanner = None
reached()
""",
        "SUBMIT(answer=echo({'a': [1, 2]}), count=1)",
        ends=("submitted",),
        submits="echo: {'a': [1, 2]}",
        calls=1,
    ),
    program(
        "sys.modules is emptied",
        "import sys\nreached()\nsys.modules.clear()",
        "import json\nprint(json.dumps([1]))",
        shows="[1]",
    ),
    program(
        "sys.modules is another",
        "import sys\nreached()\nsys.modules = {}",
        "import json\nprint(json.dumps([1]))",
        shows="[1]",
    ),
    program(
        "modules of the standard library are emptied",
        """
import sys
for name in ("ast", "inspect", "traceback", "linecache", "contextlib", "gc", "signal", "io", "types", "re", "textwrap", "tokenize"):
    module = sys.modules.get(name)
    if module is not None:
        for attribute in [one for one in vars(module) if not one.startswith("__")]:
            delattr(module, attribute)
reached()
""",
        "print(1 + 1)",
        shows="2",
    ),
    program(
        "attributes of modules are replaced by what fails",
        """
import asyncio, ast, gc, inspect, io, linecache, random, signal, sys, time, traceback, types, warnings, contextlib
def fail(*args, **kwargs):
    raise ZeroDivisionError("planted")
for module in (ast, gc, inspect, linecache, random, signal, time, traceback, types, warnings, contextlib):
    for name, value in list(vars(module).items()):
        if callable(value) and not name.startswith("__"):
            setattr(module, name, fail)
reached()
""",
        "x = 20 + 1\nprint(x * 2)",
        shows="42",
    ),
)

STREAMS = (
    program(
        "sys.stdout is None",
        "import sys\nreached()\nsys.stdout = sys.stderr = None",
        "print('back')",
        shows="back",
    ),
    program(
        "sys.stdout is closed",
        "import sys\nreached()\nsys.stdout.close()\nsys.stderr.close()",
        "print('back')",
        shows="back",
    ),
    program(
        "sys.stdout is deleted",
        "import sys\nreached()\ndel sys.stdout, sys.stderr",
        "print('back')",
        shows="back",
    ),
    program(
        "sys.stdout is hostile",
        """
import sys
class Out:
    def write(self, text):
        raise KeyboardInterrupt("planted")
    flush = write
    def __getattr__(self, name):
        raise SystemExit(name)
reached()
sys.stdout = sys.stderr = Out()
print("x")
""",
        "print('back')",
        shows="back",
    ),
    program(
        "write of the stream is replaced",
        "import sys\nreached()\nsys.stdout.write = lambda *_: 1 / 0\nsys.stdout.flush = None",
        "print('back')",
        shows="back",
    ),
    program(
        "write of the stream's class is replaced",
        "import sys\ntry:\n    reached()\n    type(sys.stdout).write = lambda *_: 1 / 0\nexcept TypeError:\n    pass",
        "print('back')",
        shows="back",
    ),
    program(
        "the stream's own output is replaced",
        "import sys\nreached()\nfor name in list(vars(sys.stdout)):\n    setattr(sys.stdout, name, None)",
        "print('back')",
        shows="back",
        ours=_OURS,
    ),
    program(
        "descriptors are closed",
        "import os\nfor number in range(0, 20):\n    try:\n        os.close(number)\n    except OSError:\n        pass\nreached()",
        "print('back')",
        shows="back",
    ),
    program(
        "descriptors are others",
        "import os\nfile = os.open('/tmp/sink', os.O_CREAT | os.O_WRONLY)\nfor number in (0, 1, 2):\n    os.dup2(file, number)\nreached()",
        "print('back')",
        shows="back",
    ),
    program(
        "displayhook is replaced",
        "import sys\nsys.displayhook = lambda *_: 1 / 0\nsys.excepthook = sys.unraisablehook = lambda *_: 1 / 0\nreached()",
        "20 + 1",
        shows="21",
    ),
    program(
        "contextlib.redirect_stdout is left open",
        "import contextlib, io\nheld = contextlib.redirect_stdout(io.StringIO())\nreached()\nheld.__enter__()",
        "print('back')",
        shows="back",
    ),
)

HOOKS = (
    program(
        "sys.settrace",
        """
import sys
def trace(frame, event, arg):
    # Not at once: Python itself takes a trace away that raises.
    if frame.f_code.co_name == "f":
        raise ZeroDivisionError("planted")
    return trace
reached()
sys.settrace(trace)
""",
        "def f():\n    return 21\nprint(f() * 2)",
        shows="42",
    ),
    program(
        "sys.setprofile",
        "import sys\ndef profile(frame, *_):\n    if frame.f_code.co_name == 'f':\n        raise ZeroDivisionError('planted')\nreached()\nsys.setprofile(profile)",
        "def f():\n    return 21\nprint(f() * 2)",
        shows="42",
    ),
    program(
        "a trace that lies about lines",
        """
import sys
def trace(frame, event, arg):
    if frame.f_code.co_name == "<module>":
        return trace
    try:
        for name in list(frame.f_locals):
            frame.f_locals[name] = None
    except Exception:
        pass
    return trace
reached()
sys.settrace(trace)
def f(a):
    return a
f(1)
""",
        "def f(a):\n    return a\nprint(f(42))",
        shows="42",
    ),
    program(
        "sys.monitoring",
        """
import sys
monitoring = sys.monitoring
def fail(*_):
    raise ZeroDivisionError("planted")
monitoring.use_tool_id(3, "planted")
monitoring.register_callback(3, monitoring.events.PY_START, fail)
monitoring.register_callback(3, monitoring.events.CALL, fail)
reached()
monitoring.set_events(3, monitoring.events.PY_START | monitoring.events.CALL)
""",
        "def f():\n    return 21\nprint(f() * 2)",
        shows="42",
    ),
    program(
        "an audit hook",
        """
import sys
def hook(event, args):
    if event in ("compile", "exec", "import", "open", "object.__getattr__"):
        raise ZeroDivisionError("planted")
reached()
sys.addaudithook(hook)
""",
        "print(21 * 2)",
        shows="42",
    ),
    program(
        "an audit hook that hears everything",
        """
import sys
heard = []
reached()
sys.addaudithook(lambda event, args: heard.append((event, str(args)[:200])))
""",
        "print(len(heard) >= 0)",
        shows="True",
    ),
    program(
        "an import hook that fails",
        """
import sys
class Finder:
    def find_spec(self, *_):
        raise ZeroDivisionError("planted")
sys.meta_path.insert(0, Finder())
sys.path_hooks.insert(0, Finder().find_spec)
reached()
""",
        "print(20 + 1, echo('x'))",
        shows="21 echo: x",
    ),
    program(
        "sys.path is emptied",
        "import sys\nsys.path.clear()\nsys.meta_path.clear()\nsys.path_hooks.clear()\nsys.path_importer_cache.clear()\nreached()",
        "print(20 + 1, echo('x'))",
        shows="21 echo: x",
    ),
    program(
        "gc callbacks",
        "import gc\ndef hook(phase, info):\n    raise ZeroDivisionError('planted')\ngc.callbacks.append(hook)\ngc.collect()\nreached()",
        "import gc\ngc.collect()\nprint('fine')",
        shows="fine",
    ),
    program(
        "gc is off and frozen",
        "import gc\ngc.disable()\ngc.freeze()\ngc.set_threshold(0)\ngc.set_debug(gc.DEBUG_SAVEALL)\nreached()",
        "print('fine')",
        shows="fine",
    ),
    program(
        "the recursion limit",
        "import sys\nsys.setrecursionlimit(60)\nreached()",
        "def f(n):\n    return n if n == 0 else f(n - 1)\nprint(f(500))",
        shows="0",
    ),
    program(
        "the recursion limit is very high",
        "import sys\nsys.setrecursionlimit(10**9)\nreached()",
        "def f():\n    return f()\ntry:\n    f()\nexcept RecursionError:\n    print('caught')",
        shows="caught",
    ),
    program(
        "the digits of integers",
        "import sys\nsys.set_int_max_str_digits(640)\nreached()",
        "print(len(str(10**3000)))",
        shows="3001",
    ),
    program(
        "warnings are errors",
        "import warnings\nwarnings.simplefilter('error')\nwarnings.showwarning = warnings.warn = None\nimport sys\nsys.warnoptions = None\nreached()",
        "print('fine')",
        shows="fine",
    ),
    program(
        "atexit",
        "import atexit\natexit.register(lambda: 1 / 0)\natexit._run_exitfuncs()\nreached()",
        "print('fine')",
        shows="fine",
    ),
    program(
        "linecache is hostile",
        """
import linecache
class Cache(dict):
    def __getitem__(self, key):
        raise KeyboardInterrupt
    get = __setitem__ = __contains__ = __getitem__
linecache.cache = Cache()
linecache.getline = linecache.getlines = linecache.checkcache = None
reached()
1 / 0
""",
        "1 / 0",
        ends=("failed",),
        shows="ZeroDivisionError",
    ),
    program(
        "traceback is broken",
        "import traceback\ntraceback.TracebackException = traceback.StackSummary = None\ntraceback.TracebackException_format = None\nreached()",
        "1 / 0",
        ends=("failed",),
        shows="ZeroDivisionError",
    ),
    program(
        "traceback's class is broken",
        "import traceback\nfor name in ('__init__', 'format', 'format_exception_only', '_format_syntax_error'):\n    setattr(traceback.TracebackException, name, lambda *a, **k: 1 / 0)\nreached()",
        "1 / 0",
        ends=("failed",),
        shows="ZeroDivisionError",
    ),
    program(
        "codecs",
        """
import codecs
def fail(*_):
    raise ZeroDivisionError("planted")
for name in ("backslashreplace", "surrogatepass", "strict", "replace", "ignore"):
    codecs.register_error(name, fail)
reached()
""",
        "print('fine \\ud800')",
        shows="fine",
    ),
    program(
        "the locale and the decimal context",
        "import decimal, locale\ndecimal.setcontext(decimal.Context(prec=1, traps=[decimal.Inexact]))\ntry:\n    locale.setlocale(locale.LC_ALL, 'C')\nexcept Exception:\n    pass\nreached()",
        "print(1.5 + 1)",
        shows="2.5",
    ),
    program(
        "random is not random",
        "import random\nrandom.seed(0)\nrandom.random = lambda: 1 / 0\nrandom._inst = None\nreached()",
        "print('fine')",
        shows="fine",
    ),
)

SIGNALS = (
    program(
        "signal handlers",
        """
import signal
def deaf(*_):
    pass
for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM):
    signal.signal(number, deaf)
reached()
""",
        "print('fine')",
        shows="fine",
    ),
    program(
        "signal.signal is replaced",
        "import signal\nsignal.signal = signal.raise_signal = lambda *_: 1 / 0\nreached()",
        "print('fine')",
        shows="fine",
    ),
    program(
        "signals raised by the cell",
        "import signal\nfor number in (signal.SIGALRM, signal.SIGINT):\n    try:\n        reached()\n        signal.raise_signal(number)\n    except BaseException as error:\n        print(type(error).__name__)",
        "print('fine')",
        shows="fine",
    ),
    program(
        "an alarm",
        """
import ctypes, signal, time
libc = ctypes.CDLL(None)
class Time(ctypes.Structure):
    _fields_ = [("interval", ctypes.c_longlong * 2), ("value", ctypes.c_longlong * 2)]
soon = Time((0, 0), (0, 10_000))
for ask in (
    lambda: signal.setitimer(signal.ITIMER_REAL, 0.01),
    lambda: signal.alarm(1),
    lambda: libc.setitimer(0, ctypes.byref(soon), None),
    lambda: libc.alarm(1),
):
    reached()
    try:
        print(ask())
    except Exception as error:
        print(type(error).__name__, error)
time.sleep(0.1)
""",
        "import time\ntime.sleep(1)\nprint('fine')",
        shows="fine",
    ),
    program("os.abort", "import os\nreached()\nos.abort()", ends=("failed",), destroys=True),
    program("os._exit", "import os\nreached()\nos._exit(3)", ends=("failed",), destroys=True),
    program(
        "os.kill of itself",
        "import os, signal\nreached()\nos.kill(os.getpid(), signal.SIGKILL)",
        destroys=True,
    ),
    program(
        "faulthandler",
        "import faulthandler\nfaulthandler.enable(open('/dev/stderr', 'w'))\nreached()\nfaulthandler._sigsegv()",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a read of address 0",
        "import ctypes\nprint(ctypes.string_at(0, 64) is not None)\nreached()\nctypes.memset(0, 255, 4096)",
        destroys=True,
        wrecks=True,
    ),
    program(
        "a write over the interpreter",
        "import ctypes\nreached()\nctypes.memset(1024, 255, 20_000_000)",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a call into nowhere",
        "import ctypes\nreached()\nctypes.CFUNCTYPE(ctypes.c_int)(123456)()",
        ends=("failed",),
        destroys=True,
    ),
    program(
        "a reference count of None",
        "import ctypes\nreached()\nctypes.c_ssize_t.from_address(id(None)).value = 1\nfor _ in range(1000):\n    [None] * 10",
        destroys=True,
        wrecks=True,
    ),
    program(
        "the type of a type",
        "import ctypes\nreached()\nctypes.c_ssize_t.from_address(id(int) + 4).value = 0\nprint(int('5'))",
        ends=("failed",),
        destroys=True,
        wrecks=True,
    ),
    program(
        "small integers",
        "import ctypes\nreached()\nctypes.c_ushort.from_address(id(7) + 12).value = 8\nprint(7)",
        destroys=True,
        wrecks=True,
    ),
    program(
        "bytecode of its own",
        """
import opcode, types
def f(): pass
# Local variables that are not there, from far outside of the frame.
code = f.__code__.replace(co_code=bytes([opcode.opmap["LOAD_FAST"], 255] * 50), co_consts=(), co_stacksize=1)
reached()
types.FunctionType(code, {})()
""",
        destroys=True,
    ),
)

LOOP = (
    program(
        "the event loop is closed",
        "import asyncio\nasyncio.get_event_loop().close()\nreached()",
        "import asyncio\nawait asyncio.sleep(0)\nprint('fine')",
        shows="fine",
    ),
    program(
        "the event loop is another",
        "import asyncio\nasyncio.set_event_loop(asyncio.new_event_loop())\nasyncio.set_event_loop_policy(None)\nreached()",
        "import asyncio\nawait asyncio.sleep(0)\nprint('fine')",
        shows="fine",
    ),
    program(
        "the event loop is stopped",
        "import asyncio\nasyncio.get_event_loop().stop()\nreached()",
        "import asyncio\nawait asyncio.sleep(0)\nprint('fine')",
        shows="fine",
    ),
    program(
        "methods of the event loop",
        "import asyncio\nloop = asyncio.get_event_loop()\nfor name in ('call_soon', 'call_later', 'create_task', 'create_future', 'run_until_complete', 'time', 'call_exception_handler'):\n    try:\n        setattr(loop, name, lambda *a, **k: 1 / 0)\n    except AttributeError:\n        pass\nreached()",
        "print('fine')",
        shows="fine",
    ),
    program(
        "asyncio is broken",
        "import asyncio\nasyncio.all_tasks = asyncio.current_task = asyncio.sleep = asyncio.CancelledError = asyncio.get_running_loop = None\nreached()",
        "print('fine')",
        shows="fine",
        destroys=True,
    ),
    program(
        "every task is cancelled",
        "import asyncio\nfor task in asyncio.all_tasks():\n    task.cancel()\nreached()\nawait asyncio.sleep(0)",
        "import asyncio\nawait asyncio.sleep(0)\nprint('fine')",
        shows="fine",
    ),
    program(
        "tasks that refuse to end",
        """
import asyncio
async def deaf():
    while True:
        try:
            await asyncio.sleep(0.001)
        except BaseException:
            print("deaf")
held = [asyncio.ensure_future(deaf()) for _ in range(20)]
await asyncio.sleep(0)
reached()
""",
        "print('fine')",
        shows="fine",
    ),
    program(
        "a callback that raises SystemExit",
        "import asyncio\ndef leave():\n    raise SystemExit(3)\nasyncio.get_event_loop().call_soon(leave)\nasyncio.get_event_loop().call_later(0.001, leave)\nreached()\nawait asyncio.sleep(0.01)",
        "print('fine')",
        shows="fine",
    ),
    program(
        "a task that raises KeyboardInterrupt",
        "import asyncio\nasync def leave():\n    raise KeyboardInterrupt\nheld = asyncio.ensure_future(leave())\nreached()\nawait asyncio.sleep(0.01)",
        "print('fine')",
        shows="fine",
    ),
    program(
        "a loop inside of the loop",
        "import asyncio\nasync def f():\n    return asyncio.run(g())\nasync def g():\n    return 21\ntry:\n    reached()\n    print(asyncio.run(f()))\nexcept BaseException as error:\n    print(type(error).__name__)",
        "print('fine')",
        shows="fine",
    ),
)

OBJECTS = (
    program(
        "an exception whose text raises",
        "class E(Exception):\n    def __str__(self):\n        raise self\n    __repr__ = __str__\nreached()\nraise E",
        ends=("failed",),
    ),
    program(
        "an exception that lies about its class",
        "class E(Exception):\n    @property\n    def __class__(self):\n        return 1 / 0\n    @property\n    def args(self):\n        raise SystemExit\nreached()\nraise E",
        ends=("failed",),
    ),
    program(
        "an exception with hostile attributes",
        """
class E(Exception):
    def __getattribute__(self, name):
        raise KeyboardInterrupt(name)
reached()
raise E
""",
        ends=("failed",),
    ),
    program(
        "a cycle of causes",
        "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\na.__context__ = a\nreached()\nraise a",
        ends=("failed",),
        shows="ValueError",
    ),
    program(
        "a group that is empty inside",
        "reached()\nraise BaseExceptionGroup('g', [SystemExit(1), KeyboardInterrupt()])",
        ends=("failed",),
    ),
    program(
        "a metaclass with a hostile name",
        """
class Meta(type):
    @property
    def __name__(cls):
        raise ZeroDivisionError
    def __getattribute__(cls, name):
        raise ZeroDivisionError(name)
    def __instancecheck__(cls, other):
        raise ZeroDivisionError
class E(Exception, metaclass=Meta):
    pass
reached()
raise E
""",
        ends=("failed",),
    ),
    program(
        "a traceback that is changed",
        "import types\ndef f():\n    raise ValueError('a')\ntry:\n    f()\nexcept ValueError as error:\n    error.__traceback__.tb_next = None\n    held = error\nheld.__traceback__ = types.TracebackType(held.__traceback__, held.__traceback__.tb_frame, -1, -1)\nreached()\nraise held",
        ends=("failed",),
        shows="ValueError",
    ),
    program(
        "notes that are none",
        "error = ValueError('a')\nerror.__notes__ = 5\nreached()\nraise error",
        ends=("failed",),
        shows="ValueError",
    ),
    program(
        "a SyntaxError made up",
        "error = SyntaxError('a')\nerror.filename, error.lineno, error.offset, error.text, error.end_lineno = object(), -5, 10**9, b'x', 'x'\nreached()\nraise error",
        ends=("failed",),
    ),
    program(
        "a value whose repr raises",
        "class A:\n    def __repr__(self):\n        raise SystemExit(1)\nreached()\nA()",
        ends=("failed",),
    ),
    program(
        "a value whose repr is no text",
        "class A:\n    def __repr__(self):\n        return 5\nreached()\nA()",
        ends=("failed",),
        shows="TypeError",
    ),
    program(
        "a text whose methods lie",
        """
class Text(str):
    def __len__(self): return -1
    def __str__(self): return 5
    def __getitem__(self, key): raise SystemExit
    def encode(self, *a): return "no bytes"
    def __eq__(self, other): return True
    def __hash__(self): raise SystemExit
import sys
for show in (print, sys.stdout.write, sys.stdout.writelines, repr):
    reached()
    try:
        show(Text("abc"))
    except BaseException as error:
        print(type(error).__name__)
raise ValueError(Text("ghi"))
""",
        ends=("failed",),
    ),
    program(
        "objects that are hostile to whoever touches them",
        """
armed = []
class A:
    def __eq__(self, other):
        if armed: raise SystemExit("eq")
        return False
    def __hash__(self): return hash("echo")
    def __len__(self): return 10**18
    def __iter__(self): raise SystemExit("iter")
    def __bool__(self): raise SystemExit("bool")
    def __reduce__(self): raise SystemExit("reduce")
    def __del__(self): raise SystemExit("del")
    def __getattr__(self, name): raise SystemExit(name)
globals()[A()] = 1
echo_like = A()
reached()
armed.append(1)
""",
        "for key in [key for key in globals() if type(key) is not str]:\n    del globals()[key]\nprint('fine')",
    ),
    program(
        "finalisers that raise",
        "class A:\n    def __del__(self):\n        raise KeyboardInterrupt\nheld = [A() for _ in range(20)]\ncycle = A()\ncycle.me = cycle\nreached()\ndel held, cycle",
        "import gc\ngc.collect()\nprint('fine')",
        shows="fine",
    ),
    program(
        "a finaliser that prints and calls in the next cell",
        "class A:\n    def __del__(self):\n        print('late')\n        raise SystemExit\nheld = A()",
        "del held\nreached()\nprint('fine')",
        shows="fine",
    ),
    program(
        "__main__ is another",
        "import sys\nsys.modules['__main__'] = None\n__name__ = '__other__'\nreached()",
        "import sys\nprint(sys.modules['__main__'] is not None)",
        shows="True",
    ),
    program(
        "type.__subclasscheck__ by ABCs",
        "import abc, collections.abc\ncollections.abc.Sequence.register(int)\ncollections.abc.Set.register(str)\ncollections.abc.Set.register(dict)\nimport numbers\nnumbers.Number.register(str)\nreached()",
        "SUBMIT(answer={'a': 'b'}, count=1)",
        ends=("submitted",),
    ),
)

DRIVER = (
    program(
        "the driver's frame",
        """
import sys
frame = sys._getframe()
reached()
while frame is not None:
    for name in list(frame.f_locals):
        if frame.f_code.co_name in ("run", "_execute", "_begin", "_end"):
            try:
                frame.f_locals[name] = None
            except Exception:
                pass
    frame = frame.f_back
""",
        "print('fine')",
        shows="fine",
        ours=_OURS,
        destroys=True,
    ),
    program(
        "the frame of whoever runs the cell",
        """
import sys
frame = sys._getframe()
while frame.f_back is not None:
    frame = frame.f_back
    frame.f_globals.setdefault("planted", 1)
    for name in ("error", "value", "part", "code"):
        if name in frame.f_locals:
            try:
                frame.f_locals[name] = "changed"
            except Exception as error:
                print(type(error).__name__)
reached()
print("walked")
""",
    ),
    program(
        "the driver's methods",
        _DRIVER
        + """
for ask in (lambda: driver.run(99, "print('inner')"), lambda: driver.run(99, "SUBMIT(answer='FOR' + 'GED', count=1)"), lambda: driver._open(), lambda: driver._sweep_tasks()):
    try:
        reached()
        print(str(ask())[:100])
    except BaseException as error:
        print(type(error).__name__)
""",
        "print('fine')",
        shows="fine",
        ours=_OURS,
        destroys=True,
    ),
    program(
        "the driver's attributes",
        _DRIVER
        + """
reached()
for name in list(vars(driver)):
    if name not in ("_namespace", "_module"):
        setattr(driver, name, None)
""",
        "print('fine')",
        shows="fine",
        ours=_OURS,
        destroys=True,
    ),
    program(
        "the driver's class",
        _DRIVER
        + """
reached()
for name in ("run", "_end", "_begin", "_report", "_execute", "_restore_interpreter"):
    setattr(type(driver).__mro__[1], name, lambda *a, **k: 1 / 0)
setattr(type(driver.interrupts), "on_signal", lambda *a, **k: 1 / 0)
""",
        "print('fine')",
        shows="fine",
        ours=_OURS,
        destroys=True,
    ),
    program(
        "our modules from inside",
        """
import sys
reached()
for name in list(sys.modules):
    if name.startswith("sandbox_runtime"):
        for attribute, value in list(vars(sys.modules[name]).items()):
            if callable(value) and not isinstance(value, type) and not attribute.startswith("__"):
                setattr(sys.modules[name], attribute, lambda *a, **k: ("FOR" + "GED", []))
""",
        "print('fine')",
        shows="fine",
        ours=_OURS,
        destroys=True,
    ),
    program(
        "code objects of ours",
        """
import sys
tracebacks = sys.modules["sandbox_runtime.guest.tracebacks"]
codec = sys.modules["sandbox_runtime.guest.values.codec"]
def fail(*args, **kwargs):
    raise SystemExit("planted")
reached()
for function in (tracebacks.describe, codec.send, codec.receive):
    function.__code__ = fail.__code__
raise ValueError("x")
""",
        ours=_OURS,
        destroys=True,
    ),
    program(
        "the submitted value is set by hand",
        _DRIVER
        + """
driver._submitted = ('{"answer": "by hand", "count": 1}', [])
reached()
""",
        _DRIVER
        + """
# By the time the cell's end is reported, its submission was taken: what is set now would be the next cell's.
class Late(type(driver.output)):
    def render(self):
        driver._submitted = ('{"answer": "FORGED", "count": 1}', [])
        return super().render()
driver.output.__class__ = Late
reached()
""",
        "print('fine')",
        shows="fine",
        ours=_OURS,
        destroys=True,
    ),
    program(
        "the signal is raised by hand",
        _DRIVER + "reached()\nraise driver._signal",
        ours=_OURS,
        ends=("failed",),
    ),
    program(
        "the limit of output",
        _DRIVER
        + """
reached()
driver._output_chars = 10**9
driver.output._half = driver.output._head_room = 10**9
print("x" * 3_000_000)
""",
        "driver._output_chars = 10_000\nprint('fine')",
        shows="fine",
        ours=_OURS,
    ),
    program(
        "the end of the cell is another",
        """
import sys
driver_module = sys.modules["sandbox_runtime.guest.driver"]
reached()
driver_module.to_json = lambda *_: '{"outcome": "submitted"}'
""",
        ours=_OURS,
        destroys=True,
        ends=("completed", "failed"),
    ),
    program(
        "the end of the cell is no JSON",
        """
import sys
driver_module = sys.modules["sandbox_runtime.guest.driver"]
reached()
driver_module.to_json = lambda *_: 5
""",
        ours=_OURS,
        destroys=True,
    ),
)

PROGRAMS = (*NAMES, *STREAMS, *HOOKS, *SIGNALS, *LOOP, *OBJECTS, *DRIVER)
