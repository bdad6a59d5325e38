"""Converts a cell's signature to plain data, and results to the cell's own classes.

Runs inside the sandbox. A class is sent as its fields with their types as text, never as code;
`dspy_rlm/signatures/parser.py` parses it on the host.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import sys
import types
import typing
from typing import Any

# The module name of classes that came from the host, which knows them by name.
_HOST_MODULE = "host_types"

_PLAIN = (type(None), bool, int, float, str)

# Qualifiers of a field, which are no part of its type.
_QUALIFIERS = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")

# The most values of a list that a Literal may name: Literal[LABELS].
_MOST_VALUES = 2_000

# The values whose members a signature may name by a path: `dt.date`, `Outer.Inner`.
_HOLDERS = (types.ModuleType, type)


_CONSTRAINTS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")


class Classes:
    """Collects the classes and aliases that a signature names, by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}
        self.schemas: dict[str, dict[str, Any]] = {}

    def text(self, annotation: Any) -> str:
        """Returns a type as source text, and collects the classes in it."""
        if annotation is None or annotation is type(None):
            return "None"
        if isinstance(annotation, str):
            self.note_names(annotation)
            return annotation
        if isinstance(annotation, typing.ForwardRef):
            return self.text(annotation.__forward_arg__)
        if isinstance(annotation, typing.NewType):
            return self.text(annotation.__supertype__)
        if _is_alias_type(annotation):
            self.note_alias(annotation.__name__, annotation)
            return str(annotation.__name__)
        if isinstance(annotation, typing.TypeVar):
            return self.text(annotation.__bound__ or typing.Any)
        origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Literal:
            return f"Literal[{', '.join(map(repr, inner))}]"
        if origin is typing.Annotated or getattr(origin, "_name", None) in _QUALIFIERS:
            return self.text(inner[0])
        if origin in (typing.Union, types.UnionType):
            return " | ".join(map(self.text, inner))
        if _is_alias_type(origin):
            return self.text(origin.__value__[inner])
        if origin is not None:
            parts = ", ".join("..." if part is ... else self.text(part) for part in inner)
            return f"{self.text(origin)}[{parts}]" if inner else self.text(origin)
        if isinstance(annotation, type):
            return self._class_text(annotation)
        return str(annotation).replace("typing.", "")

    def _class_text(self, cls: type) -> str:
        if _is_usable(cls):
            self.note(cls)
            return cls.__name__
        module = cls.__module__.partition("._")[0]  # pathlib._local
        if module in ("builtins", "pathlib"):
            return cls.__name__
        return f"{module}.{cls.__qualname__}"

    def note_signature(self, text: str) -> None:
        """Collects the classes and aliases of the REPL that a signature names."""
        self._note_source(f"def f({text.replace('->', ',').strip(' ,')}): pass", ast.arg)

    def note_names(self, text: str) -> None:
        """Collects the classes and aliases of the REPL that a type names."""
        self._note_source(text.strip(), ast.Expr)

    def _note_source(self, source: str, kind: type[ast.AST]) -> None:
        try:
            tree = ast.parse(" ".join(source.split()))
        except (SyntaxError, ValueError):
            return  # the host reports the error
        for node in ast.walk(tree):
            if isinstance(node, kind):
                self._note_nodes(node)

    def _note_nodes(self, node: ast.AST, *, in_literal: bool = False) -> None:
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and not in_literal:
                self.note_names(node.value)
            return
        if isinstance(node, (ast.Name, ast.Attribute)):
            self._note_named(_path_of(node), in_literal=in_literal)
            return
        if isinstance(node, ast.Subscript):
            self._note_nodes(node.value)
            path = _path_of(node.value)
            is_literal = path.endswith("Literal") or _value_at(path) is typing.Literal
            self._note_nodes(node.slice, in_literal=in_literal or is_literal)
            return
        for child in ast.iter_child_nodes(node):
            self._note_nodes(child, in_literal=in_literal)

    def _note_named(self, path: str, *, in_literal: bool) -> None:
        """Collects the class or alias of a name, or of a path such as `dt.date`."""
        value = _value_at(path)
        if isinstance(value, type):
            if value.__module__ == "__main__" and not _is_usable(value):
                raise _without_fields(value)
            if not _is_standard(value) and _is_usable(value):
                self.note(value)
            if path not in (value.__name__, f"{value.__module__}.{value.__name__}"):
                self.note_alias(path, value)
        elif in_literal and isinstance(value, (list, tuple, set, frozenset)):
            if len(value) <= _MOST_VALUES and all(type(item) in _PLAIN for item in value):
                self.note_alias(path, typing.Literal[tuple(value)])
        elif _is_alias(value):
            self.note_alias(path, value)

    def note_alias(self, name: str, value: Any) -> None:
        """Collects an alias: a name of a type that is no class of that name."""
        if name in self.schemas:
            if self.schemas[name].get("kind") != "alias":
                raise ValueError(f"Two types of this signature are called {name!r}. Rename one.")
            return
        self.schemas[name] = {"kind": "alias", "type": "Any"}  # a recursive alias finds itself
        if _is_alias_type(value):
            value = value.__value__
        schema = {"kind": "alias", **self._field({"type": value})}
        if schema["type"] == name or schema["type"] == f"typing.{name}":
            del self.schemas[name]  # the host knows it by this name
        else:
            self.schemas[name] = schema

    def note(self, cls: Any) -> None:
        """Collects a class and the classes of its fields."""
        name = cls.__name__
        is_alias = self.schemas.get(name, {}).get("kind") == "alias"
        if is_alias or self.by_name.setdefault(name, cls) is not cls:
            raise ValueError(f"Two classes of this signature are called {name!r}. Rename one.")
        if name not in self.schemas:
            self.schemas[name] = {}
            self.schemas[name] = self._schema(cls)

    def _schema(self, cls: Any) -> dict[str, Any]:
        schema: dict[str, Any] = {"doc": (cls.__doc__ or "").strip()[:1000]}
        if _is_host(cls):
            schema["host"] = True
        if issubclass(cls, enum.Enum):
            members = {name: member.value for name, member in cls.__members__.items()}
            return {**schema, "kind": "enum", "members": members}
        kind = "named" if issubclass(cls, tuple) else "typed" if _is_typed(cls) else "record"
        return {**schema, "kind": kind, "fields": self.fields(cls)}

    def fields(self, cls: Any) -> dict[str, dict[str, Any]]:
        """Returns the fields of a class with their types, descriptions and constraints."""
        return {n: self._field(f) for n, f in (fields_of(cls) or {}).items()}

    def _field(self, facts: dict[str, Any]) -> dict[str, Any]:
        annotation = facts["type"]
        bounds = dict(facts.get("constraints", {}))
        if typing.get_origin(annotation) is typing.Annotated:
            for note in typing.get_args(annotation)[1:]:
                bounds |= _bounds(note)
        field = {**facts, "type": self.text(annotation)}
        return {**field, "constraints": bounds} if bounds else field


def fields_of(cls: Any) -> dict[str, dict[str, Any]] | None:
    """Returns the fields of a model, dataclass, named tuple or typed dict; None for another class."""
    if isinstance(models := getattr(cls, "model_fields", None), dict):
        return {name: _model_field(field) for name, field in models.items()}
    if dataclasses.is_dataclass(cls):
        return {field.name: _dataclass_field(field, cls) for field in dataclasses.fields(cls)}
    if _is_host(cls) and isinstance(names := getattr(cls, "__record_fields__", None), dict):
        return {name: {"type": "Any", "optional": True} for name in names}
    if hasattr(cls, "_fields") and issubclass(cls, tuple):
        return {name: {"type": note} for name, note in _hints(cls).items()}
    if _is_typed(cls):
        optional = cls.__optional_keys__
        return {n: {"type": t, "optional": n in optional} for n, t in _hints(cls).items()}
    return None


def _model_field(field: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": field.annotation, "optional": not field.is_required()}
    bounds: dict[str, Any] = {}
    for note in field.metadata:
        bounds |= _bounds(note)
    if field.description:
        facts["desc"] = field.description
    if bounds:
        facts["constraints"] = bounds
    return _with_default(facts, field.default, field.default_factory)


def _dataclass_field(field: Any, cls: Any) -> dict[str, Any]:
    missing = dataclasses.MISSING
    required = field.default is missing and field.default_factory is missing
    facts = {"type": _hints(cls).get(field.name, field.type), "optional": not required}
    if text := field.metadata.get("desc") or field.metadata.get("description"):
        facts["desc"] = str(text)
    return _with_default(facts, field.default, field.default_factory)


def _with_default(facts: dict[str, Any], default: Any, factory: Any) -> dict[str, Any]:
    if facts["optional"]:
        if factory in (list, dict):
            facts["default"] = factory()
        elif type(default) in _PLAIN:
            facts["default"] = default
        else:
            # The host cannot compute the default, so the LM has to provide the value.
            facts["optional"] = False
    return facts


def _bounds(note: Any) -> dict[str, Any]:
    return {
        name: getattr(note, name)
        for name in _CONSTRAINTS
        if type(getattr(note, name, None)) in _PLAIN[1:]
    }


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, vars(sys.modules["__main__"]), include_extras=True)
    except (NameError, TypeError, SyntaxError):
        return dict(getattr(cls, "__annotations__", {}))


def _is_usable(cls: Any) -> bool:
    """Returns whether a class has a schema. A plain class of the cell with annotations becomes a dataclass."""
    if _lacks_decorator(cls):  # its own annotations would not be fields
        dataclasses.dataclass(eq=False, frozen=cls.__dataclass_params__.frozen)(cls)
    if _has_schema(cls):
        return True
    own = cls.__mro__[:-1]
    annotated = [base for base in reversed(own) if _has_annotations(base)]
    is_plain = type(cls) is type and all(base.__module__ == "__main__" for base in own)
    if not (is_plain and annotated and cls.__init__ is object.__init__):
        return False
    for base in annotated:
        # `eq=True` would take the hash from instances that the cell may already have.
        dataclasses.dataclass(eq=False)(base)
    return True


def _lacks_decorator(cls: Any) -> bool:
    """Returns whether a class of the cell extends a dataclass and has annotations, but is no dataclass itself."""
    own = vars(cls).keys()
    extends = hasattr(cls, "__dataclass_fields__") and "__dataclass_fields__" not in own
    is_plain = cls.__module__ == "__main__" and "__init__" not in own
    return extends and is_plain and _has_annotations(cls)


def _has_annotations(cls: type) -> bool:
    try:
        return bool(inspect.get_annotations(cls))
    except NameError:  # Python 3.14 evaluates them now
        return True


def _without_fields(cls: type) -> TypeError:
    """Returns the error for a class of the cell that no reply could fill."""
    name = cls.__name__
    return TypeError(
        f"{name} is a class without fields that a reply could fill. Make it a @dataclass with annotated fields:\n"
        f"@dataclass\nclass {name}:\n    title: str"
    )


def _path_of(node: ast.AST) -> str:
    """Returns the source of a name, or of a path such as `dt.date`; empty where it is neither.

    `ast.unparse` would run a module of the standard library that is not restored before each cell.
    """
    if isinstance(node, ast.Attribute):
        return f"{_path_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _value_at(path: str) -> Any:
    """Returns the value of a name of the REPL, or of a member of a module or class; None if there is none."""
    root, *members = path.split(".")
    value = vars(sys.modules["__main__"]).get(root)
    for member in members:
        value = getattr(value, member, None) if isinstance(value, _HOLDERS) else None
    return value


def _is_alias_type(value: Any) -> bool:
    """Returns whether a value comes from a `type X = ...` statement, or from `TypeAliasType`."""
    return hasattr(value, "__type_params__") and type(value).__name__ == "TypeAliasType"


def _is_alias(value: Any) -> bool:
    return (
        typing.get_origin(value) is not None
        or _is_alias_type(value)
        or isinstance(value, typing.TypeVar)
        or type(value).__module__ == "typing"
    )


def _has_schema(cls: type) -> bool:
    return fields_of(cls) is not None or issubclass(cls, enum.Enum)


def _is_typed(cls: Any) -> bool:
    return hasattr(cls, "__required_keys__") and hasattr(cls, "__total__")


def _is_host(cls: Any) -> bool:
    return getattr(cls, "__module__", "") == _HOST_MODULE


def _is_standard(cls: type) -> bool:
    return (
        cls.__module__.partition(".")[0] in sys.stdlib_module_names and cls.__module__ != "__main__"
    )


# ---- A signature, and back -------------------------------------------------------------------------


def describe_signature(signature: Any) -> tuple[Any, Classes, Any]:
    """Returns a signature as plain data, the classes that it names, and the class of the result, if any."""
    classes = Classes()
    if hasattr(signature, "__dspy_spec__"):
        spec = signature.__dspy_spec__(classes)
        return {**spec, "classes": classes.schemas}, classes, None
    if isinstance(signature, str):
        classes.note_signature(signature)
        if not classes.schemas:
            return signature, classes, None
        return {"signature": signature, "classes": classes.schemas}, classes, None
    if isinstance(signature, type) and _is_usable(signature) and fields_of(signature) is not None:
        classes.note(signature)
        spec = {"class": signature.__name__, "classes": classes.schemas}
        if signature.__doc__ and not signature.__doc__.startswith(f"{signature.__name__}("):
            spec["instructions"] = signature.__doc__.strip()
        return spec, classes, signature
    if isinstance(signature, dict):
        fields = {name: _entry(entry, classes) for name, entry in signature.items()}
        return {"fields": fields, "classes": classes.schemas}, classes, None
    if isinstance(signature, type):
        if signature.__module__ == "__main__" and not issubclass(signature, enum.Enum):
            raise _without_fields(signature)
        raise TypeError(
            f"{signature.__name__} has no fields to ask for. Write 'text -> answer: {signature.__name__}'."
        )
    return signature, classes, None


def _entry(entry: Any, classes: Classes) -> dict[str, Any]:
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], str):
        return {**classes._field({"type": entry[0]}), "desc": entry[1]}
    if isinstance(entry, dict):
        return {**entry, "type": classes.text(entry.get("type", str))}
    return classes._field({"type": entry})


def to_cell_classes(value: Any, classes: Classes) -> Any:
    """Converts the parts of a result that belong to the cell's own classes to instances of them."""
    kind = type(value)
    if kind is list:
        return [to_cell_classes(item, classes) for item in value]
    if kind is dict:
        return {key: to_cell_classes(item, classes) for key, item in value.items()}
    if kind in (tuple, set, frozenset):
        return kind(to_cell_classes(item, classes) for item in value)
    if not _is_host(kind):
        return value
    cls = classes.by_name.get(kind.__name__)
    if cls is None or cls is kind:
        return value
    if isinstance(value, enum.Enum):
        return cls(value.value)
    if isinstance(value, tuple):
        return cls(*(to_cell_classes(item, classes) for item in value))
    return cls(**{name: to_cell_classes(item, classes) for name, item in vars(value).items()})


def rebuild_result(value: Any, classes: Classes, cls: Any = None) -> Any:
    """Converts a record of outputs to the cell's own classes; to an instance of `cls` if it is passed."""
    if not hasattr(type(value), "__record_fields__"):
        return value
    outputs = {name: to_cell_classes(item, classes) for name, item in vars(value).items()}
    if cls is not None:
        return cls(**outputs)
    vars(value).update(outputs)
    return value
