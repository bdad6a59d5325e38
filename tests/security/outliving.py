"""Programs whose first cell leaves something behind that acts in a later cell, or between two.

Each plants a callback where Python, asyncio or JavaScript calls it by itself. The later cell is honest: it
waits, collects garbage, imports, fails. It has to end as it would have without the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from .program import ESCAPED_SOURCE, Program, program

_FORGED = 'forged = "FOR" + "GED"\n'

# The actions of a callback left by an earlier cell: each kind of harm, none of which may happen.
_ACTS = """
def act(*args, **kwargs):
    global kept
    for attempt in (lambda: echo(forged), lambda: SUBMIT(answer=forged, count=1)):
        try:
            attempt()
        except Exception:
            pass
"""

# Acts at an event of the later cell only: an audit hook of its own cell is that cell's business.
_HEARS = """
def hear(event, args):
    if event == "compile" and args[1] == "later":
        act()
"""

_WAITS = "import asyncio\nawait asyncio.sleep(0.4)\nprint('fine')"

_LOOP = "import asyncio\nloop = asyncio.get_event_loop()\n"

# A promise itself, where Python otherwise gets a future in its place.
_PROMISE = """
from pyodide.ffi import create_proxy, to_js
Promise = to_js([[1]]).map(to_js([1]).constructor.fromAsync)[0].constructor
"""


def _planted(name: str, plant: str, later: str = _WAITS) -> Program:
    """Returns a cell that plants `act`, and a later one that shows `fine`."""
    return program(name, _FORGED + _ACTS + plant, later, shows="fine", ends=("completed",), calls=0)


def _handles() -> Iterator[Program]:
    """Returns every way to schedule a call on the event loop."""
    for name, plant in (
        ("call_later", "loop.call_later(0.1, act)"),
        ("call_at", "loop.call_at(loop.time() + 0.1, act)"),
        ("call_soon", "loop.call_soon(loop.call_soon, act)"),
        ("call_soon_threadsafe", "loop.call_soon_threadsafe(loop.call_later, 0.1, act)"),
        (
            "a chain of call_later",
            "def again():\n    act()\n    loop.call_later(0.01, again)\nloop.call_later(0.05, again)",
        ),
        (
            "a context of its own",
            "import contextvars\nloop.call_later(0.1, act, context=contextvars.Context())",
        ),
        ("a handle that is run by hand", "handle = loop.call_later(9, act)"),
        (
            "a task that hides from the loop",
            "async def work():\n    await asyncio.sleep(0.1)\n    act()\n"
            "task = asyncio.Task(work(), loop=loop)\nasyncio.tasks._unregister_task(task)",
        ),
        (
            "a timer of JavaScript",
            "from pyodide.ffi.wrappers import set_timeout\nset_timeout(act, 100)",
        ),
        (
            "an interval of JavaScript",
            "from pyodide.ffi.wrappers import set_interval\nset_interval(act, 50)",
        ),
        (
            "a timer of the driver's worker",
            "import sys\nfrom pyodide.ffi import create_proxy\n"
            'worker = sys.modules["sandbox_runtime.guest.entry"]._host._worker\n'
            "worker.setTimeout(create_proxy(act), 100)",
        ),
        (
            "a timer of Emscripten",
            "import ctypes\nlibc = ctypes.CDLL(None)\n"
            "callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(act)\n"
            "libc.emscripten_set_timeout(callback, ctypes.c_double(100), None)",
        ),
    ):
        later = "handle._run()\nprint('fine')" if "by hand" in name else _WAITS
        yield _planted(name, f"{_LOOP}reached()\n{plant}\n", later)


CALLBACKS = (
    *_handles(),
    _planted(
        "a future's callback",
        _LOOP + "future = loop.create_future()\nreached()\nfuture.add_done_callback(act)",
        "import asyncio\nfuture.set_result(1)\nawait asyncio.sleep(0.1)\nprint('fine')",
    ),
    _planted(
        "then of a future",
        _LOOP + "future = loop.create_future()\nreached()\nfuture.then(act)",
        "import asyncio\nfuture.set_result(1)\nawait asyncio.sleep(0.1)\nprint('fine')",
    ),
    _planted(
        "a call that a callback begins",
        _LOOP + "reached()\nloop.call_later(0.1, lambda: asyncio.ensure_future(echo.aio(forged)))",
    ),
    _planted(
        "tasks that begin tasks as they are cancelled",
        """
import asyncio
async def again():
    try:
        await asyncio.sleep(100)
    finally:
        asyncio.ensure_future(again())
        asyncio.get_event_loop().call_later(0.1, act)
held = asyncio.ensure_future(again())
await asyncio.sleep(0)
reached()
""",
    ),
    _planted(
        "the loop's exception handler",
        _LOOP + "reached()\nloop.set_exception_handler(act)",
        "import asyncio\nasync def fail():\n    1 / 0\nheld = asyncio.ensure_future(fail())\n"
        "await asyncio.sleep(0.05)\ndel held\nimport gc\ngc.collect()\nprint('fine')",
    ),
    _planted(
        "the loop's task factory",
        _LOOP + "reached()\nloop.set_task_factory(lambda loop, work: act())",
        "import asyncio\nawait asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))\nprint('fine')",
    ),
    _planted(
        "methods of the loop",
        _LOOP + "reached()\nloop.call_soon = loop.call_later = loop.create_task = act\n"
        "type(loop).call_later = act",
        "import asyncio\nawait asyncio.gather(asyncio.sleep(0.01), asyncio.sleep(0))\nprint('fine')",
    ),
    _planted(
        "how a handle runs",
        "import asyncio\nreached()\nasyncio.events.Handle._run = act",
        "import asyncio\nawait asyncio.sleep(0.05)\nprint('fine')",
    ),
    _planted(
        "an asynchronous generator that is closed later",
        """
async def numbers():
    try:
        yield 1
    finally:
        act()
held = numbers()
await anext(held)
reached()
""",
        "import asyncio, gc\ndel held\ngc.collect()\nawait asyncio.sleep(0.1)\nprint('fine')",
    ),
    _planted(
        "hooks of asynchronous generators",
        "import sys\nreached()\nsys.set_asyncgen_hooks(firstiter=act, finalizer=act)",
        "async def numbers():\n    yield 1\n    yield 2\n"
        "async for number in numbers():\n    break\nprint('fine')",
    ),
    _planted(
        "a failed cell's callback",
        _LOOP + "loop.call_later(0.1, act)\nreached()\n1 / 0",
    ),
    program(
        "a submitted cell's callback",
        _FORGED
        + _ACTS
        + _LOOP
        + "loop.call_later(0.1, act)\nreached()\nSUBMIT(answer='a', count=1)",
        _WAITS,
        shows="fine",
        ends=("completed",),
        calls=0,
    ),
    program(
        "a stopped cell's callback",
        _FORGED + _ACTS + _LOOP + "loop.call_later(60, act)\nloop.call_later(0.1, act)\n"
        "import signal\nreached()\nsignal.raise_signal(signal.SIGINT)",
        _WAITS,
        shows="fine",
        ends=("completed",),
        calls=0,
    ),
    program(
        "a callback that changes names",
        _LOOP + "value = 'own'\ndef change():\n    global value\n    value = 'other'\nreached()\n"
        "loop.call_later(0.1, change)",
        "import asyncio\nawait asyncio.sleep(0.3)\nprint(value)",
        shows="own",
        ends=("completed",),
    ),
    program(
        "a callback that never ends",
        _LOOP + "def spin():\n    while True:\n        pass\nreached()\nloop.call_later(0.1, spin)",
        "import time\ntime.sleep(0.3)\nprint('fine')",
        "import asyncio\nawait asyncio.sleep(0.2)\nprint('fine')",
        shows="fine",
        ends=("completed",),
    ),
    _planted(
        "a stack of WebAssembly that is suspended",
        _LOOP
        + _PROMISE
        + """
later = Promise.withResolvers()
def wait():
    from pyodide.ffi import run_sync
    print("it waits")
    try:
        run_sync(later.promise)
    finally:
        act()
held = create_proxy(wait).callPromising()
await asyncio.sleep(0.05)
reached()
""",
        "import asyncio\nlater.resolve(1)\nawait asyncio.sleep(0.1)\nprint('fine')",
    ),
    _planted(
        "a stack of WebAssembly that starts at the end of its cell",
        _LOOP + _PROMISE + "reached()\nheld = create_proxy(act).callPromising()",
    ),
    program(
        "a stack of WebAssembly that starts at the end of its cell, and never ends",
        _LOOP
        + _PROMISE
        + """
def work():
    while True:
        pass
async def start():
    create_proxy(work).callPromising()
reached()
await start()
""",
        "print('fine')",
        shows="fine",
        destroys=True,
    ),
    program(
        "a chain of promises that never ends",
        """
from pyodide.ffi import create_proxy, to_js
Promise = to_js([[1]]).map(to_js([1]).constructor.fromAsync)[0].constructor
def again(value=None):
    Promise.resolve(1).then(proxy)
proxy = create_proxy(again)
reached()
again()
""",
        "print('fine')",
        shows="fine",
        destroys=True,
    ),
)

# Takes the rights of the running cell, whatever keeps them.
_STEALS = """
def steal(*args, **named):
    from sandbox_runtime.guest import callback_ownership, entry
    ownership = entry.driver.ownership
    if ownership._running is None:
        return
    ownership._collecting = False
    callback_ownership._mark.set(ownership._running)
    act()
"""


def _garbage(name: str, plant: str, later: str) -> Program:
    """Returns a program whose garbage is still there when the later cell begins.

    Its first cell makes a collection expensive, so that the second one ends without.
    """
    return program(
        name,
        "held = [[] for _ in range(400_000)]",
        _FORGED + _ACTS + plant,
        later,
        shows="fine",
        ends=("completed",),
        calls=0,
    )


FINALIZERS = (
    _garbage(
        "garbage that is collected later, and takes its rights itself",
        _STEALS + "class A:\n    def __del__(self):\n        steal()\nimport gc\ngc.disable()\n"
        "a = A()\na.me = a\nreached()\ndel a",
        "import gc\nkept_alive = [[] for _ in range(50_000)]\ngc.collect()\nprint('fine')",
    ),
    _garbage(
        "weak references to garbage that take their rights themselves",
        _STEALS + "import gc, weakref\nclass A:\n    pass\ngc.disable()\n"
        "a = A()\na.me = a\n"
        "finalizer = weakref.finalize(a, steal)\nreference = weakref.ref(a, steal)\nreached()\ndel a",
        "import gc\nkept_alive = [[] for _ in range(50_000)]\ngc.collect()\nprint('fine')",
    ),
    _garbage(
        "garbage with a trace function",
        "import gc, sys\nclass A:\n    def __del__(self):\n        sys.settrace(act)\n        sys.setprofile(act)\n"
        "gc.disable()\na = A()\na.me = a\nreached()\ndel a",
        "import gc\nkept_alive = [[] for _ in range(50_000)]\ngc.collect()\ndef f():\n    return 'fine'\nprint(f())",
    ),
    _garbage(
        "garbage that changes builtins",
        "import builtins, gc\nclass A:\n    def __del__(self):\n        builtins.len = act\n"
        "gc.disable()\na = A()\na.me = a\nreached()\ndel a",
        "import gc\nkept_alive = [[] for _ in range(50_000)]\ngc.collect()\nlen('a')\nprint('fine')",
    ),
    _garbage(
        "garbage that is collected later",
        "class A:\n    def __del__(self):\n        act()\nimport gc\ngc.disable()\n"
        "a = A()\na.me = a\nreached()\ndel a",
        "import gc\ngc.collect()\nprint('fine')",
    ),
    _garbage(
        "weak references to garbage",
        "import gc, weakref\nclass A:\n    pass\ngc.disable()\n"
        "a = A()\na.me = a\n"
        "finalizer = weakref.finalize(a, act)\nreference = weakref.ref(a, act)\nreached()\ndel a",
        "import gc\ngc.collect()\nprint('fine')",
    ),
    _garbage(
        "a generator in garbage",
        "import gc\ngc.disable()\ndef numbers():\n    try:\n        me = yield 1\n        yield me\n"
        "    finally:\n        act()\n"
        "a = numbers()\nnext(a)\na.send(a)\nreached()\ndel a",
        "import gc\ngc.collect()\nprint('fine')",
    ),
    *(
        _planted(
            f"a finalizer of what is put back in {where}",
            "class A:\n    def __del__(self):\n        act()\n"
            "    def __call__(self, *args):\n        return 1\n"
            f"    write = flush = __call__\nimport builtins, gc, json, sys\nreached()\n{place} = A()",
            "print('fine')",
        )
        for where, place in (
            ("the namespace", "SUBMIT"),
            ("builtins", "builtins.planted"),
            ("json", "json.loads"),
            ("sys", "sys.stderr"),
            ("__main__", "sys.modules['__main__']"),
        )
    ),
    _planted(
        "a finalizer of the frames of a failed cell",
        "class A:\n    def __del__(self):\n        import sys\n        sys.settrace(act)\n"
        "        act()\ndef f():\n    a = A()\n    1 / 0\nreached()\nf()",
        "def g():\n    return 'fine'\nprint(g())",
    ),
    _planted(
        "callbacks of the collector",
        "import gc\nreached()\ngc.callbacks.append(act)\ngc.callbacks.insert(0, act)",
        "import gc\ngc.collect()\nprint('fine')",
    ),
)

HOOKS = (
    _planted(
        "sys.unraisablehook",
        "import sys\nreached()\nsys.unraisablehook = sys.excepthook = sys.displayhook = act",
        "class A:\n    def __del__(self):\n        1 / 0\nA()\nprint('fine')",
    ),
    _planted(
        "the first finder of modules",
        "import sys\nclass Finder:\n    find_spec = act\nreached()\n"
        "sys.meta_path.insert(0, Finder())\nsys.path_hooks.insert(0, act)\n"
        "sys.path_importer_cache.clear()",
        "import colorsys\nprint('fine')",
    ),
    _planted(
        "other lists of finders",
        "import sys\nclass Finder:\n    find_spec = act\nreached()\n"
        "sys.meta_path = [Finder(), *sys.meta_path]\nsys.path_hooks = [act]",
        "import colorsys\nprint('fine')",
    ),
    _planted(
        "a folder before all others",
        "import pathlib, sys\npathlib.Path('/tmp/first').mkdir()\n"
        "pathlib.Path('/tmp/first/colorsys.py').write_text("
        "'import __main__\\n__main__.act()\\n')\nreached()\nsys.path.insert(0, '/tmp/first')",
        "import colorsys\nprint('fine', colorsys.rgb_to_hsv(0, 0, 0))",
    ),
    _planted(
        "handlers of encoding errors",
        "import codecs\nreached()\nfor name in ('strict', 'ignore', 'replace', 'backslashreplace'):\n"
        "    codecs.register_error(name, act)",
        "try:\n    '\\xe9'.encode('ascii')\nexcept UnicodeEncodeError:\n    print('fine')",
    ),
    _planted(
        "a search for codecs",
        "import codecs\nreached()\ncodecs.register(act)",
        "try:\n    'a'.encode('no-such-codec')\nexcept LookupError:\n    print('fine')",
    ),
    _planted(
        "a table of copyreg",
        "import copyreg, re\nreached()\ncopyreg.dispatch_table[re.Pattern] = act",
        "import copy, pickle, re\npickle.dumps(re.compile('a'))\nprint('fine')",
    ),
    _planted(
        "__build_class__ and __import__",
        "import builtins\nreached()\nbuiltins.__build_class__ = builtins.__import__ = act",
        "class A:\n    pass\nimport json\nprint('fine')",
    ),
    _planted(
        "handlers of signals",
        "import signal\nreached()\nfor number in (signal.SIGINT, signal.SIGALRM):\n"
        "    signal.signal(number, act)",
        "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n"
        "    print('fine')",
    ),
    _planted(
        "handlers of every signal",
        "import signal\nreached()\nfor number in signal.valid_signals():\n    signal.signal(number, act)",
        "import signal\nfor number in signal.valid_signals() - {signal.SIGINT, signal.SIGALRM}:\n"
        "    if callable(signal.getsignal(number)):\n        signal.raise_signal(number)\nprint('fine')",
    ),
    _planted(
        "a trace that is set between cells",
        "import sys\nclass A:\n    def __del__(self):\n        sys.settrace(act)\n"
        "        sys.setprofile(act)\nsys.stdout.held = A()\nreached()",
        "def f():\n    return 'fine'\nprint(f())",
    ),
    _planted(
        "sys.monitoring that is never freed",
        "import sys\nfrom sandbox_runtime.guest import driver as driver_module, entry\nmonitoring = sys.monitoring\n"
        "monitoring.use_tool_id(3, 'planted')\nreached()\n"
        "monitoring.register_callback(3, monitoring.events.PY_START, act)\n"
        "monitoring.set_events(3, monitoring.events.PY_START)\n"
        "entry.PyodideDriver._tracers_quietened = lambda self: iter(())",
        "def f():\n    return 'fine'\nprint(f())",
    ),
    _planted(
        "an audit hook",
        _HEARS + "import sys\nreached()\ntry:\n    sys.addaudithook(hear)\n"
        "except RuntimeError as error:\n    print(error)",
        "compile('1', 'later', 'eval')\nprint('fine')",
    ),
    program(
        "sys, made anew",
        _FORGED
        + _ACTS
        + _HEARS
        + """
import _imp, importlib.machinery, importlib.util, sys
spec = importlib.util.spec_from_loader("sys", importlib.machinery.BuiltinImporter)
reached()
again = _imp.create_builtin(spec)
again.addaudithook(hear)
""",
        "compile('1', 'later', 'eval')\nprint('fine')",
        shows="fine",
        calls=0,
        destroys=True,
    ),
    _planted(
        "atexit and threads",
        "import atexit, threading, time\natexit.register(act)\nthreading.excepthook = act\nreached()\n"
        "def wait():\n    time.sleep(0.1)\n    act()\nthreading.Thread(target=wait, daemon=True).start()",
    ),
)

# The compiler warns about the later cell, and asks the filters of warnings what to do.
_IS_WARNED_OF = "print('fine \\d')"

_FILTER = """
import warnings
class Pattern:
    match = act
class Meta(type):
    __subclasscheck__ = act
class Category(metaclass=Meta):
    pass
class Text(str):
    __eq__ = __repr__ = __str__ = act
    __hash__ = str.__hash__
class Line(int):
    __index__ = __int__ = __eq__ = act
reached()
"""


def _filter(name: str, entry: str, later: str = _IS_WARNED_OF) -> Program:
    """Returns a program that puts an entry before all filters of warnings."""
    plant = f"warnings.filters.insert(0, {entry})\nwarnings._filters_mutated()"
    return _planted(f"a filter of warnings with {name}", _FILTER + plant, later)


WARNINGS = (
    _filter("a pattern of its own", "('always', Pattern(), Warning, Pattern(), 0)"),
    _filter(
        "a pattern of its own, as a cell warns",
        "('always', Pattern(), Warning, Pattern(), 0)",
        "import warnings\nwarnings.warn('x')\nprint('fine')",
    ),
    _filter("a category of its own", "('always', None, Category, None, 0)"),
    _filter("an action of its own", "(Text('never'), None, Warning, None, 0)"),
    _filter("a line number of its own", "('always', None, Warning, None, Line())"),
    _planted(
        "another list of filters of warnings",
        _FILTER + "class Filters(list):\n    __iter__ = __getitem__ = __len__ = act\n"
        "warnings.filters = Filters([('always', Pattern(), Warning, None, 0)])",
        _IS_WARNED_OF,
    ),
    _planted(
        "filters of warnings of a context",
        _FILTER + "class Context:\n    log = None\n    @property\n    def _filters(self):\n"
        "        act()\n        return []\nwarnings._warnings_context.set(Context())",
        _IS_WARNED_OF,
    ),
    _planted(
        "a record of warnings",
        _FILTER + "import _py_warnings\nclass Log(list):\n    append = act\n"
        "_py_warnings._global_context.log = Log()",
        _IS_WARNED_OF,
    ),
    _planted(
        "another context of warnings",
        _FILTER
        + "import _py_warnings\nclass Other(_py_warnings._Context):\n    log = property(act)\n"
        "_py_warnings._global_context.__class__ = Other",
        _IS_WARNED_OF,
    ),
    _planted(
        "warnings that were seen once",
        _FILTER
        + "class Seen:\n    __eq__ = act\n    def __hash__(self):\n        return self.hash\n"
        "def compiled():\n    with warnings.catch_warnings():\n        warnings.simplefilter('once')\n"
        "        compile(\"print('fine \\\\d')\", '<cell>', 'exec')\n"
        "compiled()\nseen = [*warnings.onceregistry]\nwarnings.onceregistry.clear()\n"
        "for key in seen:\n    one = Seen()\n    one.hash = hash(key)\n    warnings.onceregistry[one] = True\n"
        "warnings.simplefilter('once')\nassert seen",
        _IS_WARNED_OF,
    ),
    program(
        "a default action for warnings that there is not",
        "import warnings, _warnings\nreached()\nwarnings.filters.clear()\nwarnings.defaultaction = 'no'",
        _IS_WARNED_OF,
        shows="fine",
    ),
    program(
        "warnings about later cells are errors",
        "import warnings\nreached()\nwarnings.simplefilter('error')",
        _IS_WARNED_OF,
        shows="fine",
    ),
)

_RUNS_A_THREAD = (
    "import threading\ndef fail():\n    1 / 0\n"
    "for work in (fail, print):\n    thread = threading.Thread(target=work)\n    thread.start()\n"
    "    thread.join()\nprint('fine')"
)

THREADS = tuple(
    _planted(
        f"threading: {plant}", f"import threading\nreached()\nthreading.{plant}", _RUNS_A_THREAD
    )
    for plant in (
        "excepthook = act",
        "settrace(act)",
        "setprofile(act)",
        "_trace_hook = threading._profile_hook = act",
    )
)

# Abstract classes ask the classes that derive from them, anew once any class has been registered.
_DERIVES = """
import abc, collections, collections.abc, fractions
class Planted(abc.ABC):
    pass
def derive(kind):
    def planted(cls, other):
        act()
        return NotImplemented
    names = {"__subclasshook__": classmethod(planted)}
    return type(kind)("Planted", (kind,), names)
kinds = [getattr(collections.abc, name) for name in collections.abc.__all__ if name != "ByteString"]
held = [derive(kind) for kind in (*kinds, fractions.Fraction, collections.ChainMap)]
Planted.register(type("Other", (), {}))
reached()
"""

ABSTRACT = (
    _planted(
        "classes that derive from abstract ones, as a cell waits",
        _DERIVES,
        "async def work():\n    return 'fine'\nprint(await work())",
    ),
    program(
        "classes that derive from abstract ones, as a value is sent",
        _FORGED + _ACTS + _DERIVES,
        "import pathlib\nvalue = [(x for x in 'ab'), {}.values(), pathlib.PurePath('c')]\necho(value)\n"
        "print('fine')",
        shows="fine",
        ends=("completed",),
        calls=1,
    ),
    program(
        "classes that derive from abstract ones, as an error is reported",
        _FORGED
        + _ACTS
        + """
import abc, collections.abc, sys
class Planted(collections.abc.Sequence):
    @classmethod
    def __subclasshook__(cls, other):
        frame = sys._getframe()
        while frame is not None:
            report = frame.f_locals.get("self")
            if hasattr(report, "exc_type_qualname"):
                report._str = forged
                return True
            frame = frame.f_back
        return NotImplemented
class Other(abc.ABC):
    pass
Other.register(type("Any", (), {}))
reached()
""",
        "raise ValueError('fi' + 'ne')",
        ends=("failed",),
        shows="fine",
        calls=0,
    ),
)

COLORS = (
    program(
        "the colors of a report",
        f"escaped = {ESCAPED_SOURCE}\n"
        """
import _colorize, sys
own = _colorize.get_theme
def planted(**options):
    frame = sys._getframe()
    while frame is not None:
        report = frame.f_locals.get("self")
        if hasattr(report, "exc_type_qualname"):
            report._str = escaped
        frame = frame.f_back
    return own(**options)
reached()
_colorize.get_theme = planted
""",
        "raise ValueError('fi' + 'ne')",
        ends=("failed",),
        shows="fine",
    ),
)

PROGRAMS = (*CALLBACKS, *FINALIZERS, *HOOKS, *WARNINGS, *THREADS, *ABSTRACT, *COLORS)
