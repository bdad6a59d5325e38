"""The foundation of the driver, restored after a cell has changed it."""

from __future__ import annotations

import types

import pytest

from sandbox_runtime.guest.integrity.namespace_guard import (
    NamespaceGuard,
    has_odd_keys,
    merge_into,
    restore,
)


def test_what_was_there_is_as_it_was():
    """Names that were replaced or deleted; what was added stays."""
    module = types.ModuleType("module")
    module.one, module.two = 1, 2
    guard = NamespaceGuard((module,), ())

    module.one = "planted"
    del module.two
    module.three = 3
    guard.restore()

    assert (module.one, module.two, module.three) == (1, 2, 3)


def test_classes_too():
    """Their methods are what is called."""

    class Kind:
        def method(self):
            return "own"

    guard = NamespaceGuard((), (Kind,))

    Kind.method = lambda self: "planted"
    guard.restore()

    assert Kind().method() == "own"


def test_a_value_that_says_it_is_equal():
    """Only the thing itself counts."""

    class Equal:
        def __eq__(self, other):
            return True

        __hash__ = None

    module = types.ModuleType("module")
    module.one = 1
    guard = NamespaceGuard((module,), ())

    module.one = Equal()
    guard.restore()

    assert module.one == 1
    assert type(module.one) is int


class Odd(str):
    """A key that is found as another, and raises when it is compared."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        raise ValueError("compared")


def test_a_name_that_was_renamed():
    """The same values in the same order are not enough."""
    module = types.ModuleType("module")
    module.one = 1
    guard = NamespaceGuard((module,), ())

    module.other = vars(module).pop("one")
    guard.restore()

    assert (module.one, module.other) == (1, 1)


def test_sealed_names():
    """In a sealed namespace, names that were added are removed."""
    now = {"one": 1, "two": 2}
    guard = NamespaceGuard((), (), ((now, {"one": "own", "two": 2}),))

    guard.restore()
    assert now == {"one": "own", "two": 2}

    now["three"] = now.pop("two")
    guard.restore()
    assert list(now.items()) == [("one", "own"), ("two", 2)]


@pytest.mark.parametrize("sealed", [False, True])
def test_a_key_of_its_own_mind(sealed):
    """It goes, and is not asked."""
    module = types.ModuleType("module")
    module.one, module.two = 1, 2
    names = vars(module)
    guard = (
        NamespaceGuard((), (), ((names, dict(names)),)) if sealed else NamespaceGuard((module,), ())
    )

    names[Odd("one")] = names.pop("one")
    guard.restore()

    assert (module.one, module.two) == (1, 2)
    assert not has_odd_keys(names)


def test_what_else_there_is_stays():
    """Also where an odd key made the short way impossible."""
    now = {"kept": 1, Odd("own"): 2}

    assert has_odd_keys(now)
    merge_into(now, {"own": 3})

    assert now == {"own": 3, "kept": 1}
    restore(now, {})
    assert now == {"own": 3, "kept": 1}
