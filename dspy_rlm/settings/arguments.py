"""Checks of the constructor's arguments that are neither a signature, a tool, a sub-LM nor a budget.

Each error names the argument as the user wrote it, and says what to write instead.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
from collections.abc import Callable, Collection, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar, cast, get_args

import platformdirs

from dspy_rlm.errors import SignatureError
from dspy_rlm.lms.kept_answers.memo import open_memo
from dspy_rlm.reports.report import OnExhausted
from sandbox_runtime import CodeType, HandleType, Limits, Pool, Rule, ValueType

F = TypeVar("F", bound=Callable[..., None])

# The default of `max_iterations`, as in dspy.RLM.
MAX_ITERATIONS = 20

MemoOption: TypeAlias = "str | PathLike[str] | bool | None"
"""The argument `memo=` of an RLM: a file or a folder, or True for the user's data folder."""

# The names under which other libraries take the LM in their constructors.
_OF_LM = frozenset({"lm", "model", "llm", "root_lm", "api_key"})


def hinting_at_names(init: F) -> F:
    """Decorates a constructor: its `TypeError` for an argument that it does not have says which may be meant.

    With `**unknown` in its signature instead, type checkers would accept misspelt names.
    """
    names = frozenset(inspect.signature(init).parameters)

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in names:
                _refuse(name, names - {"self"})
        init(self, *args, **kwargs)

    return cast(F, checked)


def _refuse(name: str, names: Collection[str]) -> NoReturn:
    close = difflib.get_close_matches(name, names, 1)
    hint = f" Did you mean {close[0]}=?" if close else ""
    if name in _OF_LM:
        hint = (
            " The LM that writes the code is DSPy's: dspy.configure(lm=...), rlm.set_lm(lm), or lm= in a "
            "call. sub_lm= is the LM that the code calls."
        )
    raise TypeError(f"RLM() got an unexpected keyword argument {name!r}.{hint}")


def checked_turns(max_iterations: int, max_iters: int | None) -> int:
    """Returns the number of turns. Raises `SignatureError` for two different numbers."""
    if max_iters is None:
        return max_iterations
    if max_iterations not in (MAX_ITERATIONS, max_iters):
        raise SignatureError(
            f"max_iterations={max_iterations!r} and max_iters={max_iters!r} are two names of one limit. "
            "Pass one of them."
        )
    return max_iters


def checked_ending(on_exhausted: Any, stop_seconds: Any) -> dict[str, Any]:
    """Returns the settings of how a run ends. Raises `SignatureError` for an invalid one."""
    if on_exhausted not in get_args(OnExhausted):
        raise SignatureError(
            f'on_exhausted must be "extract", "partial" or "raise", not {on_exhausted!r}.'
        )
    is_number = isinstance(stop_seconds, (int, float)) and not isinstance(stop_seconds, bool)
    if not is_number or not 0 <= stop_seconds < math.inf:
        raise SignatureError(
            f"stop_seconds must be a number of seconds, 0 or more, not {stop_seconds!r}."
        )
    return {"on_exhausted": on_exhausted, "stop_seconds": float(stop_seconds)}


def checked_pool(pool: Any) -> Pool | None:
    """Returns the pool. Raises `SignatureError` for anything else."""
    if pool is None or isinstance(pool, Pool):
        return pool
    size = pool if type(pool) is int else 4
    raise SignatureError(
        f"pool must be a dspy_rlm.Pool, not {pool!r}. Write pool=dspy_rlm.Pool(max_sessions={size})."
    )


def checked_limits(limits: Any, pool: Pool | None, max_output_chars: int) -> Limits:
    """Returns the limits of the sandbox: the user's, the pool's, or the defaults.

    Raises:
        SignatureError: They are not limits, or `max_output_chars` is out of range.
    """
    if limits is not None and not isinstance(limits, Limits):
        example = "cell_seconds=60"
        if isinstance(limits, dict) and all(isinstance(name, str) for name in limits):
            example = ", ".join(f"{name}={value!r}" for name, value in limits.items()) or example
        raise SignatureError(
            f"limits must be a dspy_rlm.Limits, not {limits!r}. Write limits=dspy_rlm.Limits({example})."
        )
    if type(max_output_chars) is not int or max_output_chars < 1:
        raise SignatureError(
            f"max_output_chars must be a whole number, 1 or more, not {max_output_chars!r}."
        )
    chosen = limits or (pool.limits if pool else Limits())
    return dataclasses.replace(chosen, output_chars=max_output_chars)


def checked_rules(types: Any) -> Sequence[Rule]:
    """Returns the user's type rules. Raises `SignatureError` for anything that is not a rule."""
    if isinstance(types, (str, bytes)) or not isinstance(types, Sequence):
        raise SignatureError(
            f"types must be a list of rules, not {types!r}. {_rule_example(types)}"
        )
    for rule in types:
        if not isinstance(rule, (HandleType, ValueType, CodeType)):
            raise SignatureError(f"types has {rule!r}, which is not a rule. {_rule_example(rule)}")
    return types


def _rule_example(value: Any) -> str:
    name = value.__name__ if inspect.isclass(value) else "MyClass"
    return (
        f"A rule says how a class crosses to the sandbox: dspy_rlm.HandleType({name}) keeps its objects on "
        "the host; dspy_rlm.ValueType and dspy_rlm.CodeType copy them."
    )


def checked_memo(memo: Any) -> str | None:
    """Returns the path of the file that keeps answers, which is opened; None if none is to.

    Raises:
        SignatureError: It is no path, or cannot be used.
    """
    if memo is None or memo is False:
        return None
    if memo is not True and not isinstance(memo, (str, PathLike)):
        raise SignatureError(
            f"memo must be a file or a folder, True for the user's data folder, or None, not {memo!r:.200}."
        )
    path = platformdirs.user_data_path("dspy-rlm") if memo is True else Path(memo).expanduser()
    if memo is True or path.is_dir():
        path /= "answers.sqlite"
    try:
        return str(open_memo(str(path.absolute())).path)
    except OSError as error:
        raise SignatureError(f"memo={str(memo)!r}: {error}. Pass another file.") from error
