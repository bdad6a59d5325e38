"""Programs that change what the harness, imports and codecs rely on, so that a later cell runs other code.

Nothing of it is the harness's own: the interpreter's finders, loaders and codecs, the event loop's object, the
classes of values, and what a finalizer changes while a cell is made ready. The later cell is honest.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import PurePosixPath

from .harness import _HONEST, _IMPORTS, _OURS, _REACHED, _aimed
from .outliving import _ACTS, _FORGED, _LOOP, _planted
from .program import Program, program

_IMPORTS_LATER = "import colorsys\nprint('fine')"
_WAITS_A_MOMENT = "import asyncio\nawait asyncio.sleep(0.01)\nprint('fine')"


def _of_values(name: str, change: str, later: str, submits: object) -> Program:
    """Returns a program whose later cell submits a value that must arrive unchanged."""
    return program(
        name, _IMPORTS + change + _REACHED, later, ends=("submitted",), submits=submits, ours=_OURS
    )


def _codec(name: str, plant: str) -> Program:
    """Returns a codec that acts only in the later cell; in its own cell it may."""
    encode = (
        "import codecs, encodings, gc\ndef encode(*args):\n"
        "    if 'later' in globals():\n        act()\n    return b'a', 1\n"
        "codec = codecs.CodecInfo(encode=encode, decode=encode, name='cp1252')\nreached()\n"
    )
    return _planted(name, encode + plant, "later = 1\nprint('fine', 'a'.encode('cp1252'))")


_CHANGES = (
    "class A:\n    def __del__(self):\n"
    "        driver_module.bind_submit = lambda *_: {'answer': forged, 'count': 1}\n"
)

IMPORTS = (
    _planted(
        "the classes of finders",
        "import sys\nreached()\nfor finder in sys.meta_path:\n"
        "    try:\n        finder.find_spec = act\n    except TypeError:\n        pass\n"
        "    try:\n        type(finder).find_spec = act\n    except TypeError:\n        pass",
        _IMPORTS_LATER,
    ),
    _planted(
        "what `import` comes down to",
        "import importlib._bootstrap as bootstrap\nreached()\nbootstrap._find_and_load = act",
        _IMPORTS_LATER,
    ),
    _planted(
        "the code of what finds modules",
        "import importlib._bootstrap as bootstrap\n"
        "def find(name, path, target=None):\n    import __main__\n    __main__.act()\nreached()\n"
        "bootstrap._find_spec.__code__ = find.__code__",
        _IMPORTS_LATER,
    ),
    _planted(
        "attributes that loaders inherit",
        "import importlib.machinery as machinery, zipimport\nreached()\n"
        "for kind in (machinery.SourceFileLoader, machinery.SourcelessFileLoader, zipimport.zipimporter):\n"
        "    kind.exec_module = kind.get_code = act",
        _IMPORTS_LATER,
    ),
    _planted(
        "finders of folders",
        "import sys\nclass Finder:\n    find_spec = act\nreached()\n"
        "for folder in [*sys.path, *sys.path_importer_cache]:\n"
        "    sys.path_importer_cache[folder] = Finder()",
        _IMPORTS_LATER,
    ),
    _planted(
        "another table of finders",
        "import sys\nclass Finder:\n    find_spec = act\nreached()\n"
        "sys.path_importer_cache = {folder: Finder() for folder in sys.path}",
        _IMPORTS_LATER,
    ),
    _planted(
        "folders that are no plain text",
        "import sys\nclass Folder(str):\n    def __getattribute__(self, name):\n        act()\n"
        "        return str.__getattribute__(self, name)\n    def __eq__(self, other):\n        act()\n"
        "    __hash__ = str.__hash__\nreached()\nsys.path.append(Folder('/none'))\n"
        "sys.pycache_prefix = Folder('/tmp')",
        _IMPORTS_LATER,
    ),
    _planted(
        "the harness's own list of finders",
        "from sandbox_runtime.guest import entry\nimport sys\nclass Finder:\n    find_spec = act\n"
        "lists = entry.driver._hooks._lists\nreached()\n"
        "try:\n    lists['meta_path'] = (sys.meta_path, [Finder()])\n"
        "except TypeError:\n    entry.driver._hooks._lists = (('meta_path', sys.meta_path, (Finder(),)),)",
        _IMPORTS_LATER,
    ),
)

CODECS = (
    _codec(
        "a codec that was remembered",
        "encodings._cache['cp1252'] = codec\n'a'.encode('cp1252')",
    ),
    _codec("another table of codecs", "encodings._cache = {'cp1252': codec}"),
    _codec(
        "the interpreter's own table of codecs",
        "for table in gc.get_referrers(codecs.lookup('utf-8')):\n"
        "    if type(table) is dict:\n        table['cp1252'] = codec",
    ),
    _planted(
        "the code of the search for codecs",
        "import encodings\ndef search(encoding):\n    import __main__\n    __main__.act()\nreached()\n"
        "encodings.search_function.__code__ = search.__code__",
        "print('fine', 'a'.encode('cp1251'))",
    ),
)

LOOP = (
    _planted(
        "the class of the loop",
        _LOOP
        + "class Other(type(loop)):\n    def call_soon(self, *args, **kwargs):\n        act()\n"
        "    call_later = create_task = call_soon\nreached()\nloop.__class__ = Other",
        _WAITS_A_MOMENT,
    ),
    _planted(
        "the attributes of the loop, all anew",
        _LOOP + "reached()\nloop.__dict__ = {**vars(loop), 'call_soon': act, 'create_task': act}",
        _WAITS_A_MOMENT,
    ),
    _planted(
        "what the harness remembers of the loop",
        _LOOP + "from sandbox_runtime.guest import entry\nreached()\n"
        "entry.driver._loops = ()\n"
        "loop.call_soon = loop.create_task = act",
        _WAITS_A_MOMENT,
    ),
    _planted(
        "what schedules a callback",
        "import pyodide.webloop\nreached()\npyodide.webloop.scheduleCallback = act",
        _WAITS_A_MOMENT,
    ),
    _planted(
        "a lock of asyncio",
        "import asyncio.mixins\nclass Lock:\n    def __enter__(self):\n        act()\n"
        "    def __exit__(self, *args):\n        pass\nreached()\nasyncio.mixins._global_lock = Lock()",
        _LOOP + "event = asyncio.Event()\nloop.call_later(0.01, event.set)\nawait event.wait()\n"
        "print('fine')",
    ),
    _planted(
        "what is remembered of tasks",
        "from sandbox_runtime.guest import entry\nclass Odd:\n    def __eq__(self, other):\n        act()\n"
        "    __hash__ = None\nreached()\nentry.driver._given_up.append(Odd())",
        "import asyncio\nheld = asyncio.ensure_future(asyncio.sleep(9))\nprint('fine')",
    ),
)

FINALIZERS = (
    _planted(
        "a finalizer where the next cell's source belongs",
        "import linecache\nclass A:\n    def __del__(self):\n        act()\nreached()\n"
        "for number in range(1000):\n    linecache.cache[f'<cell {number}>'] = A()",
        "print('fine')",
    ),
    *(
        _aimed(
            f"a finalizer that changes the harness as the next cell is made ready: {where}",
            f"{_CHANGES}import sys\n{plant}",
        )
        for where, plant in (
            ("stdout", "sys.stdout.held = A()"),
            ("a finder", "sys.path_importer_cache['x'] = A()"),
            ("what is put back", "driver_module.bind_submit = A()"),
            ("the driver", "driver._reserve, driver.interrupts.stop = A(), A()"),
        )
    ),
    _aimed(
        "a finalizer that changes the harness again and again",
        """
import sys
class A:
    def __del__(self):
        driver_module.bind_submit = lambda *_: {'answer': forged, 'count': 1}
        sys.path_importer_cache['x'] = A()
sys.path_importer_cache['x'] = A()
""",
        destroys=True,
    ),
)

VALUES = (
    *(
        _of_values(
            f"{name} that another class was declared to be",
            f"import collections, collections.abc\ncollections.abc.{name}.register(collections.Counter)",
            "import collections\nSUBMIT(answer=dict(collections.Counter('aab')), count=echo(1) and 1)",
            {"a": 2, "b": 1},
        )
        for name in ("Set", "ValuesView")
    ),
    _of_values(
        "methods that a counter inherits",
        "import collections\ncollections.Counter.keys = lambda self: [forged]\n"
        "collections.Counter.__iter__ = lambda self: iter([forged])\n"
        "collections.Counter.__getitem__ = lambda *_: 1",
        "import collections\nSUBMIT(answer=collections.Counter('aab'), count=1)",
        {"a": 2, "b": 1},
    ),
    _of_values(
        "the text of a fraction",
        "import fractions\nfractions.Fraction.__str__ = lambda _: '9/7'",
        "import fractions\nSUBMIT(answer=fractions.Fraction(1, 2), count=1)",
        Fraction(1, 2),
    ),
    _of_values(
        "the text of a path",
        "import pathlib\npathlib.PurePosixPath.__str__ = pathlib.PurePath.__str__ = lambda _: forged",
        "import pathlib\nSUBMIT(answer=pathlib.PurePosixPath('a'), count=1)",
        PurePosixPath("a"),
    ),
    *(
        _of_values(
            f"the decoder of json: {name}",
            change,
            "import json\nSUBMIT(answer=json.loads('\"real\"'), count=1)",
            "real",
        )
        for name, change in (
            (
                "its attributes",
                "import json\njson._default_decoder.decode = lambda *_, **__: forged",
            ),
            (
                "another one",
                "import json\nclass Other:\n    decode = lambda *_, **__: forged\n"
                "json._default_decoder = Other()",
            ),
            (
                "a module that the harness keeps",
                "import types\nother = types.ModuleType('json')\nother.loads = lambda *_: forged\n"
                "driver._modules['json'] = other",
            ),
        )
    ),
    _aimed(
        "the encoder of json",
        "import json\nencode = json._default_encoder.encode\n"
        "json._default_encoder.encode = lambda value: encode({**value, 'output': forged})",
        destroys=True,
    ),
    _aimed(
        "the attributes of the host object, all anew",
        "host = entry._host\n"
        "host.__dict__ = {**vars(host), '_call_host': lambda *_: '=\"' + forged + '\"'}",
    ),
    program(
        "classes of what Python has of JavaScript",
        _FORGED
        + _ACTS
        + """
from pyodide.ffi import to_js
from sandbox_runtime.guest import entry
reached()
for sample in (to_js(b"abc"), to_js([1]), entry._host._worker, entry._host._call_host):
    for kind in type(sample).__mro__:
        for name in ("to_bytes", "__iter__", "__getattribute__", "__call__", "__getitem__"):
            try:
                setattr(kind, name, act)
            except (TypeError, AttributeError):
                pass
""",
        "print('fine', len(lookup('x' * 2000, 500)))",
        shows="fine 1000500",
        calls=1,
        destroys=True,
    ),
)


def _twice(name: str, change: str) -> Program:
    """Returns a program: one cell blinds the check, the next exploits that, the third is honest."""
    return program(
        name,
        f"{_IMPORTS}{change}\ndriver_module.bind_submit = None{_REACHED}",
        f"{_IMPORTS}driver_module.bind_submit = lambda *_: {{'answer': forged, 'count': 1}}{_REACHED}",
        _HONEST,
        ends=("submitted",),
        submits="echo: real",
        ours=_OURS,
    )


_NOTHING = "entry.Ground(lambda: None, lambda: True, lambda: b'', b'')"

LOOKING = (
    _twice(
        "where the ground is kept",
        f"for cell in entry.harness.__closure__:\n    cell.cell_contents = {_NOTHING}\n"
        f"entry.harness = entry.tools = lambda: {_NOTHING}",
    ),
    _twice(
        "what says where words are",
        "for cell in entry.harness().locate.__closure__:\n    cell.cell_contents = lambda: iter([4096])",
    ),
    _twice(
        "what reads memory",
        "import ctypes\nctypes.c_uint32.value = property(lambda _: 0)\n"
        "ctypes.c_uint32.from_address = lambda _: None\n"
        "entry._memory._table = 8\nentry._memory.__dict__ = {}",
    ),
    _aimed(
        "what is called before a cell",
        "driver._guard.restore = lambda: setattr(driver_module, 'bind_submit', "
        "lambda *_: {'answer': forged, 'count': 1})",
    ),
    _aimed(
        "a cell in a cell",
        "for work in (lambda: driver.run(9, '1'), lambda: driver.prepare(9, '1')):\n"
        "    try:\n        work()\n    except RuntimeError as error:\n        print(error)\n"
        "driver._running = False",
        at_once=True,
    ),
)

PROGRAMS = (*IMPORTS, *CODECS, *LOOP, *FINALIZERS, *VALUES, *LOOKING)
