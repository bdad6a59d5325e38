"""Programs that change our own modules, so that a later, honest SUBMIT or tool call delivers another value.

Each is aimed: nothing breaks, so that nothing is replaced. The later cell has to get the real thing.
"""

from __future__ import annotations

from .program import Program, program

_OURS = "reaches for our driver"

_IMPORTS = """
import sandbox_runtime.guest.driver as driver_module
from sandbox_runtime.guest.texts import host_calls
from sandbox_runtime.guest.namespace import calls
from sandbox_runtime.guest.values import codec
from sandbox_runtime.guest import tracebacks
from sandbox_runtime.guest.integrity import namespace_guard
from sandbox_runtime.guest.integrity import foundation
from sandbox_runtime.guest.namespace import tool_wrappers
from sandbox_runtime.guest import entry
from sandbox_runtime.guest.integrity import hooks
from sandbox_runtime.guest.integrity import object_memory
from sandbox_runtime.guest import output
from sandbox_runtime.guest import callback_ownership
from sandbox_runtime.guest.values import records
from sandbox_runtime.guest.namespace import submit
from sandbox_runtime.guest import tasks
driver = entry.driver
forged = "FOR" + "GED"
as_json = '{"answer": "' + forged + '", "count": 1}'
"""

# After the change, so that one that fails is not taken for one that had no effect.
_REACHED = "\nreached()\n"

_HONEST = "SUBMIT(answer=echo('real'), count=1)"


def _aimed(
    name: str, change: str, later: str = "", *, at_once: bool = False, **more: object
) -> Program:
    """Returns a program whose change takes effect in a later cell, or `at_once`: then its mark is before it."""
    return program(
        name,
        _IMPORTS + (_REACHED + change if at_once else change + _REACHED),
        later + _HONEST,
        ends=("submitted",),
        submits="echo: real",
        ours=_OURS,
        calls=1,
        **more,  # type: ignore[arg-type]
    )


_PUT_BACK = "put_back = entry.harness().restore\n"

# A function that acts before each call of another.
_FORGING = """
def forging(function):
    def forge(*args, **named):
        try:
            echo(forged)
        except Exception:
            pass
        return function(*args, **named)
    return forge
"""

# Changes a builtin class whenever the C function is called with which the harness is restored.
_PLANT = """
import ctypes
import gc
[function] = [
    cell.cell_contents
    for cell in entry.harness().restore.__closure__
    if isinstance(cell.cell_contents, ctypes._CFuncPtr)
]
names = gc.get_referents(str.__dict__)[0]

def plant(value=None):
    names["title"] = lambda text: forged
    return value

class Planting:
    @classmethod
    def from_param(cls, value):
        return plant(ctypes.py_object(value))

"""
_RESTORED_WITH = {
    "errcheck": "function.errcheck = lambda result, *_: plant(result)",
    "restype": "function.restype = plant",
    "argtypes": "function.argtypes = [Planting]",
    "class's __call__": "type(function).__call__ = lambda self, kind: plant()",
    "class": "function.__class__ = ctypes.PYFUNCTYPE(None, Planting)",
}

# Places of objects that are freed when the next cell is prepared; their finalizers run then.
_FREED_IN_PREPARATION = {
    "stdin": "sys.stdin = Planting()",
    "stdout": "sys.stdout = Planting()",
    "the main module": "sys.modules['__main__'] = Planting()",
    "the finders": "sys.path_importer_cache['x'] = Planting()",
    "the lines of a cell": "driver._lines = Planting()",
    "the reserve": "driver._reserve = Planting()",
    "what was replaced": "driver._left = Planting()",
    "the sources": "import linecache\nfor n in range(999): linecache.cache[f'<cell {n}>'] = Planting()",
}

_PLANTING = """
import sys
class Planting:
    def __del__(self):
        driver._submitted = (as_json, [])
        if not getattr(self, "last", False):
            again = Planting()
            again.last = True
            sys.stdin = driver._reserve = driver._lines = again
"""

PROGRAMS = (
    *(
        program(
            f"a submission that a finalizer in {place} plants in the preparation of a cell",
            f"{_IMPORTS}{_PLANTING}{_REACHED}{change}",
            "print('honest')",
            shows="honest",
            ours=_OURS,
        )
        for place, change in _FREED_IN_PREPARATION.items()
    ),
    *(
        _aimed(
            f"the {setting} of a C function that restores",
            f"{_PLANT}{change}\ntasks.settles = None",
            "assert 'real'.title() == 'Real'\n",
        )
        for setting, change in _RESTORED_WITH.items()
    ),
    _aimed("bind_submit", "driver_module.bind_submit = lambda *_: {'answer': forged, 'count': 1}"),
    _aimed("send", "driver_module.send = calls.send = lambda *_: (as_json, [])"),
    _aimed(
        "the code of send",
        'def other(value, label):\n    return \'{"answer": "FORGE\' + \'D", "count": 1}\', []\n'
        "codec.send.__code__ = other.__code__",
    ),
    _aimed(
        "the defaults of a function",
        "def is_plain(value, *, depth=0, chars=0, bits=None):\n    return False\n"
        "codec.is_plain.__code__ = is_plain.__code__\n"
        "codec.is_plain.__kwdefaults__ = {'depth': 0, 'chars': 0, 'bits': None}",
    ),
    _aimed(
        "the tree of a value",
        "codec._tree = lambda *_: {'answer': forged, 'count': 1}\n"
        "codec.is_plain = lambda *_, **__: False",
    ),
    _aimed(
        "the table of what cells are given",
        "real = SUBMIT\ndriver._harness['SUBMIT'] = lambda **_: real(answer=forged, count=1)\n"
        "driver._harness['echo'] = lambda _: forged",
    ),
    _aimed(
        "another table", "driver._harness = {'echo': lambda _: forged, 'SUBMIT': lambda **_: 1}"
    ),
    _aimed("what is checked", "calls.HostCalls.checked = lambda *_: (as_json, [])"),
    _aimed("what is checked, of one object", "driver.calls.checked = lambda *_: (as_json, [])"),
    _aimed(
        "the end of a cell",
        """
end = driver_module.Driver._end
def other(self, error):
    return [end(self, error)[0], as_json.encode()]
driver_module.Driver._end = other
""",
        at_once=True,
        destroys=True,  # it ends its own cell with a value that exceeds the limit
    ),
    _aimed("the result of a call", "calls.HostCalls._result = lambda *_: forged"),
    _aimed("the scanner of answers", "calls.scan = lambda *_: (forged, 0)"),
    _aimed("what receives", "calls.receive = codec.receive = lambda *_: forged"),
    _aimed(
        "a tool's closure",
        "for cell in echo.__closure__:\n    if cell.cell_contents == 'echo':\n"
        "        cell.cell_contents = 'lookup'",
    ),
    _aimed("a tool's defaults", "echo.__defaults__, echo.__kwdefaults__ = (1,), {'value': forged}"),
    _aimed("SUBMIT's closure", "for cell in SUBMIT.__closure__:\n    cell.cell_contents = None"),
    program(
        "a tool's other ways",
        _IMPORTS + "async def other(*_):\n    return forged\necho.aio = other\n"
        "echo.batched = lambda items: [forged for _ in items]" + _REACHED,
        "SUBMIT(answer=await echo.aio(echo.batched(['real'])[0]), count=1)",
        ends=("submitted",),
        submits="echo: echo: real",
        ours=_OURS,
    ),
    program(
        "the fields of SUBMIT",
        _IMPORTS + "for field in driver._outputs:\n    field['name'] = 'other'" + _REACHED,
        _HONEST,
        ends=("submitted",),
        submits="echo: real",
        ours=_OURS,
    ),
    _aimed(
        "attributes of a class that were not there",
        "entry.PyodideDriver._running = property(lambda _: False, lambda *_: None)\n"
        "driver_module.Driver.__getattribute__ = lambda self, name: object.__getattribute__(self, name)",
        at_once=True,
        destroys=True,
    ),
    _aimed(
        "properties and methods of classes, begun anew",
        "import sys\n"
        + _FORGING
        + """
named = ("sandbox_runtime", "contextlib", "json", "traceback", "asyncio.", "pyodide.webloop", "_pyodide")
kinds = {kind for name, module in list(sys.modules.items()) if name.startswith(named)
         for kind in vars(module).values() if isinstance(kind, type)}
for kind in kinds:
    for thing in list(vars(kind).values()):
        if type(thing) is property and type(thing.fget) is type(forging):
            thing.__init__(forging(thing.fget), thing.fset, thing.fdel)
        elif type(thing) in (staticmethod, classmethod) and type(thing.__func__) is type(forging):
            thing.__init__(forging(thing.__func__))
""",
        at_once=True,
        later="asked = files['a.txt'].length\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    import traceback\n"
        "    assert 'ZeroDivisionError' in traceback.format_exc()\n",
    ),
    _aimed(
        "names in modules that hide builtins",
        """
import builtins, sys
def forging(function):
    def forge(*args, **named):
        if "late" in globals():
            globals().pop("late")
            echo(forged)
        return function(*args, **named)
    return forge
for name, module in list(sys.modules.items()):
    if name.startswith(("sandbox_runtime", "contextlib", "json", "traceback", "asyncio", "pyodide.webloop")):
        for builtin, value in vars(builtins).items():
            if builtin not in vars(module) and type(value) is type(len) and builtin[:2] != "__":
                vars(module)[builtin] = forging(value)
""",
        later="late = True\nasked = files['a.txt'][:3]\n",
    ),
    _aimed(
        "bases of a class",
        "class Other(driver_module.Driver):\n    def _open(self):\n        self._submitted = (as_json, [])\n"
        "entry.PyodideDriver.__bases__ = (Other,)",
    ),
    _aimed(
        "the class of the driver",
        "class Other(entry.PyodideDriver):\n    def _end(self, error):\n"
        "        return [super()._end(error)[0], as_json.encode()]\ndriver.__class__ = Other",
        destroys=True,
    ),
    _aimed(
        "the class of a module",
        "import types\nclass Other(types.ModuleType):\n    send = property(lambda _: 1 / 0)\n"
        "codec.__class__ = driver_module.__class__ = Other",
    ),
    _aimed(
        "the attributes of the driver",
        "driver.__dict__ = {**vars(driver), '_host': None, '_namespace': {}}",
        destroys=True,
    ),
    _aimed(
        "who may call",
        "callback_ownership.Ownership.check = lambda *_: None\ncallback_ownership._mark = None",
    ),
    _aimed("the rule of the border", "driver.calls._check = driver.calls._received = print"),
    _aimed(
        "what puts back",
        "namespace_guard.NamespaceGuard.restore = lambda _: None\n"
        "hooks.Hooks.restore = lambda _: None\nnamespace_guard.merge_into = namespace_guard.restore = lambda *_, **__: None\n"
        "driver_module.bind_submit = lambda *_: {'answer': forged, 'count': 1}",
    ),
    _aimed(
        "the function that puts back, its variables",
        _PUT_BACK + "for cell in put_back.__closure__:\n    cell.cell_contents = ()\n"
        "driver_module.bind_submit = lambda *_: {'answer': forged, 'count': 1}",
    ),
    _aimed(
        "the function that puts back, its code",
        _PUT_BACK
        + """
names = ",".join(put_back.__code__.co_freevars)
made = {}
exec(f"def outer({names}):\\n def inner():\\n  return ({names})\\n return inner", made)
put_back.__code__ = made["outer"](*put_back.__code__.co_freevars).__code__
driver_module.bind_submit = lambda *_: {"answer": forged, "count": 1}
""",
    ),
    _aimed(
        "what is looked at",
        "for ground in (entry.harness, entry.settings, entry.tools):\n"
        "    for cell in (*ground().locate.__closure__, *ground.__closure__):\n        cell.cell_contents = ()\n"
        "object_memory.Memory.of_names = lambda *_, **__: iter(())\n"
        "driver_module.bind_submit = lambda *_: {'answer': forged, 'count': 1}",
    ),
    _aimed(
        "again after it was put back",
        "driver_module.bind_submit = None\nimport json\n"
        "for number in range(1000):\n    setattr(json, f'added_{number}', number)",
    ),
    program(
        "three cells in a row",
        *(
            _IMPORTS
            + "driver_module.send = driver_module.bind_submit = lambda *_: forged"
            + _REACHED
            for _ in range(3)
        ),
        _HONEST,
        ends=("submitted",),
        submits="echo: real",
        ours=_OURS,
    ),
    _aimed(
        "json that lies",
        "import json\ndef dumps(obj, *, skipkeys=False, ensure_ascii=True, check_circular=True,"
        " allow_nan=True, cls=None, indent=None, separators=None, default=None, sort_keys=False, **kw):\n"
        "    return '{}'\njson.dumps.__code__ = dumps.__code__",
        destroys=True,
    ),
    _aimed(
        "a class of collections that asks back",
        "import collections.abc\n"
        "def asks(kind, other):\n    SUBMIT(answer=forged, count=1)\n"
        "collections.abc.Set.__subclasshook__ = classmethod(asks)",
    ),
    _aimed(
        "the builtins that new functions get",
        "import builtins, sys\n"
        + _FORGING
        + """
kinds = (type(len), type(forging))
evil = {name: forging(value) if isinstance(value, kinds) else value for name, value in vars(builtins).items()}
for name, module in list(sys.modules.items()):
    if name != "__main__" and "__builtins__" in vars(module):
        vars(module)["__builtins__"] = evil
""",
        later="import dataclasses, functools, json, re, typing\n"
        "@dataclasses.dataclass\nclass A:\n    x: int = 1\n"
        "assert dataclasses.asdict(A()) == {'x': 1}\nfunctools.wraps(len)(lambda: 1)\n"
        "json.dumps({'a': [1]}, indent=1)\ntyping.get_type_hints(A)\nre.compile('[ab]+c').sub(str, 'x')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    import traceback\n    traceback.format_exc()\n",
        at_once=True,
    ),
    _aimed("the limit of output", "driver._output_chars = 10**9\ndriver.output._half = 10**9"),
)
