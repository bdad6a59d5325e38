"""The call of a tool: its parameters as cells pass them, and how a prompt and `help` show them."""

from __future__ import annotations

import builtins
import dataclasses
import enum
import inspect
from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.dspy_internals.converted_tools import (
    LANGCHAIN,
    NO_DESCRIPTION,
    REQUIRED,
    converter_of,
)
from dspy_rlm.signatures.callables import describe, without_metadata
from dspy_rlm.signatures.json_schemas import parameters_of
from sandbox_runtime.helpers import SignatureText, annotation_text, classes_in, shown_signature

Parameter = inspect.Parameter

# A longer default is not shown.
MAX_DEFAULT_CHARS = 200

# These are shown by name and kept as they are: an interpreter of the caller's own may read them.
_PLAIN_DEFAULTS = (str, int, float, bool, type(None))
_SIMPLE = (str, int, float, bool, list, dict, tuple, set, bytes, Parameter.empty)


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """The call of a tool, as cells write it."""

    signature: inspect.Signature
    """The parameters, with types as annotations."""

    notes: Mapping[str, str]
    """The descriptions of parameters, by name."""

    own_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The tool's own names of parameters that cells call otherwise, because theirs are no Python names."""

    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values to pass for parameters that a cell leaves out, where the function has none itself."""

    outputs: tuple[str, ...] | None = None
    """The outputs of a module with a signature."""

    from_schema: bool = False
    """True if the parameters are those of a JSON schema."""

    def leaves_out(self, name: str) -> bool:
        """Returns True if None means that an optional argument is left out: its type has no None."""
        parameter = self.signature.parameters[name]
        types = type_name(parameter.annotation).split(" | ")
        return parameter.default is not Parameter.empty and not {"None", "Any"} & set(types)

    @property
    def unpacks(self) -> bool:
        """True if some arguments can be passed by position only."""
        kinds = {parameter.kind for parameter in self.signature.parameters.values()}
        return bool(kinds & {Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL})


def tool_call_of(tool: dspy.Tool) -> ToolCall:
    """Returns the call of a tool: that of its function, or of its JSON schema if the function takes anything."""
    described = describe(tool.func)
    texts = _argument_texts(tool)
    if _has_only_schema(tool, described.signature):
        return _of_schema(tool, texts)
    return ToolCall(
        described.signature,
        {**described.notes, **texts},
        defaults=described.defaults,
        outputs=described.outputs,
    )


def _has_only_schema(tool: dspy.Tool, signature: inspect.Signature) -> bool:
    if converter_of(tool.func):
        return True
    names, kinds = set(signature.parameters), {p.kind for p in signature.parameters.values()}
    takes_anything = Parameter.VAR_KEYWORD in kinds and kinds <= {
        Parameter.VAR_KEYWORD,
        Parameter.VAR_POSITIONAL,
    }
    return takes_anything and bool(set(tool.args or {}) - names)


def _of_schema(tool: dspy.Tool, texts: Mapping[str, str]) -> ToolCall:
    args = tool.args or {}
    described = tool.arg_desc or {}
    if converter_of(tool.func):
        required = {name for name in args if str(described.get(name, "")).endswith(REQUIRED)}
    else:
        required = {name for name, schema in args.items() if "default" not in schema}
    parameters, notes, own_names = parameters_of(args, required)
    cell_names = {own: name for name, own in own_names.items()}
    for own, text in texts.items():
        name = cell_names.get(own, own)
        known = notes.get(name, "")
        if name in {p.name for p in parameters} and text.strip().rstrip(".") not in known:
            notes[name] = "; ".join(filter(None, (text, known)))
    for name, own in own_names.items():
        notes[name] = "; ".join(
            filter(None, (notes.get(name), f"the tool's own name for it is {own!r}"))
        )
    if converter_of(tool.func) == LANGCHAIN:
        types = tool.arg_types or {}
        parameters = [_typed(parameter, own_names, types) for parameter in parameters]
    return ToolCall(inspect.Signature(parameters), notes, own_names, from_schema=True)


def _typed(
    parameter: Parameter, own_names: Mapping[str, str], types: Mapping[str, Any]
) -> Parameter:
    """Returns the parameter with the Python type that its tool declares, where it is a class of the user's."""
    hint = types.get(own_names.get(parameter.name, parameter.name))
    return parameter.replace(annotation=hint) if classes_in(hint) else parameter


def _argument_texts(tool: dspy.Tool) -> dict[str, str]:
    """Returns the descriptions of arguments, without the texts that DSPy's conversion adds."""
    texts = {}
    for name, text in (tool.arg_desc or {}).items():
        clean = str(text)
        if converter_of(tool.func):
            clean = clean.removesuffix(REQUIRED).strip()
            clean = "" if clean == NO_DESCRIPTION else clean
        if clean:
            texts[name] = clean
    return texts


# ---- As text ----


def call_text(tool: dspy.Tool) -> str:
    """Returns the call of a tool with the types of its arguments and of its result."""
    return f"{tool.name}{shown(tool_call_of(tool).signature)}"


def doc_text(tool: dspy.Tool) -> str:
    """Returns the documentation of a tool: its docstring, the descriptions of its arguments, its outputs."""
    call = tool_call_of(tool)
    lines = inspect.cleandoc(tool.desc or "").splitlines()
    lines += [f"{name}: {' '.join(text.split())}" for name, text in call.notes.items()]
    own = getattr(builtins, tool.name or "", None)
    if own is not None and own is not tool.func:
        lines.append(f"It hides Python's own {tool.name}, which is builtins.{tool.name} here.")
    if call.outputs:
        listed = ", ".join(f".{name}" for name in call.outputs)
        lines.append(f"Returns an object with {listed}.")
    return "\n".join(lines).strip()


def shown(signature: inspect.Signature) -> inspect.Signature:
    """Returns the signature as prompts and `help` show it: short types, and only stable defaults."""
    signature = shown_signature(signature)
    parameters = [
        parameter.replace(
            annotation=_shown_type(parameter.annotation), default=_shown_default(parameter.default)
        )
        for parameter in signature.parameters.values()
    ]
    returned = _shown_type(signature.return_annotation)
    return signature.replace(parameters=parameters, return_annotation=returned)


def _shown_type(annotation: Any) -> Any:
    if isinstance(annotation, SignatureText) or any(annotation is simple for simple in _SIMPLE):
        return annotation
    return SignatureText(type_name(annotation))


def type_name(annotation: Any) -> str:
    """Returns a type as cells can write it: their names for classes have no modules."""
    annotation = without_metadata(annotation)
    text = annotation_text(annotation)
    for cls in sorted(classes_in(annotation), key=lambda cls: -len(cls.__qualname__)):
        text = text.replace(f"{cls.__module__}.{cls.__qualname__}", cls.__name__)
        text = text.replace(cls.__qualname__, cls.__name__)
    return text


def _shown_default(value: Any) -> Any:
    if value is Parameter.empty or isinstance(value, SignatureText):
        return value
    text = _default_text(value)
    if type(value) in _PLAIN_DEFAULTS and len(text) <= MAX_DEFAULT_CHARS:
        return value
    return SignatureText(text if len(text) <= MAX_DEFAULT_CHARS else "...")


def _default_text(value: Any) -> str:
    """Returns a default as text that is the same in every process: sets have no order, enums an address."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}" if value.name else "..."
    if isinstance(value, type):
        return type_name(value)
    if type(value) in (set, frozenset) and value:
        text = f"{{{', '.join(sorted(map(_default_text, value)))}}}"
        return text if type(value) is set else f"frozenset({text})"
    if type(value) is list:
        return f"[{', '.join(map(_default_text, value))}]"
    if type(value) is tuple and value:
        return f"({', '.join(map(_default_text, value))}{',' if len(value) == 1 else ''})"
    if type(value) is dict:
        items = (f"{_default_text(key)}: {_default_text(part)}" for key, part in value.items())
        return f"{{{', '.join(items)}}}"
    return repr(value)
