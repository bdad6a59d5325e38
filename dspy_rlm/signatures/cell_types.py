"""The types that a cell's signature may name, built from text without evaluating it.

The cell is not trusted, so names are resolved only in the allow-list below, among the classes that the run
itself declares, and among the cell's own classes, which are rebuilt from their fields without their code.
"""

from __future__ import annotations

import ast
import collections.abc
import datetime
import decimal
import enum
import fractions
import pathlib
import typing
import uuid
from collections.abc import Collection, Mapping
from typing import Any, ForwardRef

import dspy
import pydantic

# Pydantic refuses `typing.TypedDict` before Python 3.12.
from typing_extensions import TypedDict

from dspy_rlm.signatures.cell_data import (
    MOST_CHARS,
    MOST_PARTS,
    as_mapping,
    as_text,
    facts_of,
    too_many_parts,
)
from dspy_rlm.signatures.constraints import UNUSABLE, constrained
from dspy_rlm.signatures.patterns import Patterns
from dspy_rlm.values.python_text import literal_of, syntax_tree

_TYPING = (
    *(
        "Annotated",
        "Any",
        "Optional",
        "Union",
        "Literal",
        "List",
        "Dict",
        "Tuple",
        "Set",
        "FrozenSet",
    ),
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
_BUILTINS = (str, int, float, bool, bytes, complex, list, dict, tuple, set, frozenset)
_NAMES: dict[str, Any] = {
    **{cls.__name__: cls for cls in _BUILTINS},
    # By name alone, the types of `collections.abc` are those of `typing`.
    **{
        n: t
        for module, types in _MODULES.items()
        if module != "collections.abc"
        for n, t in types.items()
    },
    "None": None,
    "NoneType": None,
    "object": Any,
}

# The number of unhashable members of an enum: Python compares each with all before it.
_MOST_UNHASHABLE = 100


def class_kinds(modules: Collection[str] = ()) -> str:
    """Returns the kinds of classes that a cell can define, in words; `modules` are the importable packages."""
    model = ", a Pydantic model" if "pydantic" in modules else ""
    return f"a dataclass, an Enum, a TypedDict, a NamedTuple{model}"


class CellTypes:
    """The types that a signature may name. Its own classes are built when they are needed."""

    def __init__(
        self,
        own_classes: Mapping[str, type],
        classes: Mapping[str, Any],
        kinds: str = "",
    ) -> None:
        """Takes the classes of the run and those of the cell; `kinds` is for messages (see `class_kinds`)."""
        self._own_classes = own_classes
        self._schemas = classes
        self._kinds = kinds or class_kinds()
        self._alias_chars = 0
        self._built: dict[str, Any] = {}
        self._open: set[str] = set()
        self._parts = 0
        self.patterns = Patterns()

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > MOST_PARTS:
            raise too_many_parts()

    def parse(self, text: str) -> Any:
        """Parses a type that is written as text."""
        try:
            return self.read(syntax_tree(text.strip(), "eval").body)
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
        if isinstance(own, Mapping) and own.get("kind") == "alias":
            return self._alias(name, own)
        if name in self._own_classes and (own is None or facts_of(own).get("host")):
            return self._own_classes[name]
        if name in self._built:
            return self._built[name]
        if name in self._open:
            return ForwardRef(name)
        if name in self._schemas:
            self._open.add(name)
            facts = as_mapping(self._schemas[name], "classes")
            self._built[name] = self._class(name, facts)
            self._open.discard(name)
            return self._built[name]
        if name in _NAMES:
            return _NAMES[name]
        raise self._unknown(name)

    def _alias(self, name: str, facts: Mapping[str, Any]) -> Any:
        """Builds the type of an alias, where it is named again: its parts count each time.

        Shared types of types would double with each level, and Pydantic builds all of them. Within itself, an alias
        is any value.
        """
        if name in self._open:
            return Any
        text = as_text(facts.get("type") or "Any")
        bounds = as_mapping(facts.get("constraints") or {}, "constraints").values()
        self._alias_chars += len(text) + sum(len(one) for one in bounds if isinstance(one, str))
        if self._alias_chars > MOST_CHARS:
            raise ValueError(f"The signature is longer than {MOST_CHARS:,} characters.")
        self._open.add(name)
        try:
            return constrained(self.parse(text), facts, self.patterns)
        finally:
            self._open.discard(name)

    def _attribute(self, path: str) -> Any:
        if path in self._schemas:
            return self.named(path)
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
            f"typing{f', the types {own}' if own else ''}, and types that the cell itself defines: an alias, "
            f"{self._kinds}."
        )

    def _generic(self, base: Any, inner: ast.expr, text: str) -> Any:
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        self._count(len(parts))
        if base is typing.Literal:
            values = [value for part in parts for value in self._literals(part, text)]
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

    def _literals(self, node: ast.expr, text: str) -> list[Any]:
        """Returns the values of a part of a Literal: its own, or those of an alias, `Literal[LABELS]`."""
        match node:
            case (
                ast.Starred(value=inner)
                | ast.Call(func=ast.Name(id="tuple" | "list" | "sorted"), args=[inner], keywords=[])
            ):
                return self._literals(inner, text)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                is_known = isinstance(node, ast.Subscript) or ast.unparse(node) in self._schemas
                named = self.read(node) if is_known else None
                if typing.get_origin(named) is typing.Literal:
                    return list(typing.get_args(named))
        return [_literal(node, text)]

    # ---- Classes of a cell ----

    def _class(self, name: str, facts: Mapping[str, Any]) -> Any:
        """Builds a class with the fields or members of a cell's class, and none of its code."""
        kind, doc = facts.get("kind"), as_text(facts.get("doc") or "")
        if not name.isidentifier():
            raise ValueError(f"{name!r} cannot be the name of a class.")
        if kind == "enum":
            members = as_mapping(facts.get("members"), "members")
            self._count(len(members))
            if sum(not _is_hashable(value) for value in members.values()) > _MOST_UNHASHABLE:
                raise ValueError(
                    f"The enum {name} has more than {_MOST_UNHASHABLE} members that are lists or dicts. Use "
                    "texts, numbers or tuples."
                )
            members_class: Any = enum.Enum(name, dict(members), module="cell")  # type: ignore[misc]
            return members_class
        fields = as_mapping(facts.get("fields"), "fields")
        self._count(len(fields))
        types = {
            n: self.parse(as_text(facts_of(f).get("type") or "Any")) for n, f in fields.items()
        }
        if kind == "named":
            return typing.NamedTuple(name, list(types.items()))
        if kind == "typed":
            optional = {n for n, f in fields.items() if facts_of(f).get("optional")}
            return TypedDict(  # type: ignore[operator]
                name, {n: typing.NotRequired[t] if n in optional else t for n, t in types.items()}
            )
        definitions: dict[str, Any] = {}
        for field_name, entry in fields.items():
            notes = facts_of(entry)
            default = notes.get("default") if notes.get("optional") else ...
            field = pydantic.Field(default, description=notes.get("desc") or None)
            definitions[field_name] = (constrained(types[field_name], notes, self.patterns), field)
        try:
            return pydantic.create_model(
                name, __module__="cell", __doc__=doc or None, **definitions
            )
        except UNUSABLE as error:
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


def _literal(node: ast.expr, text: str) -> Any:
    try:
        value = literal_of(node)
    except ValueError:
        value = ...
    if not isinstance(value, (str, int, bytes, bool, type(None))):
        raise ValueError(f"{text!r:.200}: a Literal holds texts and whole numbers only.")
    return value
