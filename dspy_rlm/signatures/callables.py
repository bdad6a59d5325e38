"""Describes anything that can be called: its name, its documentation, its parameters with their types.

Plain functions say all of that themselves. A partial, a class, a C function, an object with `__call__` or a
`dspy.Module` says it elsewhere, or only in part.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

import dspy
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dspy_rlm.signatures.fields import notes_of

Parameter = inspect.Parameter

# The signature of a callable that states none, as many C functions.
UNKNOWN = inspect.Signature(
    [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
)


@dataclasses.dataclass(frozen=True)
class Description:
    """The facts of a callable."""

    name: str

    doc: str

    signature: inspect.Signature
    """Its parameters, with evaluated annotations. One that cannot be evaluated stays a string."""

    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Descriptions of parameters, by name."""

    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Defaults that the signature has and the callable itself lacks: those of `pydantic.Field`."""

    outputs: tuple[str, ...] | None = None
    """The outputs of a module with a signature."""


def describe(function: Callable[..., Any]) -> Description:
    """Returns the facts of a callable. Raises nothing."""
    if isinstance(function, dspy.Module):
        return _of_module(function)
    if isinstance(function, functools.partial):
        inner = describe(function.func)
        return dataclasses.replace(inner, signature=_unbound(function, inner.signature))
    signature, notes, defaults = _annotated(_signature(function), _namespace(function))
    if isinstance(function, type):
        signature = signature.replace(return_annotation=function)
    return Description(name_of(function), _doc(function), signature, notes, defaults)


def name_of(function: Callable[..., Any]) -> str:
    """Returns the name of a function or class; of other objects that of their class."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def hint_of(parameter: Parameter) -> Any:
    """Returns the type of a parameter's value in a call; `Any` if it is not stated or cannot be evaluated."""
    note = parameter.annotation
    hint = Any if note is Parameter.empty or isinstance(note, str) else note
    if hint is not Any and parameter.kind is Parameter.VAR_POSITIONAL:
        return types.GenericAlias(tuple, (hint, ...))
    return hint


def constrains(annotation: Any) -> bool:
    """Returns whether a type has constraints or validators beside it: `Annotated[int, Field(ge=0)]`."""
    parts = _metadata(annotation)
    if any(not _is_only_text(part) for part in parts):
        return True
    return any(map(constrains, get_args(annotation)))


def without_metadata(annotation: Any) -> Any:
    """Returns a type without the metadata of `Annotated`, in its parts too."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder)["it"]
    except Exception:  # noqa: BLE001 - an annotation may be anything, such as a text
        return annotation


def reads_positions(function: Callable[..., Any]) -> bool:
    """Returns whether a decorator between the caller and the function takes any arguments.

    It may read them by position, as `functools.singledispatch` does, or by name, so they must be passed as written.
    """
    if not inspect.isfunction(function) or not hasattr(function, "__wrapped__"):
        return False
    own = inspect.signature(function, follow_wrapped=False)
    return any(p.kind is Parameter.VAR_POSITIONAL for p in own.parameters.values())


# ---- Parts of a description ----


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it states none
        return UNKNOWN
    if _is_bound_dispatcher(function):
        return signature.replace(parameters=list(signature.parameters.values())[1:])
    return signature


def _is_bound_dispatcher(function: Callable[..., Any]) -> bool:
    """Returns whether this is a bound `functools.singledispatchmethod`, whose signature still has `self`."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_qualname.startswith("singledispatchmethod.")


def _doc(function: Callable[..., Any]) -> str:
    own = getattr(function, "__doc__", None)
    if not own and not isinstance(function, type) and not inspect.isroutine(function):
        own = type(function).__call__.__doc__
    return str(own or "")


def _namespace(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the global names that the callable's annotations can refer to."""
    if isinstance(function, type):
        function = function.__init__  # type: ignore[misc]
    elif not (inspect.isroutine(function)):
        function = type(function).__call__
    found: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    return found


def _annotated(
    signature: inspect.Signature, namespace: dict[str, Any]
) -> tuple[inspect.Signature, dict[str, str], dict[str, Any]]:
    """Returns the signature with evaluated annotations, the parameters' descriptions, and their own defaults."""
    notes, defaults, parameters = {}, {}, []
    for name, parameter in signature.parameters.items():
        annotation = _evaluated(parameter.annotation, namespace)
        texts = [_note(part) for part in _metadata(annotation)]
        default = parameter.default
        if isinstance(default, FieldInfo):
            texts.append(_note(default))
            default = default.get_default(call_default_factory=True, validated_data={})
            if default is PydanticUndefined:
                default = Parameter.empty
            else:
                defaults[name] = default
        notes[name] = "; ".join(filter(None, texts))
        if get_origin(annotation) is Annotated and any(map(_is_only_text, _metadata(annotation))):
            annotation = _without_texts(annotation)
        parameters.append(parameter.replace(annotation=annotation, default=default))
    returned = _evaluated(signature.return_annotation, namespace)
    return (
        signature.replace(parameters=_in_order(parameters), return_annotation=returned),
        {name: text for name, text in notes.items() if text},
        defaults,
    )


def _in_order(parameters: list[Parameter]) -> list[Parameter]:
    """Makes a parameter keyword-only where one with a default precedes it: it had a default without a value."""
    result, optional = [], False
    for parameter in parameters:
        positional = parameter.kind in (
            Parameter.POSITIONAL_ONLY,
            Parameter.POSITIONAL_OR_KEYWORD,
        )
        has_default = parameter.default is not Parameter.empty
        if optional and positional and not has_default:
            parameter = parameter.replace(kind=Parameter.KEYWORD_ONLY)
        optional = optional or (positional and has_default)
        result.append(parameter)
    return sorted(result, key=lambda parameter: parameter.kind)


def _evaluated(annotation: Any, namespace: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, namespace, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - an annotation may be any text
        return annotation


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def _note(part: Any) -> str:
    """Returns the description in a part of `Annotated`: a text, a `Field`, a `Doc`."""
    if isinstance(part, str):
        return part
    if isinstance(part, FieldInfo):
        return part.description or notes_of(part)
    return str(getattr(part, "documentation", ""))


def _is_only_text(part: Any) -> bool:
    return isinstance(part, str) or hasattr(part, "documentation")


def _without_texts(annotation: Any) -> Any:
    kept = tuple(part for part in _metadata(annotation) if not _is_only_text(part))
    plain = get_args(annotation)[0]
    return Annotated[(plain, *kept)] if kept else plain


def _unbound(partial: functools.partial[Any], inner: inspect.Signature) -> inspect.Signature:
    """Returns the parameters that a partial leaves open. Bound ones are the host's, such as a key."""
    bound = set()
    try:
        bound = set(inner.bind_partial(*partial.args).arguments)
    except TypeError:
        return UNKNOWN  # more arguments than it takes: every call fails
    left: list[Parameter] = []
    only_named = False
    for name, parameter in inner.parameters.items():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            left.append(parameter)
        elif name in partial.keywords:
            # The parameters after it cannot be passed by position any more.
            only_named = only_named or parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
        elif name in bound:
            continue
        elif only_named and parameter.kind is Parameter.POSITIONAL_OR_KEYWORD:
            left.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
        else:
            left.append(parameter)
    if only_named:
        left = [p for p in left if p.kind is not Parameter.VAR_POSITIONAL]
    return inner.replace(parameters=sorted(left, key=lambda parameter: parameter.kind))


# ---- Modules ----


def _of_module(module: dspy.Module) -> Description:
    """Describes a module by its `forward`, or by its signature where that takes any keyword argument."""
    cls = type(module)
    method = _forward(module)
    signature, notes, defaults = _annotated(_signature(method), _namespace(method))
    task = signature_of(module)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if task is None or Parameter.VAR_KEYWORD not in kinds:
        outputs = tuple(task.output_fields) if task and _is_dspys(cls) else None
        return Description(
            cls.__name__, _module_doc(module, task), signature, notes, defaults, outputs
        )
    parameters = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY if name == "self" else Parameter.POSITIONAL_OR_KEYWORD,
            annotation=field.annotation,
            default=Parameter.empty if field.is_required() else field.default,
        )
        for name, field in task.input_fields.items()
    ]
    return Description(
        cls.__name__,
        _module_doc(module, task),
        inspect.Signature(_in_order(parameters)),
        {name: text for name, field in task.input_fields.items() if (text := notes_of(field))},
        outputs=tuple(task.output_fields),
    )


def _forward(module: dspy.Module) -> Callable[..., Any]:
    for name in ("forward", "aforward"):
        method = getattr(module, name, None)
        if method is not None:
            return typing.cast("Callable[..., Any]", method)
    return type(module).__call__


def is_only_async(module: dspy.Module) -> bool:
    """Returns whether a module has only the asynchronous method."""
    return not hasattr(module, "forward") and hasattr(module, "aforward")


def signature_of(module: dspy.Module) -> type[dspy.Signature] | None:
    """Returns the signature of a module, or of its only predictor; None if there is none or several."""
    own = getattr(module, "signature", None)
    if isinstance(own, type) and issubclass(own, dspy.Signature):
        return own
    predictors = [p for _, p in module.named_predictors() if p is not module]
    inner = getattr(predictors[0], "signature", None) if len(predictors) == 1 else None
    return inner if isinstance(inner, type) and issubclass(inner, dspy.Signature) else None


def _module_doc(module: dspy.Module, task: type[dspy.Signature] | None) -> str:
    own = type(module).__dict__.get("__doc__")
    if own and not _is_dspys(type(module)):
        return str(own)
    return str(task.instructions) if task else ""


def _is_dspys(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("dspy", "dspy_rlm")
