"""Programs whose code runs while the next cell is prepared, and hides that it did.

What is left of a cell is dropped between two cells, and its finalizers can change anything. What they change in the harness is
compared; but a function that they have replaced may put itself back as soon as it has run once, in the middle of the
preparation. The later cell has to get the real thing.
"""

from __future__ import annotations

from .harness import _IMPORTS, _OURS, _REACHED
from .program import program

# Replaces functions that the preparation calls by ones that put themselves back, and then forge a submission.
_PLANT = """
import sys
replaced = ("is_prepared", "prepare", "_prepare", "_keep", "begin")

def plant(value=None):
    for kind in type(driver).__mro__:
        for name in replaced:
            if name in vars(kind):
                replace(kind, name, vars(kind)[name])
    return value

def replace(kind, name, real):
    def forging(self, *args, **named):
        setattr(kind, name, real)
        result = real(self, *args, **named)
        self._submitted = (as_json, [])
        return result
    setattr(kind, name, forging)

class Planting:
    def __init__(self, times=1):
        self.times = times

    def __del__(self):
        plant()
        if self.times > 1:
            sys.stdin = driver._lines = driver._left = Planting(self.times - 1)

    __call__ = __bool__ = __len__ = __iter__ = lambda self, *_, **__: plant(False)
"""

# Things of a cell that are dropped, or asked, between two cells; some only in the second preparation.
_LEFT = {
    "the input": "sys.stdin = Planting()",
    "the input, again and again": "sys.stdin = Planting(3)",
    "the input, for what is checked alone,": "replaced = ('is_prepared',)\nsys.stdin = Planting()",
    "the output": "sys.stderr = Planting()",
    "an attribute of the driver": "setattr(driver, 'evil', Planting(2))",
    "the handler of a signal": "import signal\nsignal.signal(signal.SIGTERM, Planting())",
    "the handler of interrupts": "import signal\nsignal.signal(signal.SIGINT, Planting())",
    "the handler of an error": "import codecs\ncodecs.register_error('ignore', Planting())",
    "a callback of the collector": "import gc\ngc.callbacks.append(Planting())",
    "a codec search": "import codecs\ncodecs.register(Planting())",
    "a module's entry": "sys.modules['json'] = Planting()",
    "the modules": "sys.modules = Planting()",
    "a finder": "sys.meta_path.append(Planting())",
    "an entry of the path": "sys.path.append(Planting())",
    "the hooks of generators": "sys.set_asyncgen_hooks(Planting(), Planting())",
    "the mark of the cell": "callback_ownership._mark.set(Planting())",
    "the queue of threads": "class Queue(Planting):\n    clear = lambda self: plant()\n"
    "driver.calls.stacks._queued = Queue()",
    "the flag of stacks": "entry._suspended._paused = Planting()",
    "a call in flight": "driver.calls._in_flight[Planting()] = driver.calls._slots = Planting()",
    "a variable": "echo = __builtins__ = SUBMIT = Planting()",
    "the exception of SUBMIT": "error = ValueError()\nerror.left = Planting()\n"
    "driver._signal.__context__ = error\ndel error",
    "a reference cycle": "cycle = Planting()\ncycle.itself = cycle\ndel cycle",
    "the class of sys": "import types\nclass Other(types.ModuleType):\n"
    "    def __setattr__(self, name, value):\n        plant()\n        super().__setattr__(name, value)\n"
    "sys.__class__ = Other",
    "a key with its own equality": "import codecs, gc\nclass Odd(str):\n    __hash__ = str.__hash__\n"
    "    def __eq__(self, other):\n        plant()\n        return str.__eq__(self, other)\n"
    "for names in (vars(sys), sys.modules, globals()):\n    names[Odd('path')] = names.pop('path', None)\n"
    "[known] = [names for names in gc.get_referrers(codecs.lookup_error('strict'))"
    " if type(names) is dict and 'strict' in names]\nknown[Odd('ignore')] = known.pop('ignore')",
}

# Changes what the harness expects of itself, from the finalizer of something that is dropped while it is restored.
_WHILE_RESTORED = """
class Left:
    def __init__(self, times):
        self.times = times

    def __del__(self):
        if self.times > 1:
            setattr(driver, "evil", Left(self.times - 1))
        driver_module.bind_submit = lambda *_: {"answer": forged, "count": 1}
"""

_HONEST = "SUBMIT(answer=echo('real'), count=1)"

PROGRAMS = (
    *(
        program(
            f"{place} replaces the preparation, once",
            f"{_IMPORTS}{_PLANT}{_REACHED}{left}",
            "import json" if "finder" in place else "print('harmless')",
            "print(echo('honest'))",
            shows="echo: honest",
            ours=_OURS,
            calls=1,
        )
        for place, left in _LEFT.items()
    ),
    *(
        program(
            f"a change while the harness is restored, {number} times",
            f"{_IMPORTS}{_WHILE_RESTORED}{_REACHED}setattr(driver, 'evil', Left({number}))",
            _HONEST,
            ends=("submitted",),
            submits="echo: real",
            ours=_OURS,
            calls=1,
        )
        for number in (1, 2, 3, 4)
    ),
    program(
        "what numbers the threads",
        f"{_IMPORTS}{_REACHED}"
        "class Numbers:\n    def __next__(self):\n"
        '        driver_module.bind_submit = lambda *_: {"answer": forged, "count": 1}\n        return 99\n'
        "class Left:\n    def __del__(self):\n        driver.calls.stacks._idents = Numbers()\n"
        "setattr(driver, 'evil', Left())\ndriver.calls.stacks._idents = Numbers()",
        f"import threading\nthread = threading.Thread(target=len, args=('',))\nthread.start()\nthread.join()\n{_HONEST}",
        ends=("submitted",),
        submits="echo: real",
        ours=_OURS,
        calls=1,
    ),
)
