"""Converts the signature that a cell wrote (text, fields or classes) to a DSPy signature, on the host.

The cell is not trusted, so names are resolved only in the allow-list below and among the classes that the
run itself declares. DSPy's own parser imports the modules that a signature mentions.
"""

from __future__ import annotations

import ast
import collections.abc
import datetime
import decimal
import enum
import fractions
import keyword
import pathlib
import re
import typing
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ForwardRef

import dspy
import pydantic
import pydantic_core

from dspy_rlm.dspy_internals.signatures import IS_TYPE_UNDEFINED
from dspy_rlm.values.previews import VALUE_CHARS, short_repr
from sandbox_runtime.helpers import (
    MAX_MATCHED_CHARS,
    MAX_PATTERN_CHARS,
    MAX_REPETITIONS,
)

EXAMPLE = "'text, question -> answer: str, lines: list[int]'"

# `dspy.Predict` would take inputs with these names for options.
_TAKEN_INPUTS = frozenset({"signature", "new_signature", "demos", "config", "lm", "prediction"})

# Larger than any sensible signature. The host builds all of it before an LM call is charged, so it must be
# cheap: 2,000 parts take about 0.2 s of CPU time.
_MOST_FIELDS = 100
_MOST_CHARS = 100_000
_MOST_PARTS = 2_000  # fields of all classes, members, literal values, nested types
_MOST_ARROWS = 100  # the text is parsed at each of them
_MOST_INSTRUCTION_CHARS = 1_000_000

_TYPING = (
    *("Any", "Optional", "Union", "Literal", "List", "Dict", "Tuple", "Set", "FrozenSet"),
    *("Sequence", "Mapping", "Iterable"),
)
_MODULES: dict[str, dict[str, Any]] = {
    "datetime": {n: getattr(datetime, n) for n in ("date", "datetime", "time", "timedelta")},
    "decimal": {"Decimal": decimal.Decimal},
    "fractions": {"Fraction": fractions.Fraction},
    "uuid": {"UUID": uuid.UUID},
    "pathlib": {"Path": pathlib.PurePosixPath, "PurePath": pathlib.PurePosixPath},
    "typing": {n: getattr(typing, n) for n in _TYPING},
    "collections.abc": {
        n: getattr(collections.abc, n) for n in ("Sequence", "Mapping", "Iterable")
    },
    "dspy": {n: getattr(dspy, n) for n in ("Image", "Audio", "File", "History", "Code")},
}
_BUILTINS = (*(str, int, float, bool, bytes, complex, list, dict, tuple, set, frozenset),)
_NAMES: dict[str, Any] = {
    **{cls.__name__: cls for cls in _BUILTINS},
    **_MODULES["typing"],
    **_MODULES["decimal"],
    **_MODULES["fractions"],
    **_MODULES["uuid"],
    **_MODULES["datetime"],
    **_MODULES["pathlib"],
    **_MODULES["dspy"],
    "None": None,
    "NoneType": None,
    "object": Any,
}

# The exceptions of Pydantic for a type or a constraint that it cannot compile.
_UNUSABLE = (
    TypeError,
    ValueError,
    NameError,
    RecursionError,
    pydantic.errors.PydanticUserError,
    pydantic_core.SchemaError,
)

# The number of unhashable members of an enum: Python compares each with all before it.
_MOST_UNHASHABLE = 100

# The constraints that a field of a class may have, as arguments of `pydantic.Field`.
_CONSTRAINTS = frozenset(
    {"ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern"}
)


def signature_of(
    source: Any, arguments: Mapping[str, Any], own_classes: Mapping[str, type]
) -> type[dspy.Signature]:
    """Converts the signature that a cell wrote.

    Args:
        source: Text, or the dict to which `repl/guest/signatures.py` converts everything else.
        arguments: The inputs of the call. Where the signature has only outputs, these are its inputs.
        own_classes: The run's own classes by name.

    Raises:
        ValueError: It is not a signature, or names an unknown type; the message says what to do.
    """
    if isinstance(source, str):
        source = {"signature": source}
    if not isinstance(source, Mapping):
        raise ValueError(
            f"A signature is a text like {EXAMPLE}, a dict of output fields, or a class, not "
            f"{type(source).__name__}."
        )
    _check_size(source)
    types = _Types(own_classes, _mapping(source.get("classes", {}), "classes"))
    if "signature" in source:
        inputs, outputs = _read_text(_text(source["signature"]), types)
    elif "class" in source:
        inputs, outputs = {}, _fields_of_class(types.named(_text(source["class"])))
    else:
        inputs, outputs = _read_fields(_mapping(source.get("fields", source), "fields"), types)
    for name in arguments:
        if "signature" not in source and name not in inputs:
            inputs[name] = outputs.pop(name, _Field(_input_type(arguments[name]), "", typed=False))
    _check_names(inputs, outputs)
    types.complete()
    return _build(inputs, outputs, _text(source.get("instructions") or ""))


def _check_size(source: Mapping[str, Any]) -> None:
    """Refuses a signature that would take long to build. Nothing is built yet."""
    text = source.get("instructions")
    if isinstance(text, str) and len(text) > _MOST_INSTRUCTION_CHARS:
        raise ValueError(
            f"The instructions have more than {_MOST_INSTRUCTION_CHARS:,} characters. Pass long text as an "
            "input."
        )
    parts = chars = 0
    pending: list[Any] = [{name: value for name, value in source.items() if name != "instructions"}]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            pending += value
        elif isinstance(value, (str, bytes)):
            chars += len(value)
        # An entry is a name and facts, each with a name and a value: five items for one part.
        parts += 1
        if parts > 10 * _MOST_PARTS:
            raise _too_many_parts()
        if chars > _MOST_CHARS:
            raise ValueError(f"The signature is longer than {_MOST_CHARS:,} characters.")


def _too_many_parts() -> ValueError:
    return ValueError(
        f"The signature has more than {_MOST_PARTS:,} parts: fields of classes, members of enums, values of "
        "literals. Ask for a text where there are so many values, and check it in the cell."
    )


class _Field(typing.NamedTuple):
    """A field as the cell wrote it."""

    annotation: Any
    description: str
    typed: bool = True


def _build(
    inputs: Mapping[str, _Field], outputs: Mapping[str, _Field], instructions: str
) -> type[dspy.Signature]:
    fields: dict[str, Any] = {}
    for name, field in inputs.items():
        options: dict[str, Any] = {IS_TYPE_UNDEFINED: not field.typed}
        options |= {"desc": field.description} if field.description else {}
        fields[name] = (field.annotation, dspy.InputField(**options))
    for name, field in outputs.items():
        options = {"desc": field.description} if field.description else {}
        fields[name] = (field.annotation, dspy.OutputField(**options))
    with warnings.catch_warnings():
        # A field named like a method of Pydantic (`copy`, `json`) only causes a warning.
        warnings.simplefilter("ignore", UserWarning)
        try:
            result: type[dspy.Signature] = dspy.Signature(fields, instructions or None)
        except _UNUSABLE as error:
            raise ValueError(f"The signature cannot be used: {error}") from error
    return result


def _check_names(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    if not outputs:
        raise ValueError(f"The signature has no output. Write it like {EXAMPLE}.")
    if len(inputs) + len(outputs) > _MOST_FIELDS:
        raise ValueError(f"The signature has more than {_MOST_FIELDS} fields.")
    for name in (*inputs, *outputs):
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith(("_", "model_")):
            raise ValueError(f"{name!r} cannot be a field of a signature. Rename it.")
    for name in sorted(_TAKEN_INPUTS & set(inputs)):
        raise ValueError(f"An input of a sub-call cannot be called {name!r}. Rename it.")
    for name in sorted(set(inputs) & set(outputs)):
        raise ValueError(f"{name!r} is an input and an output. Rename one.")


def _input_type(value: Any) -> Any:
    """Returns the type of an input that was passed but not declared."""
    return type(value) if isinstance(value, dspy.Type) else Any if value is None else str


# ---- The forms of a signature ----------------------------------------------------------------------


def _read_text(text: str, types: _Types) -> tuple[dict[str, _Field], dict[str, _Field]]:
    if len(text) > _MOST_CHARS:
        raise ValueError(f"The signature is longer than {_MOST_CHARS:,} characters.")
    arrows = [match.start() for match in re.finditer("->", text)]
    if len(arrows) > _MOST_ARROWS:
        raise ValueError(
            f"The signature has more than {_MOST_ARROWS} '->'. Write it like {EXAMPLE}."
        )
    for at in arrows:  # a Literal may contain an arrow as well
        before, after = _arguments(text[:at]), _arguments(text[at + 2 :])
        if before is not None and after is not None:
            return _read_arguments(before, types, text), _read_arguments(after, types, text)
    problem = "it has no '->'" if not arrows else "its fields cannot be read"
    raise ValueError(
        f"{short_repr(text, VALUE_CHARS)} is not a signature: {problem}. Write it like {EXAMPLE}."
    )


def _arguments(text: str) -> list[ast.arg] | None:
    """Parses the fields of one side as parameters of a function; None if they are not."""
    try:
        tree = ast.parse(f"def f({' '.join(text.split())}): pass")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    body = tree.body[0]
    if len(tree.body) != 1 or not isinstance(body, ast.FunctionDef) or body.returns is not None:
        return None
    parameters = body.args
    plain = not (
        parameters.posonlyargs or parameters.kwonlyargs or parameters.vararg or parameters.kwarg
    )
    return parameters.args if plain and not parameters.defaults else None


def _read_arguments(arguments: Sequence[ast.arg], types: _Types, text: str) -> dict[str, _Field]:
    fields: dict[str, _Field] = {}
    for argument in arguments:
        if argument.arg in fields:
            raise ValueError(
                f"{short_repr(text, VALUE_CHARS)} has the field {argument.arg!r:.100} twice. Rename one."
            )
        if argument.annotation is None:
            fields[argument.arg] = _Field(str, "", typed=False)
        else:
            fields[argument.arg] = _Field(types.read(argument.annotation), "")
    return fields


def _read_fields(
    fields: Mapping[str, Any], types: _Types
) -> tuple[dict[str, _Field], dict[str, _Field]]:
    inputs: dict[str, _Field] = {}
    outputs: dict[str, _Field] = {}
    for name, entry in fields.items():
        facts = entry if isinstance(entry, Mapping) else {"type": entry}
        annotation = types.parse(_text(facts.get("type") or "str"))
        field = _Field(_constrained(annotation, facts), _text(facts.get("desc") or ""))
        (inputs if facts.get("input") else outputs)[_text(name)] = field
    return inputs, outputs


def _fields_of_class(cls: Any) -> dict[str, _Field]:
    if isinstance(fields := getattr(cls, "model_fields", None), dict):
        return {
            name: _Field(field.rebuild_annotation(), field.description or "")
            for name, field in fields.items()
        }
    try:
        notes = typing.get_type_hints(cls)
    except (NameError, TypeError):
        notes = {}
    if not notes or issubclass(cls, enum.Enum):
        raise ValueError(
            f"{cls.__name__} has no fields to ask for. For a single value write {EXAMPLE}."
        )
    return {name: _Field(note, "") for name, note in notes.items()}


def _constrained(annotation: Any, facts: Mapping[str, Any]) -> Any:
    bounds = _mapping(facts.get("constraints") or {}, "constraints")
    bounds = {n: v for n, v in bounds.items() if n in _CONSTRAINTS and type(v) in (int, float, str)}
    if "pattern" in bounds:
        annotation = _matching(annotation, bounds.pop("pattern"))
    return typing.Annotated[annotation, pydantic.Field(**bounds)] if bounds else annotation


def _matching(annotation: Any, pattern: Any) -> Any:
    """Returns the type of texts that match the cell's pattern. Pattern and texts are bounded in length."""
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(f"A pattern is a text of at most {MAX_PATTERN_CHARS} characters.")
    repetitions = 1
    for least, most in re.findall(r"\{\s*(\d+)\s*,?\s*(\d*)\s*\}", pattern):
        repetitions *= max(1, int((most or least)[:9]))
    if repetitions > MAX_REPETITIONS:
        raise ValueError(
            f"The pattern {pattern!r:.200} repeats its parts more than {MAX_REPETITIONS} times; use * or +."
        )
    try:
        match = pydantic.TypeAdapter(
            typing.Annotated[str, pydantic.Field(pattern=pattern)]
        ).validate_python
    except _UNUSABLE as error:
        raise ValueError(f"The pattern {pattern!r:.200} cannot be used: {error}"[:500]) from error

    def check(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if len(value) > MAX_MATCHED_CHARS:
            raise ValueError(f"a text for a pattern has at most {MAX_MATCHED_CHARS:,} characters")
        try:
            match(value)
        except pydantic.ValidationError:
            raise ValueError(f"String should match pattern '{pattern}'") from None
        return value

    checked: Any = typing.Annotated[annotation, pydantic.AfterValidator(check)]
    if annotation is not str:
        return checked
    schema = pydantic.WithJsonSchema({"type": "string", "pattern": pattern})
    return typing.Annotated[checked, schema]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"The signature cannot be read: {short_repr(value, VALUE_CHARS)} should be text."
        )
    return value


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(
            f"The signature cannot be read: its {what} are not a dict with names as keys."
        )
    return value


# ---- Types -----------------------------------------------------------------------------------------


class _Types:
    """The types that a signature may name. Its own classes are built when they are needed."""

    def __init__(self, own_classes: Mapping[str, type], classes: Mapping[str, Any]) -> None:
        self._own_classes = own_classes
        self._schemas = classes
        self._built: dict[str, Any] = {}
        self._open: set[str] = set()
        self._parts = 0

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > _MOST_PARTS:
            raise _too_many_parts()

    def parse(self, text: str) -> Any:
        """Parses a type that is written as text."""
        try:
            return self.read(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"{text!r:.200} is not a type.") from None

    def read(self, node: ast.expr) -> Any:
        """Builds a type from its syntax tree. Nothing is evaluated."""
        self._count(1)
        match node:
            case ast.Name(id=name):
                return self.named(name)
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=str(text)):
                return self.parse(text)
            case ast.Attribute():
                return self._attribute(ast.unparse(node))
            case ast.BinOp(op=ast.BitOr()):
                return typing.Union[tuple(map(self.read, _alternatives(node)))]  # noqa: UP007
            case ast.Subscript(value=base, slice=inner):
                return self._generic(self.read(base), inner, ast.unparse(node))
        raise ValueError(f"{ast.unparse(node)!r:.200} is not a type that a signature can have.")

    def named(self, name: str) -> Any:
        """Resolves a name to a class of the run, a class of the signature, or a standard type."""
        own = self._schemas.get(name)
        if name in self._own_classes and (own is None or _facts(own).get("host")):
            return self._own_classes[name]
        if name in self._built:
            return self._built[name]
        if name in self._open:
            return ForwardRef(name)
        if name in self._schemas:
            self._open.add(name)
            facts = _mapping(self._schemas[name], "classes")
            self._built[name] = self._class(name, facts)
            self._open.discard(name)
            return self._built[name]
        if name in _NAMES:
            return _NAMES[name]
        raise self._unknown(name)

    def _attribute(self, path: str) -> Any:
        module, _, name = path.rpartition(".")
        if name in _MODULES.get(module, {}):
            return _MODULES[module][name]
        if name in self._own_classes or name in self._schemas:
            return self.named(name)
        raise self._unknown(path)

    def _unknown(self, name: str) -> ValueError:
        own = ", ".join(sorted({*self._own_classes, *self._schemas}))
        return ValueError(
            f"The type {name!r} is not known. A signature can name builtins, datetime, decimal, uuid and "
            f"typing{f', the classes {own}' if own else ''}, and classes that the cell itself defines "
            "(a Pydantic model, a dataclass, an Enum)."
        )

    def _generic(self, base: Any, inner: ast.expr, text: str) -> Any:
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        self._count(len(parts))
        if base is typing.Literal:
            values = [_literal(part, text) for part in parts]
            return typing.Literal[tuple(values)]
        if base is typing.Annotated:
            return self.read(parts[0])
        read = tuple(
            ... if isinstance(p, ast.Constant) and p.value is ... else self.read(p) for p in parts
        )
        try:
            return base[read if len(read) > 1 else read[0]]
        except (TypeError, KeyError) as error:
            raise ValueError(f"{text!r:.200} is not a type: {error}.") from error

    # ---- Classes of a cell ----

    def _class(self, name: str, facts: Mapping[str, Any]) -> Any:
        """Builds a class with the fields or members of a cell's class, and none of its code."""
        kind, doc = facts.get("kind"), _text(facts.get("doc") or "")
        if not name.isidentifier():
            raise ValueError(f"{name!r} cannot be the name of a class.")
        if kind == "enum":
            members = _mapping(facts.get("members"), "members")
            self._count(len(members))
            if sum(not _is_hashable(value) for value in members.values()) > _MOST_UNHASHABLE:
                raise ValueError(
                    f"The enum {name} has more than {_MOST_UNHASHABLE} members that are lists or dicts. Use "
                    "texts, numbers or tuples."
                )
            members_class: Any = enum.Enum(name, dict(members), module="cell")  # type: ignore[misc]
            return members_class
        fields = _mapping(facts.get("fields"), "fields")
        self._count(len(fields))
        types = {n: self.parse(_text(_facts(f).get("type") or "Any")) for n, f in fields.items()}
        if kind == "named":
            return typing.NamedTuple(name, list(types.items()))
        if kind == "typed":
            optional = {n for n, f in fields.items() if _facts(f).get("optional")}
            return typing.TypedDict(  # type: ignore[operator]
                name, {n: typing.NotRequired[t] if n in optional else t for n, t in types.items()}
            )
        definitions: dict[str, Any] = {}
        for field_name, facts_of in ((n, _facts(f)) for n, f in fields.items()):
            default = facts_of.get("default") if facts_of.get("optional") else ...
            field = pydantic.Field(default, description=facts_of.get("desc") or None)
            definitions[field_name] = (_constrained(types[field_name], facts_of), field)
        try:
            return pydantic.create_model(
                name, __module__="cell", __doc__=doc or None, **definitions
            )
        except _UNUSABLE as error:
            raise ValueError(f"The class {name} cannot be used in a signature: {error}") from error

    def complete(self) -> None:
        """Resolves the forward references between classes."""
        for cls in self._built.values():
            if isinstance(cls, type) and issubclass(cls, pydantic.BaseModel):
                cls.model_rebuild(_types_namespace=dict(self._built), raise_errors=False)


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """Returns the types between the bars of a union, which Python nests to the left."""
    members: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        members.append(node.right)
        node = node.left
    return [node, *reversed(members)]


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _facts(entry: Any) -> Mapping[str, Any]:
    return entry if isinstance(entry, Mapping) else {"type": entry}


def _literal(node: ast.expr, text: str) -> Any:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = ...
    if not isinstance(value, (str, int, bytes, bool, type(None))):
        raise ValueError(f"{text!r:.200}: a Literal holds texts and whole numbers only.")
    return value
