"""The files with settings: `[tool.dspy-rlm]` of the nearest `pyproject.toml`, and the user's own `config.toml`.

A project's file may come with a download. So it cannot name code to run, nor send the user's keys to another address: that
takes the user's own file, an environment variable or a flag.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dspy_rlm.cli.configuration.keys import (
    BY_NAME,
    PREFIX,
    Key,
    NotThisKindError,
    from_toml,
    nearest,
)
from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError

# The variable that names another user file.
FILE_VARIABLE = f"{PREFIX}CONFIG"

TABLE = "tool.dspy-rlm"

# How alike two names must be to be the same one, misspelt.
_SURE = 0.8

# The addresses of this machine.
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class SettingsFile:
    """A file with settings."""

    path: Path
    values: Mapping[str, Any]
    """By name, in the form that the parsed arguments have."""


def user_file() -> Path:
    """Returns the path of the user's file, whether it exists or not."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("dspy-rlm", appauthor=False)) / "config.toml"


def read_user_file() -> SettingsFile | None:
    """Returns the user's file; None if there is none.

    Raises:
        CommandError: It cannot be read, or a setting is wrong.
    """
    path = user_file()
    if not path.exists():
        if os.environ.get(FILE_VARIABLE):
            raise _wrong(path, f"there is no such file, but {FILE_VARIABLE} names it")
        return None
    return SettingsFile(path, _checked(path, _parsed(path), of_project=False))


def read_project_file(folder: Path) -> SettingsFile | None:
    """Returns the `pyproject.toml` with our table that is nearest to a folder; None if there is none.

    Raises:
        CommandError: It cannot be read, or a setting is wrong.
    """
    for parent in (folder, *folder.parents):
        path = parent / "pyproject.toml"
        if not path.is_file():
            continue
        tool = _parsed(path).get("tool")
        table = tool.get("dspy-rlm") if isinstance(tool, dict) else None
        if isinstance(table, dict):
            return SettingsFile(path, _checked(path, table, of_project=True))
    return None


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise _wrong(path, f"it cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(path, f"it is not TOML: {error}") from error


def _checked(path: Path, table: Mapping[str, Any], *, of_project: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for written, value in table.items():
        key = _key(path, written)
        try:
            values[key.name] = from_toml(key, value)
        except NotThisKindError as error:
            raise _wrong(path, f"{written!r} must be {error}, not {_shown(value)}") from error
        if of_project:
            _check_trust(path, key, values[key.name])
        if has_password(values[key.name]):
            raise _wrong(
                path, f"{written!r} has a password, which does not belong in a file. Leave it out"
            )
        # Beside the file: the command may run in any folder below it.
        if key.kind == "place" and isinstance(value, str):
            values[key.name] = _beside(path, value)
        if key.kind == "files":
            values[key.name] = [_beside(path, one) for one in values[key.name]]
    return values


def _beside(path: Path, named: str) -> str:
    return str(path.absolute().parent / Path(named).expanduser())


def _key(path: Path, written: str) -> Key:
    name = written.replace("-", "_")
    if name in BY_NAME:
        return BY_NAME[name]
    # No value of an unknown name is shown: it may be a key. A misspelt `max_tokens` is none.
    if not nearest(name, [*BY_NAME], _SURE) and _is_secret(name):
        raise _wrong(
            path,
            f"{written!r} looks like a key, which does not belong in a file. Set the variable of the provider instead, "
            "such as OPENAI_API_KEY, and remove it here",
        )
    near = nearest(name, [*BY_NAME])
    hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(BY_NAME)}"
    raise _wrong(path, f"there is no setting {written!r}. {hint}")


def _is_secret(name: str) -> bool:
    from sandbox_runtime.helpers import is_secret_name

    return bool(is_secret_name(name))


def has_password(value: Any) -> bool:
    """Returns whether an address has a user or a password in it."""
    return isinstance(value, str) and "://" in value and "@" in urlsplit(value).netloc


def _check_trust(path: Path, key: Key, value: Any) -> None:
    texts = value if isinstance(value, list) else [value]
    reason = ""
    if key.own_only:
        reason = "it runs code"
    elif key.kind == "address" and urlsplit(value).hostname not in _LOCAL:
        reason = "your keys are sent to that address, and it is none of this machine"
    elif key.kind in ("text", "models") and any("://" in text for text in texts):
        reason = "a model with an address of its own is sent your keys"
    if reason:
        raise _wrong(
            path,
            f"{key.name!r} cannot be set in a project, which may be a download: {reason}. Set it in {user_file()}, with "
            f"{key.variable}, or with {key.flag}",
        )


def _wrong(path: Path, problem: str) -> CommandError:
    where = f"[{TABLE}] of {path}" if path.name == "pyproject.toml" else str(path)
    end = "" if problem.endswith(("?", ".")) else "."
    return CommandError(f"{where}: {problem}{end}", CONFIGURATION)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
