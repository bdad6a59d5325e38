"""The user's own checks of the outputs: functions that accept them, or object with a reason.

A validator accepts with `None` or `True`. It objects with `False`, with the reason as a text or a list of texts, with
`(False, reason)`, or by raising `ValueError` or `AssertionError`, as validators of Pydantic do. Any other exception or
result is a mistake in the validator itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import difflib
import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import dspy

from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.concurrency.lm_loop import run_on_loop
from dspy_rlm.errors import (
    BudgetExceededError,
    RunEndedError,
    SignatureError,
    ValidatorError,
)
from sandbox_runtime.helpers import abridged, redact_secrets

Validator: TypeAlias = Callable[..., Any]

# The longest reason of one objection, and of a name in it.
MAX_REASON_CHARS = 1_000
NAME_CHARS = 100

# The names of a parameter for all outputs, and for all inputs; the last ones as in the functions of `dspy.Refine`
# and the metrics of DSPy.
OUTPUTS_NAMES = ("outputs", "prediction", "pred")
INPUTS_NAMES = ("inputs", "args", "example")

_EXAMPLE = (
    "A validator is a function of the outputs and the inputs, `def check(outputs, inputs)`, or of some of "
    "them by name"
)


@dataclasses.dataclass(frozen=True)
class Objection:
    """A reason to refuse the outputs."""

    reason: str
    outputs: tuple[str, ...]
    """The outputs that the validator takes: one of them has to change."""


@dataclasses.dataclass(frozen=True)
class BoundValidator:
    """A validator with its parameters matched to the fields of a signature."""

    function: Validator
    name: str
    parameters: tuple[tuple[str, str], ...]
    """For each argument: its keyword, or "" for one by position, and the field, "*outputs" or "*inputs"."""

    outputs: tuple[str, ...]
    """The outputs that it takes."""

    def arguments(
        self, outputs: Mapping[str, Any], inputs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Returns the arguments of a call. It gets containers of its own, so it can change no output."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for keyword, source in self.parameters:
            if source == "*outputs":
                value: Any = dspy.Prediction(dict(outputs))
            elif source == "*inputs":
                value = dspy.Example(dict(inputs))
            else:
                value = outputs[source] if source in outputs else inputs.get(source)
            if keyword:
                named[keyword] = value
            else:
                positional.append(value)
        return positional, named


def checked_validators(validators: Any, signature: type[dspy.Signature]) -> tuple[Validator, ...]:
    """Returns the validators, checked against the signature.

    Raises:
        SignatureError: One is no function, or has a parameter that is no field.
    """
    if validators is None:
        return ()
    if callable(validators):
        validators = [validators]
    if isinstance(validators, (str, bytes, Mapping)) or not isinstance(
        validators, (Sequence, set, frozenset)
    ):
        raise SignatureError(
            f"validators must be a list of functions, not {validators!r:.200}. {_EXAMPLE}."
        )
    functions = tuple(validators)
    for function in functions:
        bound(function, signature)
    return functions


def bound(function: Any, signature: type[dspy.Signature]) -> BoundValidator:
    """Returns a validator with its parameters matched to the fields of the signature.

    Raises:
        SignatureError: It is no function, or has a parameter that is no field.
    """
    if not callable(function) or inspect.isclass(function):
        raise SignatureError(f"validators has {function!r:.200}, which is no function. {_EXAMPLE}.")
    name = str(getattr(function, "__name__", "") or type(function).__name__)[:NAME_CHARS]
    try:
        declared = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature
        declared = [inspect.Parameter("outputs", inspect.Parameter.POSITIONAL_ONLY)]
    fields = {*signature.input_fields, *signature.output_fields}
    needed = [one for one in declared if _is_needed(one, fields)]
    unknown = [one.name for one in needed if not _has_source(one, fields)]
    is_misspelt = len(unknown) < len(needed) or any(map(partial(_close, fields), unknown))
    parameters = _by_position(declared) if unknown and not is_misspelt else None
    if not unknown:
        parameters = _by_name(needed, fields) if needed else _by_position(declared)
    if parameters is None:
        why = (
            f"has the parameter {unknown[0]!r}, which is no field"
            if unknown
            else "takes no argument"
        )
        names = ", ".join((*signature.output_fields, *signature.input_fields))
        raise SignatureError(f"The validator {name!r} {why}. {_EXAMPLE}: {names}.")
    sources = {source for _, source in parameters}
    outputs = [one for one in signature.output_fields if one in sources]
    if "*outputs" in sources or not outputs:
        outputs = list(signature.output_fields)
    return BoundValidator(function, name, tuple(parameters), tuple(outputs))


def _is_needed(parameter: inspect.Parameter, fields: set[str]) -> bool:
    """Returns whether a parameter gets an argument: one with a default only if it is a field."""
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return False
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return True
    return parameter.default is inspect.Parameter.empty or bool(_source(parameter.name, fields))


def _source(name: str, fields: set[str]) -> str:
    """Returns what a parameter of this name gets; "" if nothing has that name."""
    if name in fields:
        return name
    if name in OUTPUTS_NAMES:
        return "*outputs"
    return "*inputs" if name in INPUTS_NAMES else ""


def _has_source(parameter: inspect.Parameter, fields: set[str]) -> bool:
    return parameter.kind is inspect.Parameter.VAR_KEYWORD or bool(_source(parameter.name, fields))


def _close(fields: set[str], name: str) -> bool:
    """Returns whether a name is that of a field, misspelt."""
    names = [*fields, *OUTPUTS_NAMES, *INPUTS_NAMES]
    return len(name) > 2 and bool(difflib.get_close_matches(name, names, 1, 0.75))


def _by_name(needed: Sequence[inspect.Parameter], fields: set[str]) -> list[tuple[str, str]]:
    """Matches the parameters by their names, each of which has a match."""
    matched: list[tuple[str, str]] = []
    for parameter in needed:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            matched_sources = {source for _, source in matched}
            matched += [(name, name) for name in sorted(fields) if name not in matched_sources]
            continue
        by_position = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        matched.append(("" if by_position else parameter.name, _source(parameter.name, fields)))
    return matched


def _by_position(declared: Sequence[inspect.Parameter]) -> list[tuple[str, str]] | None:
    """Matches a function such as `lambda o, i: ...`: the outputs, then the inputs; None for any other."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in declared):
        return [("", "*outputs"), ("", "*inputs")]
    required = [one for one in declared if one.default is inspect.Parameter.empty]
    plain = [one for one in required if one.kind in kinds]
    if len(plain) != len(required) or not 1 <= len(plain) <= 2:
        return None
    return [("", "*outputs"), ("", "*inputs")][: len(plain)]


class Validation:
    """The validators of one run."""

    def __init__(
        self,
        validators: Sequence[BoundValidator] = (),
        inputs: Mapping[str, Any] | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        scope: CancelScope | None = None,
    ) -> None:
        """Binds them to the inputs.

        Args:
            validators: The validators.
            inputs: The inputs of the run.
            loop: The event loop of an asynchronous run: coroutines run on it.
            scope: Cancels coroutines.
        """
        self._validators = validators
        self._inputs = inputs or {}
        self._loop = loop
        self._scope = scope or CancelScope()
        # A validator that calls an LM does so with the settings of the caller, not with those of the run's turns.
        self._settings = {"adapter": dspy.settings.adapter, "trace": []}

    def objections(self, outputs: Mapping[str, Any]) -> list[Objection]:
        """Returns the objections of all validators.

        Raises:
            ValidatorError: A validator failed.
        """
        return [
            Objection(reason, one.outputs)
            for one in self._validators
            for reason in self._reasons(one, outputs)
        ]

    def _reasons(self, validator: BoundValidator, outputs: Mapping[str, Any]) -> list[str]:
        positional, named = validator.arguments(outputs, self._inputs)
        try:
            with dspy.context(**self._settings):
                result = validator.function(*positional, **named)
                if inspect.isawaitable(result):
                    result = self._wait(result)
        except (ValueError, AssertionError) as error:
            return [_shown(_message(error, validator))]
        except (BudgetExceededError, RunEndedError):  # the run was stopped meanwhile
            raise
        except Exception as error:
            raise ValidatorError(
                f"The validator {validator.name!r} failed with {type(error).__name__}: {error}. It objects by "
                "returning a text, or by raising ValueError or AssertionError."
            ) from error
        return [_shown(reason) for reason in _read(result, validator)]

    def _wait(self, result: Awaitable[Any]) -> Any:
        """Waits in this thread, which is not that of the loop."""

        async def awaited() -> Any:
            return await result

        if self._loop is None:
            return run_on_loop(self._scope, awaited)
        context = contextvars.copy_context()
        done: Any = asyncio.run_coroutine_threadsafe(_in_context(awaited, context), self._loop)
        try:
            with self._scope.on_cancel(done.cancel):
                return done.result()
        except BaseException:
            done.cancel()
            self._scope.check()
            raise


async def _in_context(call: Callable[[], Awaitable[Any]], context: contextvars.Context) -> Any:
    async def run() -> Any:
        return await call()

    return await asyncio.get_running_loop().create_task(run(), context=context)


def _read(result: Any, validator: BoundValidator) -> list[str]:
    """Returns the reasons in the result of a validator; none if it accepts."""
    if isinstance(result, tuple) and len(result) == 2 and _is_bool(result[0]):
        accepted, reason = result
        if accepted:
            return []
        return [str(reason)] if reason else [_default_reason(validator)]
    if result is None or isinstance(result, str):
        return [result] if result and result.strip() else []
    if _is_bool(result):
        return [] if result else [_default_reason(validator)]
    if isinstance(result, (list, tuple)) and all(isinstance(one, str) for one in result):
        return [one for one in result if one.strip()]
    raise ValidatorError(
        f"The validator {validator.name!r} returned {result!r:.200}. It accepts with None or True, and objects "
        "with False, a text or a list of texts."
    )


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # NumPy's too


def _default_reason(validator: BoundValidator) -> str:
    """Returns the reason of a validator that gives none: its first line of documentation, or its name."""
    document = inspect.getdoc(validator.function) or ""
    first = document.strip().partition("\n")[0]
    return f"{validator.name} does not hold{f': {first}' if first else ''}"


def _message(error: Exception, validator: BoundValidator) -> str:
    if str(error).strip():
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    line = (frames[-1].line or "") if frames and isinstance(error, AssertionError) else ""
    if line.startswith("assert "):
        return f"{validator.name} does not hold: {line}"
    return _default_reason(validator)


def _shown(reason: str) -> str:
    return abridged(redact_secrets(reason.strip()), MAX_REASON_CHARS)
