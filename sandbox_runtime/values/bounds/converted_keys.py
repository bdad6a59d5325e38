"""Checks the keys that type conversion creates, before the dict or set is built.

`key_collisions.py` checks keys as they arrive. Conversion can create others: a list becomes a set, a text becomes a
number, an address or a record. So each part that may become a key is first converted on its own, into a list, and the
list is checked.

A text that is declared as `pydantic.Json` is parsed for this. Validators of the user's own types are the user's code: what
they build from a text is not checked.
"""

from __future__ import annotations

import collections.abc
import datetime
import functools
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from sandbox_runtime.host_costs import FEW_KEYS
from sandbox_runtime.values.annotations import cached_by_type, types_in
from sandbox_runtime.values.bounds.conversion_cost import check_effort
from sandbox_runtime.values.bounds.conversion_errors import check_errors
from sandbox_runtime.values.bounds.flags import bounded_flags
from sandbox_runtime.values.bounds.key_collisions import check_keys

_SETS = (set, frozenset, collections.abc.Set)
_CONTAINERS = (list, tuple, set, frozenset, Mapping)
_TEXTS = (str, bytes, bytearray)

# Types with randomized hashes, or with few values.
_SECRET = frozenset({str, bytes, bool, type(None), datetime.date, datetime.time})

_NO_KEY: Any = object()


def check_making(annotation: Any, value: Any) -> None:
    """Raises `ValueError` if converting a value to the type costs too much: tries, errors or colliding keys."""
    check_effort(annotation, value)
    check_tree(annotation, value)


def check_tree(annotation: Any, value: Any) -> None:
    """Does the same, except for the tries: those of a text were estimated before it became a value."""
    check_errors(annotation, value)
    check_made_keys(annotation, value)


def check_made_keys(annotation: Any, value: Any) -> None:
    """Raises `ValueError` if converting a value to the type would build a dict or set of colliding keys."""
    kinds = _kinds(annotation)
    if not kinds:
        return
    has_json = _has_json(annotation)
    if has_json or isinstance(value, _CONTAINERS):
        with bounded_flags(annotation):
            _check_below([value] if isinstance(value, _TEXTS) else value, kinds, has_json=has_json)


@cached_by_type
def _has_json(annotation: Any) -> bool:
    """Returns whether a type, or a field of its classes, is a text of JSON that Pydantic parses."""
    return any("Json" in repr(part) or "Json" in _notes_of(part) for part in types_in(annotation))


def _notes_of(cls: Any) -> str:
    """Returns the types of a class's fields with their annotations, which `field_types` leaves out."""
    if not isinstance(cls, type):
        return ""
    if isinstance(fields := getattr(cls, "model_fields", None), dict):
        return repr([field.metadata for field in fields.values()])
    try:
        return repr(typing.get_type_hints(cls, include_extras=True))
    except (NameError, TypeError, SyntaxError):
        return ""


@cached_by_type
def _kinds(annotation: Any) -> tuple[Any, ...]:
    """Returns the types of the keys and elements in a type and its classes' fields, except those with randomized hashes."""
    keys = (key for part in types_in(annotation) for key in _keys_of(part) if not _is_secret(key))
    return tuple({repr(key): key for key in keys}.values())


def _keys_of(annotation: Any) -> Iterator[Any]:
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if isinstance(kind, type) and issubclass(kind, (*_SETS, Mapping)):
        yield inner[0] if inner else Any


def _is_secret(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_secret(get_args(annotation)[0])
    if get_origin(annotation) is typing.Literal:
        return True
    return annotation in _SECRET if isinstance(annotation, type) else False


def _check_below(value: Any, kinds: tuple[Any, ...], *, has_json: bool) -> None:
    """Checks the innermost containers first: an element may itself be a set."""
    visited: dict[int, Any] = {}
    waiting: list[tuple[Any, bool]] = [(value, False)]
    while waiting:
        part, is_ready = waiting.pop()
        if is_ready:
            for kind in kinds:
                _check(part, kind)
            continue
        if id(part) in visited:
            continue
        visited[id(part)] = part
        waiting.append((part, True))
        items = [*part.keys(), *part.values()] if isinstance(part, Mapping) else part
        if has_json:
            items = [_from_json(item) if isinstance(item, _TEXTS) else item for item in items]
        waiting += [(item, False) for item in items if isinstance(item, _CONTAINERS)]


def _from_json(text: Any) -> Any:
    """Returns the content of a text of JSON, by the parser of `pydantic.Json`; None for other texts."""
    import pydantic_core  # imported lazily, to keep the start of a session fast

    try:
        return pydantic_core.from_json(text)
    except ValueError:
        return None


def _check(part: Any, kind: Any) -> None:
    """Checks the keys that the items of a list, or the names of an object, would become."""
    if len(part) <= FEW_KEYS:
        return
    if set(map(type, part)) == {kind}:
        if not isinstance(part, (list, tuple)):
            return  # they are keys already, and stay unchanged
        keys = list(part)
    else:
        keys = [key for key in _converted(list(part), kind) if key is not _NO_KEY]
    check_keys(keys)


def _converted(items: list[Any], kind: Any) -> list[Any]:
    try:
        result: list[Any] = _validator(kind)(items)
    except TypeError:  # an unhashable type
        result = _new_validator(kind)(items)
    return result


def _new_validator(kind: Any) -> Any:
    """Returns a function that converts items to keys, in a list; it skips invalid and unhashable ones."""
    import pydantic  # imported lazily, to keep the start of a session fast

    def key(item: Any, convert: Any) -> Any:
        try:
            check_effort(kind, item)
            result = convert(item)
            hash(result)
        except Exception:  # noqa: BLE001 - a type's own validation may raise anything
            return _NO_KEY
        return result

    checked = Annotated[kind, pydantic.WrapValidator(key)]
    config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    return pydantic.TypeAdapter(list[checked], config=config).validate_python


_validator = functools.lru_cache(maxsize=256)(_new_validator)
