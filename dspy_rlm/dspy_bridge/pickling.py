"""Copies and pickles modules that hold live objects: LMs, pools, tools.

A copy shares live objects. A pickle leaves out pools, saves LMs without their keys, and includes closures
and classes that were created at run time, so that any pickler can write it.
"""

from __future__ import annotations

import copy
import inspect
import io
import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any

import cloudpickle
import dspy

from dspy_rlm.budget.budget import Budget
from dspy_rlm.lms.saved_state import lm_state
from dspy_rlm.lms.secrets import secrets_of_lm
from sandbox_runtime import Limits, PackageSet, Pool
from sandbox_runtime.helpers import environment_secrets, redact_secrets

logger = logging.getLogger(__name__)

# Types of values that contain no LM, no tool and no secret.
_PLAIN = (str, bytes, int, float, bool, type(None), Limits, PackageSet)

# The modules that are being packed. A tool may refer back to its module.
_packing: ContextVar[frozenset[int]] = ContextVar("_packing", default=frozenset())


def module_state(module: Any, json_mode: bool = True) -> dict[str, Any]:
    """Returns the state of a module for files, with the LMs of all its predictors without secrets."""
    state: dict[str, Any] = dspy.Module.dump_state(module, json_mode=json_mode)
    for name, predictor in module.named_parameters():
        lm = getattr(predictor, "lm", None)
        if lm is not None and "lm" in state[name]:
            state[name] = {**state[name], "lm": lm_state(lm)}
    return state


# ---- Copies ----


def copied(module: Any) -> Any:
    """Returns a shallow copy with a history of its own."""
    return _made(module, dict(dspy.Module.__getstate__(module)))


def deepcopied(module: Any, memo: dict[int, Any]) -> Any:
    """Returns a deep copy that shares the attributes named in the class's `_LIVE`."""
    state = dspy.Module.__getstate__(module)
    new = memo[id(module)] = _made(module, {})
    for name, value in state.items():
        live = name in module._LIVE
        new.__dict__[name] = _live(value, memo) if live else copy.deepcopy(value, memo)
    return new


def _live(value: Any, memo: Mapping[int, Any]) -> Any:
    """Returns the value itself, except that a tool that is part of the copied program is copied too."""
    if isinstance(value, dict):
        return {name: _live(part, memo) for name, part in value.items()}
    if not isinstance(value, dspy.Tool):
        return value
    owner = getattr(value.func, "__self__", value.func)
    if id(owner) not in memo:
        return value
    new = memo[id(owner)]
    func = MethodType(value.func.__func__, new) if inspect.ismethod(value.func) else new
    return value.model_copy(update={"func": func})


def _made(module: Any, state: dict[str, Any]) -> Any:
    new = object.__new__(type(module))
    dspy.Module.__setstate__(new, state)
    return new


# ---- Pickles ----


class Packed:
    """A value pickled by cloudpickle, with LMs without keys and without pools.

    The module that the value belongs to, and programs that contain that module, are not in the bytes: the
    outer pickler memoizes them and writes them once.
    """

    def __init__(self, data: bytes, outside: list[Any]) -> None:
        self.data = data
        self.outside = outside

    def unpack(self) -> Any:
        """Unpickles and returns the value."""
        return _Unpickler(io.BytesIO(self.data), self.outside).load()


def packed_state(module: Any) -> dict[str, Any]:
    """Returns the module's state for any pickler. Values that are not plain data are packed as bytes.

    Raises:
        pickle.PicklingError: Something cannot be saved; the message says what.
    """
    state = dict(dspy.Module.__getstate__(module))
    unsafe = [n for n, value in state.items() if n in module._PACKED or not _is_plain(value)]
    with _being_packed(module):
        written = {name: _packed(name, state[name], ()) for name in unsafe}
        lms = [lm for _, found in written.values() for lm in found]
        lms += [getattr(predictor, "lm", None) for _, predictor in module.named_parameters()]
        known = [
            *environment_secrets(),
            *(secret for lm in lms if lm for secret in secrets_of_lm(lm)),
        ]
        for name, (packed, _) in written.items():
            held = [secret for secret in known if secret.encode("utf-8", "replace") in packed.data]
            if held:
                logger.warning(
                    "The %s of the module hold a secret, which is saved as [secret]. Let them read it "
                    "from the environment when they need it.",
                    name.strip("_"),
                )
            state[name] = _packed(name, state[name], held)[0] if held else packed
    return state


def unpack_state(module: Any, state: dict[str, Any]) -> None:
    """Sets the state that `packed_state` returned."""
    values = {n: v.unpack() if isinstance(v, Packed) else v for n, v in state.items()}
    dspy.Module.__setstate__(module, values)


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Returns True if any pickler can write the value without an LM's secret. Our modules protect their own."""
    if isinstance(value, (*_PLAIN, Budget)):
        return True
    if isinstance(value, dspy.Module):
        return getattr(type(value), "__getstate__", None) == packed_state
    if isinstance(value, (Mapping, dspy.Example)):
        value = [*value.keys(), *value.values()]
    return (
        depth < 10
        and isinstance(value, (list, tuple, set))
        and all(_is_plain(part, depth + 1) for part in value)
    )


def _packed(name: str, value: Any, hidden: Sequence[str]) -> tuple[Packed, list[Any]]:
    """Returns the value as bytes, with secrets removed from its texts, and the LMs in it."""
    file = io.BytesIO()
    pickler = _Pickler(file, hidden)
    try:
        pickler.dump(value)
    except Exception as error:
        raise pickle.PicklingError(
            f"Cannot save {name.strip('_')} of the module: {error}. Save only its state, with "
            "save('program.json'), and load that into a newly created module."
        ) from error
    return Packed(file.getvalue(), pickler.outside), pickler.lms


@contextmanager
def _being_packed(module: Any) -> Iterator[None]:
    token = _packing.set(_packing.get() | {id(module)})
    try:
        yield
    finally:
        _packing.reset(token)


def _leads_back(value: dspy.Module) -> bool:
    """Returns True if it is a module that is being packed, or contains one."""
    packing = _packing.get()
    return id(value) in packing or any(id(part) in packing for _, part in value.named_sub_modules())


class _Pickler(cloudpickle.Pickler):
    """Writes LMs without keys and pools as None. References to the modules being packed stay outside."""

    def __init__(self, file: io.BytesIO, hidden: Sequence[str] = ()) -> None:
        super().__init__(file)
        self.outside: list[Any] = []
        self.lms: list[Any] = []
        self._hidden = hidden

    def persistent_id(self, value: Any) -> int | None:
        """Returns the index of an object that stays outside. Called by pickle."""
        if self._hidden and isinstance(value, (str, bytes)):
            return self._cleaned(value)
        if not isinstance(value, dspy.Module) or not _leads_back(value):
            return None
        self.outside.append(value)
        return len(self.outside) - 1

    def _cleaned(self, value: str | bytes) -> int | None:
        """Returns the index of the text without its secrets; None if it has none."""
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        if not any(secret in text for secret in self._hidden):
            return None
        clean = redact_secrets(text, self._hidden)
        self.outside.append(clean if isinstance(value, str) else clean.encode())
        return len(self.outside) - 1

    def reducer_override(self, value: Any) -> Any:
        """Returns how to write an object. Called by pickle."""
        if isinstance(value, dspy.BaseLM):
            self.lms.append(value)
            return _lm_again, (lm_state(value),)
        if isinstance(value, Pool):
            return _no_pool, ()
        return super().reducer_override(value)


class _Unpickler(pickle.Unpickler):
    """Reads the bytes of `_Pickler`, inside a pickle that is being loaded."""

    def __init__(self, file: io.BytesIO, outside: list[Any]) -> None:
        super().__init__(file)
        self._outside = outside

    def persistent_load(self, at: Any) -> Any:
        """Returns the object that stayed outside. Called by pickle."""
        return self._outside[at]


def _lm_again(state: dict[str, Any]) -> Any:
    # Loading a custom LM class is no more dangerous than unpickling the data around it.
    return dspy.BaseLM.load_state(state, allow_custom_lm_class=True)


def _no_pool() -> None:
    """Replaces a pool that was saved with the pool of the process that loads."""
