"""Programs that give CPython functions of C to call by itself, in a later cell: through ctypes.

The interpreter's own tables of watchers, tracers, hooks and pending calls are no Python objects, and what
calls them looks like the cell that runs then. The later cell is honest, and does what each waits for.
"""

from __future__ import annotations

from .outliving import _FORGED
from .program import Program, program

# Acts in the later cell only, and not while it acts.
_ACTS = """
import ctypes, gc
from ctypes import CFUNCTYPE, c_int, c_void_p, py_object, pythonapi as api
busy = False
def act(*args, **kwargs):
    global busy, kept
    if busy or "later" not in globals():
        return 0
    busy = True
    try:
        for attempt in (lambda: echo(forged), lambda: SUBMIT(answer=forged, count=1)):
            try:
                attempt()
            except BaseException:
                pass
        kept = []
    finally:
        busy = False
    return 0
def every(kind, callback):
    numbers = []
    add = getattr(api, f"Py{kind}_AddWatcher")
    add.argtypes = [c_void_p]
    try:
        while len(numbers) < 99:
            numbers.append(add(ctypes.cast(callback, c_void_p)))
    except RuntimeError:
        return numbers
"""


def _planted(name: str, plant: str, later: str, *, destroys: bool = False) -> Program:
    """A cell that plants `act`, and a later one that shows `fine`. Where it may destroy itself, it need not."""
    return program(
        name,
        f"{_FORGED}{_ACTS}reached()\n{plant}",
        f"later = 1\n{later}\nprint('fine')",
        shows="" if destroys else "fine",
        ends=("completed", "failed") if destroys else ("completed",),
        calls=0,
        destroys=destroys,
    )


WATCHERS = (
    _planted(
        "watchers of functions",
        "watch = CFUNCTYPE(c_int, c_int, c_void_p, c_void_p)(act)\nevery('Function', watch)",
        "def honest():\n    pass\ndel honest",
    ),
    _planted(
        "watchers of code",
        "watch = CFUNCTYPE(c_int, c_int, c_void_p)(act)\nevery('Code', watch)",
        "exec(compile('1', 'honest', 'exec'))",
    ),
    _planted(
        "watchers of dictionaries",
        "watch = CFUNCTYPE(c_int, c_int, c_void_p, c_void_p, c_void_p)(act)\n"
        "import sys\nfor number in every('Dict', watch):\n"
        "    for names in (globals(), sys.modules):\n        api.PyDict_Watch(number, py_object(names))",
        "import colorsys\nnew_name = 1\ndel new_name",
    ),
    _planted(
        "watchers of classes",
        "watch = CFUNCTYPE(c_int, py_object)(act)\nclass A:\n    pass\n"
        "for number in every('Type', watch):\n    api.PyType_Watch(number, py_object(A))",
        "A.x = 1\nA.x\nA.x = 2",
    ),
    _planted(
        "watchers of contexts",
        "watch = CFUNCTYPE(c_int, c_int, c_void_p)(act)\nevery('Context', watch)",
        "import contextvars\ncontextvars.copy_context().run(print, 1)\nimport asyncio\nawait asyncio.sleep(0.01)",
    ),
)

PENDING = (
    *(
        _planted(
            f"a pending call that adds the next one{where}",
            f"def again(_):\n    act()\n    add()\n    return 0\n"
            f"call = CFUNCTYPE(c_int, c_void_p)(again)\nadd = lambda: {add}\nadd()",
            "for i in range(1000):\n    str(i)\nimport asyncio\nawait asyncio.sleep(0.01)",
            destroys=True,
        )
        for where, add in (
            ("", "api.Py_AddPendingCall(call, None)"),
            (
                " of the interpreter",
                "api._PyEval_AddPendingCall(api.PyInterpreterState_Get(), call, None, 0)",
            ),
        )
    ),
    _planted(
        "a pending call as the cell's last step",
        "call = CFUNCTYPE(c_int, c_void_p)(act)\nclass Last:\n    def __repr__(self):\n"
        "        for _ in range(20):\n            api.Py_AddPendingCall(call, None)\n        return 'last'\n"
        "import sys\nsys.stdout.held = Last()\nprint(Last())",
        "print(1)",
    ),
    _planted(
        "an exception for the thread",
        "import threading\nthread = threading.get_ident()\nclass E(BaseException):\n"
        "    def __init__(self):\n        act()\n"
        "set = api.PyThreadState_SetAsyncExc\nset.argtypes = [ctypes.c_ulong, py_object]\n"
        "set(thread, E)",
        "print(1)",
        destroys=True,
    ),
)

HOOKS = (
    _planted(
        "an audit hook of C",
        "hook = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p)(act)\napi.PySys_AddAuditHook(hook, None)",
        "import colorsys\nexec(compile('1', 'honest', 'exec'))",
    ),
    _planted(
        "a hook of opened code",
        "import io\n@CFUNCTYPE(py_object, py_object, c_void_p)\ndef hook(path, data):\n    act()\n"
        "    return io.open(path, 'rb')\napi.PyFile_SetOpenCodeHook(hook, None)",
        "import colorsys, wave",
    ),
    _planted(
        "a tracer of references",
        "trace = CFUNCTYPE(c_int, c_void_p, c_int, c_void_p)(act)\napi.PyRefTracer_SetTracer(trace, None)",
        "print([object()])",
        destroys=True,
    ),
    _planted(
        "an evaluator of frames",
        "run = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_int)(act)\n"
        "api._PyInterpreterState_SetEvalFrameFunc(api.PyInterpreterState_Get(), run)",
        "(lambda: 1)()",
        destroys=True,
    ),
    _planted(
        "an evaluator of frames in C",
        "api._PyInterpreterState_SetEvalFrameFunc(api.PyInterpreterState_Get(), ctypes.CDLL(None).memcmp)",
        "(lambda: 1)()",
        destroys=True,
    ),
    _planted(
        "an allocator",
        "take = CFUNCTYPE(c_void_p, c_void_p, ctypes.c_size_t)(act)\nhas = (ctypes.c_uint32 * 5)()\n"
        "api.PyMem_GetAllocator(2, has)\nhas[1] = ctypes.cast(take, c_void_p).value\n"
        "api.PyMem_SetAllocator(2, has)",
        "print([object()])",
        destroys=True,
    ),
    _planted(
        "tracers of C",
        "trace = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_void_p)(act)\n"
        "for name in ('SetTrace', 'SetProfile'):\n    getattr(api, f'PyEval_{name}')(trace, None)\n"
        "    getattr(api, f'PyEval_{name}AllThreads')(trace, None)",
        "(lambda: len([]))()",
    ),
    _planted(
        "signals that are not looked at",
        "c_int.in_dll(api, 'Py_EMSCRIPTEN_SIGNAL_HANDLING').value = 0\n"
        "for name in ('PyOS_InputHook', 'PyOS_ReadlineFunctionPointer'):\n"
        "    c_void_p.in_dll(api, name).value = ctypes.cast(CFUNCTYPE(c_int)(act), c_void_p).value",
        "if not c_int.in_dll(api, 'Py_EMSCRIPTEN_SIGNAL_HANDLING').value:\n    raise OSError",
    ),
)


def _class_of_c(name: str, kind: str, changes: str, *, destroys: bool = False) -> Program:
    """The dictionary of a class that cannot be changed, changed; and a later cell that has to get the real thing."""
    return program(
        f"the attributes of {name}",
        f"{_FORGED}import contextvars, ctypes, gc, types\n"
        f"kind = {kind}\nnames = gc.get_referents(kind.__dict__)[0]\nreached()\n{changes}\n"
        "ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))",
        "SUBMIT(answer=[echo('real'), 'a'.encode(), 'a b'.split(), 'a\\nb'.splitlines()], count=len({'a': 1}.items()))",
        ends=("submitted", "failed") if destroys else ("submitted",),
        submits=["echo: real", b"a", ["a", "b"], ["a", "b"]],
        calls=1,
        destroys=destroys,
    )


CLASSES = (
    _class_of_c("text", "str", "names['encode'] = lambda *_, **__: b'[[\"FORGED\"], {}]'"),
    _class_of_c(
        "text, for lines", "str", "names['splitlines'] = lambda *_: echo(forged) and ['x']"
    ),
    _class_of_c(
        "dicts",
        "dict",
        "names['update'] = lambda *_, **__: None\nnames['values'] = lambda _: [forged]",
        destroys=True,
    ),
    _class_of_c("lists", "list", "names['append'] = names['clear'] = lambda *_: None"),
    _class_of_c("contexts", "contextvars.Context", "names['get'] = lambda *_: None"),
    _class_of_c(
        "functions", "types.FunctionType", "names['__code__'] = property(lambda self: forged)"
    ),
)

PROGRAMS = (*WATCHERS, *PENDING, *HOOKS, *CLASSES)
