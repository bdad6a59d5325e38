"""Which interpreter the cells of a run go to: our sandbox, one that a factory makes, or one of the caller's.

DSPy has had three ways to say it, and code written for each goes on working: `interpreter=` with an
instance (until 3.2), an instance as the first argument of a call (3.3), `interpreter_factory=` with a
function, for all calls or for one (since 3.3).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import dspy
from dspy import CodeInterpreter

from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.dspy_bridge.foreign_interpreter import declare
from dspy_rlm.dspy_bridge.interpreter import SandboxInterpreter
from dspy_rlm.errors import InputError, SignatureError
from dspy_rlm.run_tree import OuterRun, current_outer_run
from sandbox_runtime.helpers import Slot

InterpreterFactory: TypeAlias = Callable[[], CodeInterpreter]


class Borrowed:
    """An interpreter of the caller's, where a factory is expected. Runs take turns on it; none ends it.

    To be made by `borrowed` only: there is one for each interpreter.
    """

    def __init__(self, interpreter: CodeInterpreter) -> None:
        self._interpreter = interpreter
        self._turn = threading.Lock()
        self._tools: dict[str, Callable[..., Any]] = {}
        self._fields: Any = None

    @property
    def execution_instructions(self) -> str:
        """What the interpreter says of itself to LMs."""
        return getattr(self._interpreter, "execution_instructions", "")

    def __call__(self) -> CodeInterpreter:
        """Waits until no other run has it."""
        self._turn.acquire()
        try:
            self._tools = dict(self._interpreter.tools)
            self._fields = getattr(self._interpreter, "output_fields", None)
        except BaseException:
            self._turn.release()
            raise
        return self._interpreter

    def give_back(self) -> None:
        """Leaves it with the tools and the fields of SUBMIT that it had, to the next run."""
        try:
            self._interpreter.tools.clear()
            self._interpreter.tools.update(self._tools)
            declare(self._interpreter, self._fields)
        finally:
            self._turn.release()

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("it has a living interpreter. Give an interpreter_factory instead")


# By the identity of the interpreter, which lives as long as what is here for it.
_borrowed: weakref.WeakValueDictionary[int, Borrowed] = weakref.WeakValueDictionary()
_lock = threading.Lock()  # guards it


def borrowed(interpreter: CodeInterpreter) -> Borrowed:
    """The factory for an interpreter of the caller's: the same one, however often it is given."""
    with _lock:
        found = _borrowed.get(id(interpreter))
        if found is None:
            found = _borrowed[id(interpreter)] = Borrowed(interpreter)
        return found


def nested_in(slot: Slot | None, work: CancelScope, factory: InterpreterFactory | None) -> OuterRun:
    """What the runs inside of one with these are told.

    Raises:
        InputError: The run is part of one that has the same interpreter, so it would wait for ever.
    """
    outer = current_outer_run()
    lent = (factory,) if isinstance(factory, Borrowed) else ()
    if lent and factory in outer.lent:
        raise InputError(
            "This run is part of another that has the same interpreter, and one interpreter cannot "
            "do both. Give the inner one an interpreter_factory, or none for our sandbox."
        )
    return OuterRun(slot or outer.slot, work, (*outer.lent, *lent))


def checked_factory(given: object, older: object = None) -> InterpreterFactory | None:
    """What was given as `interpreter_factory`, or as the `interpreter` of older code, as a factory.

    Raises:
        SignatureError: It is neither, or both were given.
    """
    if given is not None and older is not None:
        raise SignatureError("Give interpreter_factory or interpreter, not both.")
    chosen = older if given is None else given
    if not isinstance(chosen, type) and isinstance(chosen, CodeInterpreter):
        return borrowed(chosen)
    if older is not None:
        raise SignatureError(
            f"interpreter must be a CodeInterpreter (start, execute, shutdown, tools), not {older!r}."
        )
    if chosen is not None and not callable(chosen):
        raise SignatureError(
            "interpreter_factory must be a function without arguments that makes a CodeInterpreter, "
            f"or one itself, not {chosen!r}."
        )
    return chosen


def configured_factory() -> InterpreterFactory | None:
    """What `dspy.configure` or `dspy.context` says.

    Raises:
        SignatureError: It is no factory.
    """
    return checked_factory(dspy.settings.get("interpreter_factory"))


def is_ours(factory: InterpreterFactory | None) -> bool:
    """Whether cells run in our sandbox itself, with all that it has."""
    return factory is None or factory is SandboxInterpreter


def ours_if_lent(factory: InterpreterFactory | None) -> InterpreterFactory | None:
    """What a run below uses: one that the caller lent is at work on the cell that asks for the run."""
    return SandboxInterpreter if isinstance(factory, Borrowed) else factory
