"""The value of each setting, and where it comes from: flags, environment, project, user, defaults, in this order."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dspy_rlm.cli.configuration.files import FILE_VARIABLE, read_project_file, read_user_file
from dspy_rlm.cli.configuration.keys import KEYS, PREFIX, NotThisKindError, from_text, nearest
from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError

Source: TypeAlias = Literal["flag", "environment", "project", "user", "default"]

# How alike an unknown variable and a known one must be to be a mistake: other programs may have variables of our prefix.
_ALIKE = 0.8


@dataclass(frozen=True)
class Layer:
    """The settings of one source."""

    source: Source
    where: str
    """The file; empty for others."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """The value of a setting."""

    name: str
    value: Any
    source: Source
    where: str
    """The flag, the variable or the file; empty for a default."""

    hidden: tuple[tuple[Source, str, Any], ...] = ()
    """The sources below it that have another value."""


def layers(options: argparse.Namespace | None = None) -> list[Layer]:
    """Returns all sources, the strongest first.

    Raises:
        CommandError: A file or a variable has a setting that is unknown or does not fit.
    """
    found = [
        Layer("flag", "", {} if options is None else dict(_flags(options))),
        Layer("environment", "", dict(_variables())),
    ]
    if (project := read_project_file(Path.cwd())) is not None:
        found.append(Layer("project", str(project.path), project.values))
    if (user := read_user_file()) is not None:
        found.append(Layer("user", str(user.path), user.values))
    return [*found, Layer("default", "", {key.name: key.default for key in KEYS})]


def _flags(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    for key in KEYS:
        value = getattr(options, key.attribute, None)
        if value is not None and value is not False and value != []:
            yield key.name, value


def _variables() -> Iterator[tuple[str, Any]]:
    names = {key.variable: key for key in KEYS}
    for name, text in os.environ.items():
        if not name.startswith(PREFIX) or not text.strip() or name == FILE_VARIABLE:
            continue
        if name not in names:
            suffixes = [known.removeprefix(PREFIX) for known in (*names, FILE_VARIABLE)]
            if near := nearest(name.removeprefix(PREFIX), suffixes, _ALIKE):
                raise CommandError(
                    f"The variable {name} is no setting. Did you mean {PREFIX}{near}?",
                    CONFIGURATION,
                )
            continue
        try:
            yield names[name].name, from_text(names[name], text)
        except NotThisKindError as error:
            raise CommandError(
                f"The variable {name} must be {error}, not {text!r}.", CONFIGURATION
            ) from error


def settings(options: argparse.Namespace | None = None) -> list[Setting]:
    """Returns all settings with their sources.

    Raises:
        CommandError: A file or a variable has a setting that is unknown or does not fit.
    """
    sources = layers(options)
    return [_setting(key.name, key.flag, key.variable, sources) for key in KEYS]


def _setting(name: str, flag: str, variable: str, sources: list[Layer]) -> Setting:
    named: dict[str, str] = {"flag": flag, "environment": variable}
    found = [
        (layer.source, named.get(layer.source, layer.where), layer.values[name])
        for layer in sources
        if name in layer.values
    ]
    (source, where, value), *below = found
    return Setting(name, value, source, where, tuple(below))


def settled(options: argparse.Namespace, only: Collection[str] | None = None) -> argparse.Namespace:
    """Returns the arguments with what no flag has set: from the environment and from files. Defaults are left out.

    Args:
        options: The parsed arguments.
        only: The names of the settings to fill in. None: all that the command has.

    Raises:
        CommandError: A file or a variable has a setting that is unknown or does not fit.
    """
    filled = argparse.Namespace(**vars(options))
    names = {setting.name: setting for setting in settings(options)}
    for key in KEYS:
        setting = names[key.name]
        is_of_command = hasattr(options, key.attribute) and (only is None or key.name in only)
        if is_of_command and setting.source not in ("flag", "default"):
            value = setting.value
            setattr(filled, key.attribute, [*map(Path, value)] if key.kind == "files" else value)
    return filled


def configured(name: str) -> Any:
    """Returns the value of a setting for a command that has no flag for it; None if nothing sets it.

    Raises:
        CommandError: A file or a variable has a setting that is unknown or does not fit.
    """
    return next((s.value for s in settings() if s.name == name and s.source != "default"), None)
