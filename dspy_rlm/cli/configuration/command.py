"""`dspy-rlm config`: the effective settings and their sources. Shows no key, and sends nothing."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dspy_rlm.cli.configuration.files import has_password, read_project_file, user_file
from dspy_rlm.cli.configuration.keys import BY_NAME, KEYS, nearest
from dspy_rlm.cli.configuration.sources import Setting, settings
from dspy_rlm.cli.exit_codes import USAGE, CommandError
from dspy_rlm.terminal.escaping import show, show_exactly

FORMAT, VERSION = "dspy-rlm/config", 1


def describe(config: argparse.ArgumentParser) -> None:
    """Adds the flags of `config`."""
    from dspy_rlm.cli.options import add_journal, describe_budgets, describe_models

    config.description = (
        "Shows each setting with its value and its source. Flags come first, then environment variables (DSPY_RLM_ and "
        "the name in capitals), [tool.dspy-rlm] of the nearest pyproject.toml, the user's config.toml, and defaults. "
        "With flags of `ask`, shows the settings as these flags change them."
    )
    config.add_argument(
        "keys", metavar="KEY", nargs="*", help="these settings only; one alone prints its value"
    )
    config.add_argument("--json", action="store_true", help="JSON instead of text")
    describe_models(config)
    describe_budgets(config)
    add_journal(config)


def show_config(options: argparse.Namespace) -> int:
    """Prints the settings."""
    names = [name.replace("-", "_") for name in options.keys]
    for name in names:
        if name not in BY_NAME:
            near = nearest(name, [*BY_NAME])
            hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(BY_NAME)}."
            raise CommandError(f"There is no setting {name!r}. {hint}", USAGE)
    found = [one for one in settings(options) if not names or one.name in names]
    if options.json:
        show_exactly(json.dumps(_dumped(found), indent=2), sys.stdout)
    elif len(names) == 1:
        (one,) = found
        show(_text(one.value), sys.stdout)
    else:
        show(_table(found), sys.stdout)
        if not names:
            show(_files_text(), sys.stderr)
    return 0


def _dumped(found: list[Setting]) -> dict[str, Any]:
    project = read_project_file(Path.cwd())
    return {
        "format": FORMAT,
        "version": VERSION,
        "settings": [
            {
                "name": one.name,
                "value": _public(one.value),
                "source": one.source,
                "where": one.where or None,
                "flag": BY_NAME[one.name].flag,
                "variable": BY_NAME[one.name].variable,
                "help": BY_NAME[one.name].help,
                "hidden": [
                    {"source": source, "where": where or None, "value": _public(value)}
                    for source, where, value in one.hidden
                ],
            }
            for one in found
        ],
        "files": {
            "project": str(project.path) if project else None,
            "user": str(user_file()),
            "user_exists": user_file().exists(),
        },
    }


def _table(found: list[Setting]) -> str:
    rows = [(one.name, _text(one.value), f"{one.source} {one.where}".rstrip()) for one in found]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[2]])
        for row in rows
    )


def _files_text() -> str:
    project = read_project_file(Path.cwd())
    own = user_file()
    return "\n".join(
        [
            f"project: {project.path if project else 'no pyproject.toml with [tool.dspy-rlm]'}",
            f"user:    {own}{'' if own.exists() else ' (does not exist)'}",
        ]
    )


def _public(value: Any) -> Any:
    """Returns a value without a password in an address: a flag or a variable may have one."""
    if isinstance(value, list):
        return [str(one) if isinstance(one, Path) else one for one in value]
    if not has_password(value):
        return value
    parts = urlsplit(value)
    return parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    if isinstance(value, float):
        return f"{value:g}"
    return str(_public(value))


def listed_settings() -> list[tuple[str, str, str]]:
    """Returns name, default and meaning of all settings, for the reference."""
    return [(key.name, _text(key.default), key.help) for key in KEYS]
