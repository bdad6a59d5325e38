"""What the driver stands on, put back after a cell has changed it."""

from __future__ import annotations

import types

from sandbox_runtime.deno.footing import Footing


def test_what_was_there_is_as_it_was():
    """Names that were replaced or deleted; what was added stays."""
    module = types.ModuleType("module")
    module.one, module.two = 1, 2
    footing = Footing((module,), ())

    module.one = "planted"
    del module.two
    module.three = 3
    footing.restore()

    assert (module.one, module.two, module.three) == (1, 2, 3)


def test_classes_too():
    """Their methods are what is called."""

    class Kind:
        def method(self):
            return "own"

    footing = Footing((), (Kind,))

    Kind.method = lambda self: "planted"
    footing.restore()

    assert Kind().method() == "own"


def test_a_value_that_says_it_is_equal():
    """Only the thing itself counts."""

    class Equal:
        def __eq__(self, other):
            return True

        __hash__ = None

    module = types.ModuleType("module")
    module.one = 1
    footing = Footing((module,), ())

    module.one = Equal()
    footing.restore()

    assert module.one == 1
    assert type(module.one) is int
