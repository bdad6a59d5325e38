"""The parts of the harness, restored by one function that depends on nothing else.

Where it lies in memory is tried in the sandbox itself (`tests/security/harness.py`): that is another
interpreter's memory.
"""

from __future__ import annotations

import dis
import types

import pytest

from sandbox_runtime.guest.integrity import foundation as module
from sandbox_runtime.guest.integrity.foundation import Foundation

SOURCE = """
limit = 10

def outer():
    secret = "own"
    def inner(a=1, *, b=2):
        return secret, a, b
    return inner

inner = outer()

class Base:
    def method(self):
        return "base"

class Kind(Base):
    value = "own"

    @property
    def shown(self):
        return self.value

    @classmethod
    def made(cls):
        return cls()
"""


@pytest.fixture
def ours():
    """A module like our own."""
    instance = types.ModuleType("sandbox_runtime.guest.made")
    exec(SOURCE, instance.__dict__)
    return instance


@pytest.fixture
def restore(ours):
    """Puts it back."""
    foundation = Foundation(lambda module: module.startswith("sandbox_runtime"))
    foundation.add_module(ours, whole=True)
    return foundation.putter()


def _rename(function, name):
    function.__code__ = (lambda: name).__code__


CHANGES = [
    lambda m: setattr(m, "inner", None),
    lambda m: delattr(m, "inner"),
    lambda m: setattr(m, "limit", 11),
    lambda m: vars(m).clear(),
    lambda m: setattr(m.inner, "__code__", m.inner.__code__.replace(co_consts=("x",) * 9)),
    lambda m: setattr(m.inner, "__defaults__", (7,)),
    lambda m: setattr(m.inner, "__kwdefaults__", {"b": 7}),
    lambda m: m.inner.__kwdefaults__.update(b=7),
    lambda m: setattr(m.inner.__closure__[0], "cell_contents", "other"),
    lambda m: setattr(m.Kind, "value", "other"),
    lambda m: delattr(m.Kind, "shown"),
    lambda m: setattr(m.Kind, "__getattribute__", lambda self, name: "other"),
    lambda m: setattr(m.Kind, "added", 1),
    lambda m: setattr(m.Kind.made.__func__, "__code__", (lambda cls: 7).__code__),
    lambda m: setattr(m.Kind.shown.fget, "__code__", (lambda self: 7).__code__),
    lambda m: setattr(m.Kind, "__bases__", (type("Other", (m.Base,), {"value": 1}),)),
    lambda m: setattr(m.Base, "method", lambda self: "other"),
    lambda m: setattr(m, "__class__", type("Other", (types.ModuleType,), {"limit": 7})),
]


@pytest.mark.parametrize("change", CHANGES)
def test_each_part_is_put_back(ours, restore, change):
    """Names, functions with all that is in them, classes with all that they inherit, and no additions."""
    held = dict(vars(ours))
    change(ours)

    restore()

    assert type(ours) is types.ModuleType
    assert {name: vars(ours)[name] for name in held} == held
    assert (ours.limit, ours.inner()) == (10, ("own", 1, 2))
    kind = ours.Kind.made()
    assert (kind.shown, kind.method(), ours.Kind.__mro__[1]) == ("own", "base", ours.Base)
    assert not hasattr(kind, "added")


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_seen(ours, change):
    """The state after the restoring is compared: finalizers may have changed it in the meantime."""
    foundation = Foundation(lambda module: module.startswith("sandbox_runtime"))
    foundation.add_module(ours, whole=True)
    restore, is_whole = foundation.putter(), foundation.checker()
    assert is_whole()

    change(ours)
    assert not is_whole()
    restore()

    assert is_whole()


def test_a_change_while_it_is_restored_is_seen(ours):
    """The finalizer of something that is replaced changes what was restored before."""
    foundation = Foundation(lambda module: module.startswith("sandbox_runtime"))
    foundation.add_module(ours, whole=True)
    foundation.add_names(vars(ours), ("limit",), changing=vars(ours))
    restore, is_whole = foundation.putter(), foundation.checker()

    class Left:
        def __del__(self):
            ours.inner = None

    ours.Kind.added = Left()
    restore()

    assert not is_whole()
    restore()
    assert is_whole()


def test_a_key_with_its_own_equality_is_not_asked(ours):
    """Its class could change anything, in the middle of the comparison."""
    foundation = Foundation(lambda module: module.startswith("sandbox_runtime"))
    foundation.add_module(ours, whole=True)
    is_whole = foundation.checker()

    class Odd(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            raise ValueError("compared")

    vars(ours)[Odd("limit")] = vars(ours).pop("limit")

    assert not is_whole()


def test_a_key_of_its_own_mind(ours, restore):
    """It goes, and is not asked."""

    class Odd(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            raise ValueError("compared")

    vars(ours)[Odd("limit")] = vars(ours).pop("limit")

    restore()

    assert ours.limit == 10
    assert {type(name) for name in vars(ours)} == {str}


def test_other_modules_keep_their_data():
    """Of those only functions and classes are put back; what a cell adds to them stays."""
    other = types.ModuleType("other")
    other.function, other.data = print, [1]
    foundation = Foundation(lambda module: module == "other")
    foundation.add_module(other, whole=False)
    restore = foundation.putter()
    other.function, other.data, other.added = None, [2], 3

    restore()

    assert (other.function, other.data, other.added) == (print, [2], 3)


def test_an_object_and_what_changes_in_it():
    """Its class, its fixed attributes and no others; those that change are left alone."""

    class Thing:
        def __init__(self):
            self.fixed, self.changing = 1, 2

    Thing.__module__ = "sandbox_runtime.guest.made"
    thing = Thing()
    foundation = Foundation(lambda module: module.startswith("sandbox_runtime"))
    foundation.add_object(thing, {"changing"})
    restore = foundation.putter()
    thing.fixed, thing.changing, thing.method = 7, 8, print
    thing.__class__ = type("Other", (), {})

    restore()

    assert (type(thing), vars(thing)) == (Thing, {"fixed": 1, "changing": 8})


def test_another_dictionary_of_an_object():
    """The object has its own again, with what it is to have."""

    class Thing:
        def __init__(self):
            self.fixed = 1

    thing = Thing()
    foundation = Foundation(lambda module: False)
    foundation.add_object(thing)
    restore = foundation.putter()
    own = vars(thing)
    thing.__dict__ = {"fixed": 2, "added": 3}

    restore()

    assert vars(thing) is own
    assert own == {"fixed": 1}


def test_a_class_of_others_has_no_additions():
    """Further names in a class that is not ours are not restored: they would hide inherited ones."""

    class Base:
        def method(self):
            return "own"

    class Kind(Base):
        pass

    foundation = Foundation(lambda module: False)
    foundation.add_class(Kind)
    restore = foundation.putter()
    Kind.method = lambda self: "other"

    restore()

    assert Kind().method() == "own"


def test_it_stands_on_no_name(restore):
    """It looks up neither a global nor a builtin: a cell could have put something else there."""
    codes = [restore.__code__]
    for code in codes:
        codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
    lookups = {
        (instruction.opname, instruction.argval)
        for code in codes
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME")
    }

    assert lookups == set()
    assert restore.__defaults__ is None
    assert restore.__globals__ is vars(module)
