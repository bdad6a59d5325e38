"""Copies and pickles of modules that hold live objects: LMs, pools, tools.

A copy shares live objects. A pickle leaves pools out, saves LMs without their keys, and includes closures and
classes that were created at run time, so that any pickler can write it.
"""

from __future__ import annotations

import copy
import dataclasses
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
from dspy_rlm.dspy_bridge.arriving_lms import warn_of_missing_key
from dspy_rlm.dspy_bridge.saved_lms import lm_state
from dspy_rlm.lms.secrets import secrets_of_lm
from dspy_rlm.settings.config import RLMConfig
from sandbox_runtime import Limits, PackageSet, Pool
from sandbox_runtime.helpers import environment_secrets, forms_of, redact_secrets

logger = logging.getLogger(__name__)

# Types of values without an LM, a tool or a secret.
_PLAIN = (str, bytes, int, float, bool, type(None), Limits, PackageSet)

# In a packed state, before the name of a setting of the config.
_OF_CONFIG = "_config."

# The modules being packed. A tool may refer to its own module.
_packing: ContextVar[frozenset[int]] = ContextVar("_packing", default=frozenset())


def module_state(module: Any, json_mode: bool = True) -> dict[str, Any]:
    """Returns the state of a module for files, with its predictors' LMs saved without secrets."""
    state: dict[str, Any] = dspy.Module.dump_state(module, json_mode=json_mode)
    for name, predictor in module.named_parameters():
        lm = getattr(predictor, "lm", None)
        if lm is not None and "lm" in state[name]:
            state[name] = {**state[name], "lm": lm_state(lm)}
    return state


class Portable:
    """A mixin for modules: copies that share live objects, and pickles that any pickler can write."""

    _LIVE: frozenset[str] = frozenset()
    """The attributes that a deep copy shares."""

    def __copy__(self) -> Any:
        """Returns a copy that shares everything but the module's history."""
        return _new(self, dict(dspy.Module.__getstate__(self)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        state = dspy.Module.__getstate__(self)
        new = memo[id(self)] = _new(self, {})
        for name, value in state.items():
            live = name in self._LIVE
            new.__dict__[name] = _live(value, memo) if live else copy.deepcopy(value, memo)
        return new

    def __getstate__(self) -> dict[str, Any]:
        return packed_state(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        dspy.Module.__setstate__(self, unpacked_state(state))


# ---- Copies ----


def _live(value: Any, memo: Mapping[int, Any]) -> Any:
    """Returns the value itself, except that a tool of the program being copied becomes a tool of the copy."""
    if isinstance(value, dict):
        return {name: _live(part, memo) for name, part in value.items()}
    if isinstance(value, RLMConfig):
        return dataclasses.replace(value, **_live(_fields(value), memo))
    if not isinstance(value, dspy.Tool):
        return value
    owner = getattr(value.func, "__self__", value.func)
    if id(owner) not in memo:
        return value
    new = memo[id(owner)]
    func = MethodType(value.func.__func__, new) if inspect.ismethod(value.func) else new
    return value.model_copy(update={"func": func})


def _new(module: Any, state: dict[str, Any]) -> Any:
    new = object.__new__(type(module))
    dspy.Module.__setstate__(new, state)
    return new


# ---- Pickles ----


class Packed:
    """A value as bytes written by cloudpickle, with LMs without keys, and without pools.

    The module that it belongs to, and the programs around that, stay outside of the bytes: the outer pickler
    writes each of them once.
    """

    def __init__(self, data: bytes, outside: list[Any]) -> None:
        self.data = data
        self.outside = outside

    def unpack(self) -> Any:
        """Returns the value."""
        return _Unpickler(io.BytesIO(self.data), self.outside).load()


def packed_state(module: Any) -> dict[str, Any]:
    """Returns the module's state for any pickler: values that are not plain are packed into bytes.

    Raises:
        pickle.PicklingError: Something cannot be saved; the message says what.
    """
    state = _flat(dspy.Module.__getstate__(module))
    unsafe = [name for name, value in state.items() if not _is_plain(value)]
    with _being_packed(module):
        written = {name: _pack(name, state[name], ()) for name in unsafe}
        lms = [lm for _, value_lms in written.values() for lm in value_lms]
        lms += [getattr(predictor, "lm", None) for _, predictor in module.named_parameters()]
        # Keys of local servers, such as `none`, are no secrets: the word is in many texts.
        secrets = forms_of(
            [
                *environment_secrets(),
                *(secret for lm in lms if lm for secret in secrets_of_lm(lm)),
            ]
        )
        for name, (packed, _) in written.items():
            held = [
                secret for secret in secrets if secret.encode("utf-8", "replace") in packed.data
            ]
            if held:
                logger.warning(
                    "The %s of the module hold a secret, which is saved as [secret]. Let them read it "
                    "from the environment when they need it.",
                    _shown_name(name),
                )
            state[name] = _pack(name, state[name], held)[0] if held else packed
    return state


def unpacked_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the module's state from the result of `packed_state`."""
    values = {n: v.unpack() if isinstance(v, Packed) else v for n, v in state.items()}
    config = {n: values.pop(n) for n in list(values) if n.startswith(_OF_CONFIG)}
    if config:
        values["_config"] = RLMConfig(**{n.removeprefix(_OF_CONFIG): v for n, v in config.items()})
    return values


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the state with each setting of a config on its own, so that errors can name it."""
    flat = dict(state)
    config = flat.get("_config")
    if isinstance(config, RLMConfig):
        del flat["_config"]
        flat |= {f"{_OF_CONFIG}{name}": value for name, value in _fields(config).items()}
    return flat


def _fields(config: RLMConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _shown_name(name: str) -> str:
    return name.removeprefix(_OF_CONFIG).strip("_")


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Returns True if any pickler can write the value without an LM's secret. Our modules protect their own."""
    if isinstance(value, (*_PLAIN, Budget)):
        return True
    if isinstance(value, dspy.Module):
        return getattr(type(value), "__getstate__", None) is Portable.__getstate__
    if isinstance(value, (Mapping, dspy.Example)):
        value = [*value.keys(), *value.values()]
    return (
        depth < 10
        and isinstance(value, (list, tuple, set))
        and all(_is_plain(part, depth + 1) for part in value)
    )


def _pack(name: str, value: Any, hidden: Sequence[str]) -> tuple[Packed, list[Any]]:
    """Returns the value as bytes, with secrets removed from its texts, and the LMs in it."""
    file = io.BytesIO()
    pickler = _Pickler(file, hidden)
    try:
        pickler.dump(value)
    except Exception as error:
        raise pickle.PicklingError(
            f"Cannot save {_shown_name(name)} of the module: {error}. Save its state alone, with "
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
            return self._index_of_cleaned(value)
        if not isinstance(value, dspy.Module) or not _leads_back(value):
            return None
        self.outside.append(value)
        return len(self.outside) - 1

    def _index_of_cleaned(self, value: str | bytes) -> int | None:
        """Returns the index of the text without its secrets; None if it has none."""
        text = value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
        if not any(secret in text for secret in self._hidden):
            return None
        clean = redact_secrets(text, self._hidden)
        cleaned = clean.encode("utf-8", "surrogateescape") if isinstance(value, bytes) else clean
        self.outside.append(cleaned)
        return len(self.outside) - 1

    def reducer_override(self, value: Any) -> Any:
        """Returns the reduction of an object. Called by pickle."""
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


def pickler(file: io.BytesIO, hidden: Sequence[str] = ()) -> _Pickler:
    """Returns a pickler that writes LMs without keys, and without the `hidden` secrets."""
    return _Pickler(file, hidden)


def unpickler(file: io.BytesIO, outside: list[Any]) -> _Unpickler:
    """Returns the unpickler of what `pickler` wrote; `outside` are the objects that it left out."""
    return _Unpickler(file, outside)


def _lm_again(state: dict[str, Any]) -> Any:
    # Loading a custom LM class is no more dangerous than unpickling the data around it.
    lm = dspy.BaseLM.load_state(state, allow_custom_lm_class=True)
    warn_of_missing_key(lm)
    return lm


def _no_pool() -> None:
    """Replaces a pool that was saved with the pool of the process that loads."""
