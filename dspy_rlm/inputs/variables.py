"""The variables that a run gets of its inputs: their names, their values and their types.

With a signature, its fields are filled in the order of the inputs, or by name as in `contract=a.pdf`. Without one, the kind of an input
names its variable. Knows no DSPy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspy_rlm.errors import InputError, SignatureError
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.gathering import Argument, Skipped, Source, gather, skipped_summary
from dspy_rlm.inputs.items import Item
from dspy_rlm.inputs.paths import named

FILES, TABLES = "files", "tables"


@dataclass(frozen=True)
class Variable:
    """One input of the run, and the files that it comes from."""

    name: str
    value: Any
    annotation: str
    """Its type in a signature."""

    items: Sequence[Item] = ()
    notes: Sequence[str] = ()
    skipped: Sequence[Skipped] = ()


@dataclass
class Group:
    """The arguments that one variable gets."""

    name: str
    """Empty: named by what it is."""

    arguments: list[Argument] = field(default_factory=list)


def group(arguments: Sequence[Argument], fields: Sequence[str] | None) -> list[Group]:
    """Returns the arguments of each variable.

    Args:
        arguments: The inputs, some with a name.
        fields: The inputs of the signature, without the question; None for no signature.

    Raises:
        SignatureError: They do not fit the fields.
    """
    pairs = [named(argument) for argument in arguments]
    groups: dict[str, Group] = {}
    for name, argument in pairs:
        if name:
            groups.setdefault(name, Group(name)).arguments.append(argument)
    rest = [argument for name, argument in pairs if not name]
    if fields is None:
        return [*([Group("", rest)] if rest else []), *groups.values()]
    unknown = next((name for name in groups if name not in fields), None)
    if unknown is not None:
        raise SignatureError(
            f"The signature has no input {unknown!r}, which an argument names. It has {_listed(fields)} and 'question'."
        )
    free = [name for name in fields if name not in groups]
    if len(free) == 1 and rest:
        groups[free[0]] = Group(free[0], rest)
    elif len(free) == len(rest):
        groups |= {name: Group(name, [argument]) for name, argument in zip(free, rest, strict=True)}
    else:
        raise SignatureError(
            f"The signature needs {len(free)} more inputs ({_listed(free)}), and there are {len(rest)} without a name. Name each "
            f"input as in {(free or list(fields))[0]}=PATH."
            if free
            else f"All inputs of the signature are named, and {len(rest)} more were passed without a name."
        )
    return [groups[name] for name in fields]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def load_variables(
    arguments: Sequence[Argument],
    fields: Mapping[str, bool] | None,
    bounds: InputBounds,
    *,
    gitignore: bool = True,
) -> list[Variable]:
    """Reads the inputs.

    Args:
        arguments: Paths, patterns, addresses and `-`, each with a name in front of `=` or without.
        fields: The inputs of the signature, without the question, each with whether it is declared as text; None for
            no signature.
        bounds: What reading may take.
        gitignore: Whether to apply ignore rules in folders.

    Raises:
        InputError: One cannot be read.
        SignatureError: They do not fit the fields.
    """
    groups = group(arguments, None if fields is None else list(fields))
    everything = [argument for one in groups for argument in one.arguments]
    sources = gather(everything, bounds, gitignore=gitignore)
    variables = []
    for one in groups:
        mine, sources = sources[: len(one.arguments)], sources[len(one.arguments) :]
        variables.append(_variable(one, mine, bounds, as_text=bool(fields and fields[one.name])))
    names = [variable.name for variable in variables]
    if len(set(names)) < len(names):
        raise SignatureError(f"Two inputs are called {names[0]!r}. Name each as in NAME=PATH.")
    return variables


def _variable(
    group: Group, sources: Sequence[Source], bounds: InputBounds, *, as_text: bool
) -> Variable:
    name, value = _value(sources, bounds, as_text=as_text)
    keys = keys_of(sources)
    # A file that is named, and lies in a folder that is named too, counts once.
    items = {keys[id(item)]: item for source in sources for item in source.items}
    return Variable(
        group.name or name,
        value,
        _annotation(value),
        list(items.values()),
        list(dict.fromkeys(note for source in sources for note in source.notes)),
        _skipped(sources, value),
    )


def _value(sources: Sequence[Source], bounds: InputBounds, *, as_text: bool) -> tuple[str, Any]:
    """Returns the name by kind, and the value."""
    items = [item for source in sources for item in source.items]
    if len(sources) == 1:
        (source,) = sources
        if source.folder is not None:
            return FILES, source.folder
        if source.stream is not None:
            return "text", source.stream
        if not source.is_collection:
            (item,) = items
            return item.kind.variable, item.text if as_text else item.value
    named_tables = all(source.is_named and source.stream is None for source in sources)
    if named_tables and not as_text and all(item.kind.is_table for item in items):
        keys = keys_of(sources)
        return TABLES, {keys[id(item)]: item.value for item in items}
    return FILES, merged(sources, bounds)


def merged(sources: Sequence[Source], bounds: InputBounds) -> dict[str, Any]:
    """Returns the texts of all sources by path, relative to the folder that all have in common.

    Raises:
        InputError: There is none.
    """
    found: dict[str, Any] = {}
    items = [item for source in sources for item in source.items]
    if sum(item.size_bytes for item in items) > bounds.folder_bytes:
        for item in items:
            item.stay_on_disk()
    # Files first: a file that is named is read even if it would be left out of its folder.
    for source in sorted(sources, key=lambda source: source.is_collection):
        texts = source.texts()
        keys = keys_of(sources)
        if source.stream is not None:
            found[source.name] = texts[source.name]
        for item in source.items:
            found.setdefault(keys[id(item)], texts[item.key])
    if not found:
        skipped = skipped_summary([item for source in sources for item in source.skipped])
        left_out = f" Skipped: {skipped}." if skipped else ""
        raise InputError(
            f"There is no text in {', '.join(source.name for source in sources)}.{left_out}"
        )
    return dict(sorted(found.items()))


def keys_of(sources: Sequence[Source]) -> dict[int, str]:
    """Returns the name of each item among all: its path from the deepest folder that contains all of them."""
    base = common_folder([source.root for source in sources if source.root is not None])
    keys = {}
    for source in sources:
        prefix = _prefix(source, base, alone=len(sources) == 1)
        for item in source.items:
            keys[id(item)] = f"{prefix}{item.key}"
    return keys


def _prefix(source: Source, base: Path | None, *, alone: bool) -> str:
    if source.root is None:  # an address, stdin
        return f"{source.name}/" if source.is_collection and not alone else ""
    place = source.root.relative_to(base).as_posix() if base else source.root.as_posix()
    folder = "" if place == "." else f"{place}/"
    if source.is_archive and not alone:
        return f"{folder}{Path(source.name).name}/"
    return "" if source.is_archive else folder


def common_folder(folders: Sequence[Path]) -> Path | None:
    """Returns the deepest folder that contains all; None if they have none in common."""
    try:
        return Path(os.path.commonpath(folders)) if folders else None
    except ValueError:  # on different drives
        return None


def _skipped(sources: Sequence[Source], value: Any) -> list[Skipped]:
    """Returns the files left out, less those that are read because they were named as well."""
    read = set(value) if isinstance(value, dict) else set()
    base = common_folder([source.root for source in sources if source.root is not None])
    found = []
    for source in sources:
        prefix = _prefix(source, base, alone=len(sources) == 1)
        found += [one for one in source.skipped if f"{prefix}{one.path}" not in read]
    return found


def _annotation(value: Any) -> str:
    if isinstance(value, str):
        return "str"
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return "dict[str, str]"
    return ""
