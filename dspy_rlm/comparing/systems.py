"""The systems of a comparison: modules, classes of modules, functions, or names of ready-made ones."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

import dspy

from dspy_rlm.comparing.items import digest
from dspy_rlm.errors import InputError
from dspy_rlm.rlm import RLM
from sandbox_runtime.helpers import is_secret_name

# The ready-made systems by name: a module and a class, which takes a signature.
READY_MADE = {
    "rlm": ("dspy_rlm.rlm", "RLM"),
    "direct": ("dspy", "Predict"),
    "chain-of-thought": ("dspy", "ChainOfThought"),
    "retrieval": ("dspy_rlm.baselines.retrieval", "Retrieval"),
    "compaction": ("dspy_rlm.baselines.compaction", "Compaction"),
    "dspy.RLM": ("dspy", "RLM"),
}

# The classes that take the tools of a task.
_WITH_TOOLS = frozenset({"rlm", "dspy.RLM"})


@dataclass(frozen=True)
class System:
    """A system under comparison."""

    name: str
    call: Callable[..., Any]


def systems_of(
    systems: Mapping[str, Any] | Iterable[str],
    signature: Any,
    tools: tuple[Callable[..., Any], ...] = (),
) -> tuple[System, ...]:
    """Returns the systems; classes and names of ready-made ones are instantiated with the signature.

    Raises:
        InputError: One of them is unknown, or a signature is needed and there is none.
    """
    named = systems if isinstance(systems, Mapping) else {name: name for name in systems}
    if not named:
        raise InputError("Name at least one system.")
    signature = signature if signature is not None else _signature_among(named.values())
    calls = {name: _instance(name, one, signature, tools) for name, one in named.items()}
    return tuple(System(name, call) for name, call in calls.items())


def _signature_among(systems: Iterable[Any]) -> Any:
    """Returns the signature of the first system that has one."""
    found = (getattr(one, "signature", None) for one in systems if isinstance(one, dspy.Module))
    return next((one for one in found if one is not None), None)


def _instance(
    name: str, system: Any, signature: Any, tools: tuple[Callable[..., Any], ...]
) -> Callable[..., Any]:
    options: dict[str, Any] = {}
    if isinstance(system, str):
        if system not in READY_MADE:
            known = ", ".join(READY_MADE)
            raise InputError(f"There is no system {system!r}. Those by name are: {known}.")
        module, attribute = READY_MADE[system]
        options = {"tools": [*tools]} if tools and system in _WITH_TOOLS else {}
        system = getattr(importlib.import_module(module), attribute)
    if isinstance(system, type):
        if signature is None:
            raise InputError(
                f"The system {name!r} is a class and needs a signature: pass signature=, or an instance."
            )
        system = system(signature, **options)
    if not callable(system):
        raise InputError(
            f"The system {name!r} cannot be called: it is of type {type(system).__name__}."
        )
    call: Callable[..., Any] = system
    return call


def setup_of(system: Any, metric: Any) -> str:
    """Returns a digest of the settings of a system and of its metric, the same in every process as long as they are the same.

    It covers the configured LM, the signature, instructions and demos, the models with their options, and the plain settings of a module; of
    a function its code. What a system reads from elsewhere is not covered.
    """
    return digest([_described(part, 0) for part in (system, metric, dspy.settings.lm)])


# Settings lie no deeper in modules than this.
_DEPTH = 6

# Attributes that change while a module is used, or from process to process.
_CHANGING = frozenset({"history", "callbacks", "traces", "train", "stage", "pool"})

# Options of an LM that say how it is reached, and nothing about its answers.
_OF_TRANSPORT = frozenset({"api_base", "base_url", "timeout", "cache", "num_retries"})


def _described(value: Any, depth: int) -> Any:
    cls: Any = value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth > _DEPTH:
        return type(value).__qualname__
    if isinstance(value, type) and issubclass(value, dspy.Signature):
        fields = {**cls.input_fields, **cls.output_fields}
        described = {
            name: [str(one.annotation), str(one.json_schema_extra)] for name, one in fields.items()
        }
        return [cls.instructions, described]
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, dspy.BaseLM):
        options = {
            k: _described(v, depth + 1)
            for k, v in _without_secrets(value.kwargs).items()
            if k not in _OF_TRANSPORT
        }
        return [value.model, options]
    if isinstance(value, Mapping):
        return {str(k): _described(v, depth + 1) for k, v in _without_secrets(value).items()}
    if isinstance(value, (list, tuple)):
        return [_described(part, depth + 1) for part in value]
    if (code := getattr(value, "__code__", None)) is not None:
        return [value.__qualname__, _code_digest(code)]
    named = {k: _described(v, depth + 1) for k, v in _settings(value).items()}
    return [type(value).__qualname__, named]


def _settings(value: Any) -> dict[str, Any]:
    """Returns the public attributes of a module, and the fields of a value object; nothing of other objects."""
    if isinstance(value, dspy.Module):
        names = [name for name in vars(value) if not name.startswith("_")]
        names += ["_config"] if isinstance(value, RLM) else []
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        return {}
    return _without_secrets({name: getattr(value, name) for name in names if name not in _CHANGING})


def _without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values without texts under the name of a secret: a new key does not change a system."""
    return {
        name: value
        for name, value in values.items()
        if not (isinstance(value, str) and is_secret_name(name))
    }


def _code_digest(code: CodeType) -> str:
    parts = hashlib.sha256(code.co_code)
    for one in code.co_consts:
        text = _code_digest(one) if isinstance(one, CodeType) else repr(one)
        # The text of a set of constants is in another order in each process.
        parts.update(("set" if isinstance(one, frozenset) else text).encode())
    parts.update(repr(code.co_names).encode())
    return parts.hexdigest()[:16]


def models_of(systems: Iterable[System], configured: Any) -> dict[str, str]:
    """Returns the names of the LMs of each system: that of its predictors, else the configured one; then its sub-LMs."""
    found = {}
    for system in systems:
        names: list[str] = []
        if isinstance(system.call, dspy.Module):
            own = [one.lm for _, one in system.call.named_predictors() if one.lm is not None]
            names += [str(lm.model) for lm in own or [configured] if lm is not None]
        if isinstance(system.call, RLM) and (models := system.call._config.models) is not None:
            names += [str(lm.model) for lm in models.by_name.values()]
        found[system.name] = ", ".join(dict.fromkeys(names))
    return found
