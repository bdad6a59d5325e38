"""`import dspy` inside the sandbox: modules that the host executes within the run's budget.

Runs inside the sandbox. Only signatures, plain options and inputs are sent to the host, which validates
them.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from dspy_rlm.repl.guest.signatures import Classes, describe_signature, rebuild_result

KINDS = ("Predict", "ChainOfThought", "ReAct", "ReActV2", "CodeAct", "ProgramOfThought", "RLM")


class Field:
    """A field of a signature class."""

    def __init__(self, desc: str = "", is_input: bool = False, **constraints: Any) -> None:
        self.desc, self.is_input, self.constraints = desc, is_input, constraints


def InputField(desc: str = "", **constraints: Any) -> Any:  # noqa: N802 - DSPy's name
    """Declares an input of a signature class."""
    return Field(desc, True, **constraints)


def OutputField(desc: str = "", **constraints: Any) -> Any:  # noqa: N802 - DSPy's name
    """Declares an output of a signature class."""
    return Field(desc, False, **constraints)


class _SignatureType(type):
    def __call__(cls, signature: Any = None, instructions: str = "", **_: Any) -> Any:
        if cls is not Signature:
            raise TypeError(
                f"{cls.__name__} is a signature: pass it to dspy.Predict({cls.__name__})."
            )
        return _Written(signature, instructions)

    def __dspy_spec__(cls, classes: Classes) -> dict[str, Any]:
        # Read as an attribute: Python 3.14 creates the annotations of a class when they are first read.
        notes, fields = cls.__annotations__, {}
        for name, field in vars(cls).items():
            if isinstance(field, Field):
                note = notes.get(name, str)
                entry = classes._field({"type": note, "constraints": field.constraints})
                fields[name] = {**entry, "desc": field.desc, "input": field.is_input}
        return {"fields": fields, "instructions": (cls.__doc__ or "").strip()}


class Signature(metaclass=_SignatureType):
    """A signature: `dspy.Signature("a -> b", "instructions")`, or a class with fields."""


Signature.__doc__ = None


class _Written:
    """A signature from text or fields, with instructions."""

    def __init__(self, signature: Any, instructions: str) -> None:
        self._signature, self._instructions = signature, instructions

    def __dspy_spec__(self, classes: Classes) -> dict[str, Any]:
        if isinstance(self._signature, str):
            classes.note_signature(self._signature)
            return {"signature": self._signature, "instructions": self._instructions}
        spec, inner, _ = describe_signature(self._signature)
        classes.by_name.update(inner.by_name)
        classes.schemas.update(inner.schemas)
        return {**spec, "instructions": self._instructions}


class Prediction:
    """The outputs by name, for modules that a cell defines."""

    def __init__(self, **outputs: Any) -> None:
        self.__dict__.update(outputs)

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The output of a name, or the default."""
        return vars(self).get(name, default)

    def keys(self) -> list[str]:
        """The names of the outputs."""
        return list(vars(self))

    def items(self) -> list[tuple[str, Any]]:
        """The outputs with their names."""
        return list(vars(self).items())

    def toDict(self) -> dict[str, Any]:  # noqa: N802 - DSPy's name
        """The outputs as a dict."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return f"Prediction({', '.join(f'{n}={v!r}' for n, v in vars(self).items())})"


class Module:
    """Base class of modules that a cell defines: calling one calls its `forward`."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Creates a module. CPython needs it after a cell has set `__new__` on a class that had none."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Accepts any arguments and ignores them."""

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        """Calls `forward`."""
        return self.forward(*args, **inputs)  # type: ignore[attr-defined]


class Predictor(Module):
    """One of DSPy's modules, identified by the name of its class."""

    _call: Any

    def __init__(self, signature: Any, **options: Any) -> None:
        """Stores the signature and the options; the host is called later."""
        self.signature = signature
        self.options = {name: _plain(value) for name, value in options.items()}

    def forward(self, **inputs: Any) -> Any:
        """Runs the module on the host."""
        spec, classes, _ = describe_signature(self.signature)
        return rebuild_result(self._call(type(self).__name__, spec, self.options, inputs), classes)

    async def acall(self, **inputs: Any) -> Any:
        """Runs the module on the host, for use with asyncio.gather."""
        spec, classes, _ = describe_signature(self.signature)
        kind = type(self).__name__
        return rebuild_result(await self._call.aio(kind, spec, self.options, inputs), classes)


def module(call: Callable[..., Any]) -> types.ModuleType:
    """Creates the module that `import dspy` returns. `call` calls the host."""
    module: Any = types.ModuleType(
        "dspy", "The part of DSPy that the REPL offers. Its calls run on the host."
    )
    for own in (Module, Prediction, Signature, InputField, OutputField):
        setattr(module, own.__name__, own)
    module.Tool = lambda func, **_: func
    for kind in KINDS:
        doc = f"dspy.{kind}. It runs on the host."
        setattr(
            module, kind, type(kind, (Predictor,), {"_call": staticmethod(call), "__doc__": doc})
        )
    return module  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    """Converts an option to data: tools become their names."""
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
