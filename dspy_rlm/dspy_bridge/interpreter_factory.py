"""Chooses the interpreter of a run: our sandbox, one from a factory, or the caller's instance.

DSPy has had three ways to pass one, and code written for any of them works: `interpreter=` with an
instance (until 3.2), an instance as the first argument of a call (3.3), and `interpreter_factory=` with a
function, for all calls or for one (since 3.3).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeGuard

import dspy
from dspy import CodeInterpreter

from dspy_rlm.dspy_bridge.foreign_interpreter import declare
from dspy_rlm.dspy_bridge.interpreter import SandboxInterpreter
from dspy_rlm.errors import SignatureError
from dspy_rlm.settings.config import RLMConfig
from dspy_rlm.signatures.inputs import check_positional

InterpreterFactory: TypeAlias = Callable[[], CodeInterpreter]


class Borrowed:
    """Wraps the caller's interpreter as a factory. Runs take turns on it; no run shuts it down.

    Create it with `borrowed` only, which keeps one instance for each interpreter.
    """

    def __init__(self, interpreter: CodeInterpreter) -> None:
        self._interpreter = interpreter
        self._turn = threading.Lock()
        self._tools: dict[str, Callable[..., Any]] = {}
        self._fields: Any = None

    @property
    def execution_instructions(self) -> str:
        """The interpreter's own instructions for LMs."""
        return getattr(self._interpreter, "execution_instructions", "")

    def __call__(self) -> CodeInterpreter:
        """Waits until no other run uses the interpreter, and returns it."""
        self._turn.acquire()
        try:
            self._tools = dict(self._interpreter.tools)
            self._fields = getattr(self._interpreter, "output_fields", None)
        except BaseException:
            self._turn.release()
            raise
        return self._interpreter

    def give_back(self) -> None:
        """Restores its tools and the fields of SUBMIT, and releases it to the next run."""
        try:
            self._interpreter.tools.clear()
            self._interpreter.tools.update(self._tools)
            declare(self._interpreter, self._fields)
        finally:
            self._turn.release()

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("it has a live interpreter. Pass an interpreter_factory instead")


# By the identity of the interpreter, which the value keeps alive.
_borrowed: weakref.WeakValueDictionary[int, Borrowed] = weakref.WeakValueDictionary()
_lock = threading.Lock()  # guards it


def borrowed(interpreter: CodeInterpreter) -> Borrowed:
    """Returns the factory for the caller's interpreter, always the same for the same interpreter."""
    with _lock:
        factory = _borrowed.get(id(interpreter))
        if factory is None:
            factory = _borrowed[id(interpreter)] = Borrowed(interpreter)
        return factory


def is_interpreter(value: object) -> TypeGuard[CodeInterpreter]:
    """Returns True for an interpreter; False for a class of interpreters, which is a factory."""
    return not isinstance(value, type) and isinstance(value, CodeInterpreter)


def checked_factory(value: object, older: object = None) -> InterpreterFactory | None:
    """Returns the factory for the arguments `interpreter_factory` and, in older code, `interpreter`.

    Raises:
        SignatureError: It is not a factory, or both were passed.
    """
    if value is not None and older is not None:
        raise SignatureError("Pass interpreter_factory or interpreter, not both.")
    chosen = older if value is None else value
    if is_interpreter(chosen):
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
    """Returns the factory of DSPy's settings, from `dspy.configure` or `dspy.context`.

    Raises:
        SignatureError: It is not a factory.
    """
    return checked_factory(dspy.settings.get("interpreter_factory"))


def factory_of(config: RLMConfig) -> InterpreterFactory | None:
    """Returns the configured factory, the module's or DSPy's; None for our sandbox."""
    return config.interpreter_factory or configured_factory()


def factory_of_call(
    config: RLMConfig, positional: Sequence[Any], factory: InterpreterFactory | None
) -> InterpreterFactory | None:
    """Returns the factory for one call, from its arguments or else the configured one.

    Raises:
        InputError: The positional arguments are inputs.
        SignatureError: An argument is not a factory, or both were passed.
    """
    own = positional if positional != (None,) else ()
    check_positional(config.signature, own, is_interpreter=is_interpreter(own and own[0]))
    return checked_factory(factory, *own) or factory_of(config)


def is_ours(factory: InterpreterFactory | None) -> bool:
    """Returns True if cells run in our own sandbox, with all of its features."""
    return factory is None or factory is SandboxInterpreter


def ours_if_lent(factory: InterpreterFactory | None) -> InterpreterFactory | None:
    """Returns the factory for a nested run. An interpreter that the caller lent is busy with the outer cell."""
    return SandboxInterpreter if isinstance(factory, Borrowed) else factory
