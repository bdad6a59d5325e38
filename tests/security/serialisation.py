"""Programs that submit, or pass to tools, values that are hard to serialise."""

from __future__ import annotations

from .program import program

_EITHER = ("submitted", "failed")

PROGRAMS = (
    program(
        "NaN and infinity",
        "reached()\nSUBMIT(answer=[float('nan'), float('inf'), -float('inf')], count=1)",
        ends=_EITHER,
    ),
    program(
        "a list that holds itself",
        "a = []\na.append(a)\nreached()\nSUBMIT(answer=a, count=1)",
        ends=("failed",),
    ),
    program(
        "a dict that holds itself",
        "a = {}\na['a'] = [a]\nreached()\nSUBMIT(answer=a, count=1)",
        ends=("failed",),
    ),
    program(
        "nested 100,000 deep",
        "a = []\nfor _ in range(10**5):\n    a = [a]\nreached()\nSUBMIT(answer=a, count=1)",
        ends=("failed",),
    ),
    program(
        "nested 100,000 deep in dicts and tuples",
        "a = ()\nfor _ in range(10**5):\n    a = ({'a': a},)\nreached()\nSUBMIT(answer=a, count=1)",
        ends=("failed",),
    ),
    program(
        "an integer of 100,000 digits",
        "reached()\nSUBMIT(answer=10**100_000, count=1)",
        ends=_EITHER,
    ),
    program(
        "an integer beyond doubles",
        "reached()\nSUBMIT(answer=2**70 + 1, count=1)",
        ends=("submitted",),
        submits=2**70 + 1,
    ),
    program("bytes", "reached()\nSUBMIT(answer=bytes(range(256)), count=1)", ends=_EITHER),
    program(
        "lone surrogates", "reached()\nSUBMIT(answer='a\\ud800b\\udfff', count=1)", ends=_EITHER
    ),
    program(
        "the null character",
        "reached()\nSUBMIT(answer='a\\x00b\\r\\n\\r\\n', count=1)",
        ends=("submitted",),
        submits="a\x00b\r\n\r\n",
    ),
    program(
        "a dict that looks like a tag",
        "reached()\nSUBMIT(answer={'$': 'bytes', 'at': 0}, count=1)",
        ends=("submitted",),
        submits={"$": "bytes", "at": 0},
    ),
    program(
        "dicts that look like every tag",
        """
tags = [{"$": kind, "of": content, "as": "builtins.eval", "at": 0}
        for kind in ("handle", "record", "named", "enum", "dict", "str", "bytes", "set", "Path", "datetime", "table", "Decimal", "eval", "__class__")
        for content in (0, [], {}, "x", [["a", 1]])]
reached()
SUBMIT(answer=tags, count=1)
""",
        ends=("submitted",),
    ),
    program(
        "keys that look like prototypes",
        "reached()\nSUBMIT(answer={'__proto__': {'polluted': 1}, 'constructor': 1, 'toJSON': 2}, count=1)",
        ends=("submitted",),
        submits={"__proto__": {"polluted": 1}, "constructor": 1, "toJSON": 2},
    ),
    program(
        "keys that are no texts",
        "reached()\nSUBMIT(answer={1: 'a', None: 'b', (1, 2): 'c', 1.5: 'd'}, count=1)",
        ends=_EITHER,
    ),
    program(
        "keys that are equal once outside",
        "reached()\nSUBMIT(answer={1: 'a', '1': 'b', 'true': 1, True: 2}, count=1)",
        ends=_EITHER,
    ),
    program(
        "a text of a class of its own",
        """
class Text(str):
    def __str__(self): return "other"
    def encode(self, *a): return b"other"
    def __iter__(self): return iter("other")
    def __len__(self): return 3
reached()
SUBMIT(answer=Text("honest"), count=1)
""",
        ends=("submitted",),
        submits="honest",
    ),
    program(
        "a number of a class of its own",
        """
class Number(int):
    def __int__(self): return 666
    def __repr__(self): return "other"
    __str__ = __index__ = __repr__
    def bit_length(self): raise SystemExit
class Float(float):
    def __repr__(self): return "other"
    __float__ = __str__ = __repr__
reached()
SUBMIT(answer=[Number(5), Float(1.5)], count=1)
""",
        ends=_EITHER,
    ),
    program(
        "a dict of a class of its own",
        """
class Dict(dict):
    def items(self): raise SystemExit
    def __iter__(self): raise SystemExit
    def keys(self): return ["other"]
    def __getitem__(self, key): return "other"
reached()
SUBMIT(answer=Dict(a=1), count=1)
""",
        ends=_EITHER,
    ),
    program(
        "a list that changes while it is read",
        """
class List(list):
    def __iter__(self):
        while True:
            yield "x"
reached()
SUBMIT(answer=[List([1])], count=1)
""",
        ends=_EITHER,
        destroys=True,
    ),
    program(
        "a set whose items are hostile",
        """
import collections.abc
class Odd(collections.abc.Set):
    def __iter__(self): raise ZeroDivisionError
    def __len__(self): return 5
    def __contains__(self, item): return True
reached()
SUBMIT(answer=Odd(), count=1)
""",
        ends=("failed",),
    ),
    program(
        "a generator, a function, a module, a class",
        """
import json
for value in ((n for n in range(3)), print, json, int, lambda: 1, open, NotImplemented, ...):
    try:
        reached()
        SUBMIT(answer=value, count=1)
    except Exception as error:
        print(type(error).__name__)
""",
        ends=("submitted", "completed", "failed"),
    ),
    program(
        "a dataclass with hostile fields",
        """
import dataclasses
@dataclasses.dataclass
class A:
    a: int = 1
    def __getattribute__(self, name):
        if name == "a":
            raise ZeroDivisionError
        return object.__getattribute__(self, name)
reached()
SUBMIT(answer=A(), count=1)
""",
        ends=("failed",),
    ),
    program(
        "an enum with a hostile value",
        """
import enum
class E(enum.Enum):
    A = "a"
    @property
    def value(self):
        return self
reached()
SUBMIT(answer=E.A, count=1)
""",
        ends=_EITHER,
    ),
    program(
        "a path, a date, a decimal of odd content",
        """
import datetime, decimal, fractions, pathlib, uuid
reached()
SUBMIT(answer=[pathlib.PurePosixPath("../" * 50 + "etc/passwd"), datetime.date.max, datetime.timedelta.max,
               decimal.Decimal("1e999999"), decimal.Decimal("sNaN"), fractions.Fraction(1, 3), uuid.UUID(int=0), complex("nan+infj")], count=1)
""",
        ends=_EITHER,
    ),
    program(
        "a time zone with the name of a file",
        """
import datetime
class Zone(datetime.tzinfo):
    key = "../../../..@SECRET@"
    def utcoffset(self, when): return datetime.timedelta(0)
    def dst(self, when): return None
reached()
SUBMIT(answer=datetime.datetime(2020, 1, 1, tzinfo=Zone()), count=1)
""",
        ends=_EITHER,
    ),
    program(
        "a time zone whose offset is hostile",
        """
import datetime
class Zone(datetime.tzinfo):
    def utcoffset(self, when): raise SystemExit
    dst = tzname = utcoffset
reached()
SUBMIT(answer=[datetime.datetime.now().replace(tzinfo=Zone())], count=1)
""",
        ends=_EITHER,
    ),
    program(
        "a pickle as bytes",
        """
import pickle
class Bomb:
    def __reduce__(self):
        import os
        return (os.system, ("touch @FOLDER@/made",))
reached()
SUBMIT(answer=[pickle.dumps(Bomb()), pickle.dumps(Bomb(), 0).decode()], count=1)
""",
        ends=_EITHER,
    ),
    program(
        "a handle made by hand",
        """
from sandbox_runtime.guest.values.handles import Handle
reached()
SUBMIT(answer=Handle(12345, "Secret", "x"), count=1)
""",
        ends=("failed",),
        ours="our handles",
    ),
    program(
        "a record of a class of the host",
        """
from sandbox_runtime.guest.values.records import record_class
Forged = record_class("builtins.eval", "eval", (), {"source": "str"})
reached()
SUBMIT(answer=Forged(source="1"), count=1)
""",
        ends=("failed", "submitted"),
        ours="our records",
    ),
    program(
        "references to raw bytes that are not there",
        """
import sys
codec = sys.modules["sandbox_runtime.guest.values.codec"]
driver_module = sys.modules["sandbox_runtime.guest.driver"]
honest = driver_module.send
driver_module.send = lambda *_: ('{"answer": {"$": "bytes", "at": 99}, "count": 1}', [])
try:
    reached()
    SUBMIT(answer=1, count=1)
finally:
    driver_module.send = honest
""",
        ends=("failed",),
        ours="our encoding",
    ),
    program(
        "a submitted value that is no dict",
        """
import sys
driver_module = sys.modules["sandbox_runtime.guest.driver"]
honest = driver_module.send
driver_module.send = lambda *_: ("[" * 100_000, [])
try:
    reached()
    SUBMIT(answer=1, count=1)
finally:
    driver_module.send = honest
""",
        ends=("failed",),
        ours="our encoding",
    ),
    program(
        "a table with hostile columns",
        """
class Frame:
    index = range(1)
    columns = property(lambda self: 1 / 0)
    def __dataframe__(self, *a, **k): raise SystemExit
    def to_dict(self, *a, **k): return {"other": 1}
    def tolist(self): raise SystemExit
    def __array__(self): raise SystemExit
Frame.__module__ = "pandas.core.frame"
Frame.__name__ = Frame.__qualname__ = "DataFrame"
reached()
SUBMIT(answer=Frame(), count=1)
""",
        ends=("failed",),
    ),
    program(
        "a submission inside of a submission",
        """
class Text(dict):
    def __iter__(self):
        SUBMIT(answer="inner", count=2)
    keys = items = values = __iter__
reached()
SUBMIT(answer=Text(a=1), count=1)
""",
        ends=_EITHER,
    ),
    program(
        "a submission that is caught",
        "try:\n    reached()\n    SUBMIT(answer='a', count=1)\nexcept BaseException:\n    pass\nprint('goes on')",
        ends=("completed", "submitted", "failed"),
    ),
    program(
        "fields that are missing, unknown, given twice",
        """
for ask in (lambda: SUBMIT(), lambda: SUBMIT(1), lambda: SUBMIT(1, 2, 3), lambda: SUBMIT(answer=1), lambda: SUBMIT(other=1), lambda: SUBMIT(1, answer=2)):
    try:
        reached()
        ask()
    except Exception as error:
        print(type(error).__name__)
""",
    ),
    program(
        "many small values",
        "reached()\nSUBMIT(answer=list(range(200_000)), count=1)",
        ends=("submitted",),
    ),
    program(
        "a text of 50 MB", "reached()\nSUBMIT(answer='\\u00e9' * 25_000_000, count=1)", ends=_EITHER
    ),
    program(
        "numbers that collide, in a set of our own",
        """
from collections.abc import Set
class S(Set):
    def __contains__(self, item): return True
    def __len__(self): return 30_000
    def __iter__(self): return (k * (2**61 - 1) for k in range(30_000))
reached()
try:
    echo(S())
    print("ESC" + "APED")
except Exception as error:
    print(type(error).__name__)
""",
        calls=0,
    ),
    program(
        "keys that collide, as a dict that was not one",
        """
class D(dict):
    def items(self): return [(k * (2**61 - 1), 0) for k in range(30_000)]
reached()
try:
    SUBMIT(answer=[{(0, k * (2**61 - 1)): 0 for k in range(3)}, D({1: 2})], count=1)
except Exception as error:
    print(type(error).__name__)
""",
        ends=("completed", "failed", "submitted"),
    ),
    program(
        "a decimal whose exponent is huge",
        """
from decimal import Decimal
for text in ("1e999999999", "1e-999999999", "-9.9e6000000"):
    reached()
    try:
        echo(Decimal(text))
        print("ESC" + "APED")
    except Exception as error:
        print(type(error).__name__)
""",
        calls=0,
    ),
    program(
        "a handle of a number that was never given",
        """
from sandbox_runtime.guest.values.handles import Handle
reached()
for number in [*range(200), 2**52, 2**53 - 1, -1]:
    try:
        echo(Handle(number, "x", ""))
        print("ESC" + "APED")
    except Exception:
        pass
""",
        calls=0,
    ),
)
