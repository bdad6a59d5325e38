"""Redaction of exceptions: one filter for everything that LMs and tools raise in a run.

A cell, a prompt or a report can see the text of an exception, those of its causes and contexts, and their
notes. If a secret is in any of these, the exception is rebuilt without it. Otherwise it stays the same object.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pydantic

from dspy_rlm.protocols.middleware import Wrapper
from sandbox_runtime.helpers import redact_secrets

Known = Callable[[], Iterable[str]]
"""Returns the known secrets besides those of the environment. Called only after an exception."""

# Types of an exception's attributes that are kept when it is rebuilt.
_PLAIN = (int, float, bool, type(None))

_NO_TEXT = "(its text could not be made)"

# Exceptions of a chain that are checked. The rest of a longer chain is dropped.
_MAX_CHAIN = 100

# With more errors than these, the list of a validation is not even built: Pydantic takes about half a kilobyte for each.
MAX_LISTED_ERRORS = 1000


def cleaned(error: BaseException, secrets: Iterable[str]) -> BaseException:
    """Returns the exception itself, or one of its kind without the secrets in its texts.

    If the exception's own methods raise, nothing of it but the name of its class is shown.
    """
    try:
        return _cleaned(error, secrets)
    except Exception:  # noqa: BLE001 - notes and attributes may be objects of any class
        return RuntimeError(f"{type(error).__name__} {_NO_TEXT}")


def _cleaned(error: BaseException, secrets: Iterable[str]) -> BaseException:
    secret_texts = list(secrets)
    chain = _chain(error)
    if len(chain) < _MAX_CHAIN and all(_is_clean(one, secret_texts) for one in chain):
        return error
    rebuilt = {id(one): _rebuild(one, secret_texts) for one in chain}
    for one in chain:
        new = rebuilt[id(one)]
        new.__cause__ = rebuilt.get(id(one.__cause__))
        new.__context__ = rebuilt.get(id(one.__context__))
        new.__suppress_context__ = one.__suppress_context__
    for one in reversed(chain):  # groups last: their parts are rebuilt already
        if isinstance(one, BaseExceptionGroup):
            rebuilt[id(one)] = _group(one, rebuilt, secret_texts)
    return rebuilt[id(error)]


def _chain(error: BaseException) -> list[BaseException]:
    """Returns the exception, its causes and contexts, and the parts of groups."""
    chain: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting and len(chain) < _MAX_CHAIN:
        one = waiting.pop(0)
        if one is None or id(one) in chain:
            continue
        chain[id(one)] = one
        waiting += [one.__cause__, one.__context__]
        waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
    return list(chain.values())


def text_of(error: BaseException) -> str:
    """Returns the text of an exception, even if its `__str__` raises."""
    value: Any = error.args[0] if isinstance(error, KeyError) and error.args else error
    try:
        return _long_text(error) or str(value)
    except Exception:  # noqa: BLE001 - its own method may raise anything
        return _NO_TEXT


def _long_text(error: BaseException) -> str:
    """Returns a short text for an exception whose own would list thousands of errors, otherwise an empty one."""
    if not isinstance(error, pydantic.ValidationError) or error.error_count() <= MAX_LISTED_ERRORS:
        return ""
    return f"{error.error_count():,} validation errors for {error.title}"


def _texts(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", ())
    # A traceback shows notes that are no list by their `repr`.
    return [
        text_of(error),
        *(map(str, notes) if isinstance(notes, (list, tuple)) else [repr(notes)]),
    ]


def _is_clean(error: BaseException, secret_texts: list[str]) -> bool:
    if _long_text(error):
        return False  # its own text is not read
    return all(redact_secrets(text, secret_texts) == text for text in _texts(error))


def _rebuild(error: BaseException, secret_texts: list[str]) -> BaseException:
    """Returns an exception of the same kind, with the secrets in its text redacted."""
    kind: Any = RuntimeError if isinstance(error, BaseExceptionGroup) else type(error)
    text, *notes = (redact_secrets(part, secret_texts) for part in _texts(error))
    try:
        cls: Any = _clean_class(kind)
        new: BaseException = cls.__new__(cls)
        attributes = dict(vars(error))
    except TypeError:  # the class cannot be subclassed, or instantiated without arguments
        cls, attributes = _clean_class(_base_of(kind), kind.__name__), {}
        new = cls.__new__(cls)
    attributes.pop("__notes__", None)
    ours = kind.__module__.partition(".")[0] in ("dspy", "dspy_rlm", "sandbox_runtime")
    for name, value in attributes.items():
        if isinstance(value, str):
            new.__dict__[name] = redact_secrets(value, secret_texts)
        elif ours or isinstance(value, _PLAIN):
            new.__dict__[name] = value
    new.__dict__["_clean_text"] = text
    new.args = (text,)
    for note in notes:
        new.add_note(note)
    return new.with_traceback(error.__traceback__)


def _group(
    group: BaseExceptionGroup[Any], rebuilt: dict[int, BaseException], secret_texts: list[str]
) -> BaseException:
    parts = [rebuilt.get(id(part), RuntimeError("(left out)")) for part in group.exceptions]
    new = BaseExceptionGroup(redact_secrets(group.message, secret_texts), parts)
    old = rebuilt[id(group)]
    new.__cause__, new.__context__ = old.__cause__, old.__context__
    for note in getattr(old, "__notes__", ()):
        new.add_note(note)
    return new.with_traceback(group.__traceback__)


@functools.lru_cache(maxsize=256)
def _clean_class(kind: Any, name: str = "") -> type[BaseException]:
    """Returns a subclass of `kind`, caught in the same places, whose `str` is a text set on the instance."""

    def text(self: Any) -> str:
        return str(self.__dict__.get("_clean_text", ""))

    body = {
        "__str__": text,
        "__module__": kind.__module__,
        "__qualname__": name or kind.__qualname__,
        "__init__": lambda self, *args, **kwargs: None,
    }
    return type(name or kind.__name__, (kind,), body)


def _base_of(kind: type[BaseException]) -> Any:
    """Returns the nearest built-in base class that can be instantiated without arguments."""
    for base in kind.__mro__:
        if base.__module__ == "builtins" and issubclass(base, Exception):
            return base
    return Exception


def clean_errors(secrets: Known) -> Wrapper:
    """Returns a wrapper that redacts the exceptions of functions."""
    return lambda _name, function: cleaning(function, secrets)


def cleaning(function: Callable[..., Any], secrets: Known) -> Callable[..., Any]:
    """Returns the function, sync or async, with its exceptions redacted."""

    def clean(error: Exception) -> Exception:
        new = cleaned(error, secrets())
        return new if isinstance(new, Exception) else error

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            try:
                return await function(*args, **kwargs)
            except Exception as error:
                new = clean(error)
                if new is error:
                    raise
            raise new

        return awaited

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
            return _cleaning_await(result, clean) if asyncio.iscoroutine(result) else result
        except Exception as error:
            new = clean(error)
            if new is error:
                raise
        # Outside of the handler: otherwise Python would chain the original to it.
        raise new

    return call


async def _cleaning_await(coroutine: Any, clean: Callable[[Exception], Exception]) -> Any:
    try:
        return await coroutine
    except Exception as error:
        new = clean(error)
        if new is error:
            raise
    raise new
