"""The functions that `--tools` names, `module:function` or `file.py:function`, and the servers of `--mcp`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from dspy_rlm.cli.exit_codes import CONFIGURATION, USAGE, CommandError
from dspy_rlm.errors import SignatureError
from dspy_rlm.mcp_tools.server import MCP


def tools_of(texts: Sequence[str], flag: str = "--tools") -> list[Any]:
    """Returns the tools that texts name. A name may be that of a list of tools, too. Errors name the flag.

    Raises:
        CommandError: A text has another form, or names nothing that can be imported.
    """
    found: list[Any] = []
    for text in texts:
        place, separator, name = text.rpartition(":")
        if not separator or not place or not name:
            raise CommandError(
                f"{flag} {text!r} must be MODULE:FUNCTION, such as mytools:lookup, or FILE.py:FUNCTION.",
                USAGE,
            )
        tool: Any = _module(place, f"{flag} {text}")
        for part in name.split("."):
            if not hasattr(tool, part):
                raise CommandError(
                    f"{flag} {text}: {place} has no {name!r}. Name a function that is defined there.",
                    CONFIGURATION,
                )
            tool = getattr(tool, part)
        found += tool if isinstance(tool, (list, tuple)) else [tool]
    return found


def servers_of(paths: Sequence[Path]) -> list[MCP]:
    """Returns the MCP servers that files list.

    Raises:
        CommandError: A file cannot be read, or has an invalid entry.
    """
    try:
        return [server for path in paths for server in MCP.from_config(path)]
    except SignatureError as error:
        raise CommandError(f"--mcp: {error}", CONFIGURATION) from error


def _module(place: str, flag: str) -> ModuleType:
    try:
        if place.endswith(".py"):
            return _from_file(Path(place))
        # As `python -m` has it: a script's own sys.path begins with the folder of the script.
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    except Exception as error:  # a module may raise anything while it is imported
        raise CommandError(
            f"{flag}: {place} cannot be imported: {type(error).__name__}: {error}. Name a module that "
            "Python finds from this folder.",
            CONFIGURATION,
        ) from error


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module
