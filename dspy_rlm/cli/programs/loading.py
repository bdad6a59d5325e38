"""The RLM that `program.py:name` names. The program is imported, so code below `if __name__ == "__main__"` does not run."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import dspy

from dspy_rlm.cli.configuration.keys import nearest
from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError
from dspy_rlm.drop_in import install
from dspy_rlm.rlm import RLM


def load_rlm(place: str, name: str, *, as_module: bool = False) -> RLM:
    """Returns the RLM of a program; a `dspy.RLM` is converted to one of this package.

    The name may be that of an RLM, or of a function or a class that returns one without arguments.

    Raises:
        CommandError: The program cannot be imported, or has no such RLM.
    """
    install()
    module = imported(place, as_module=as_module)
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise _missing(place, name, module)
        value = getattr(value, part)
    if not isinstance(value, RLM) and callable(value) and not _is_module(value):
        value = _called(place, name, value)
    if not isinstance(value, RLM):
        inside = _inside(name, value)
        hint = (
            f"It has the RLM {inside}."
            if inside
            else "Name an RLM, or a function that returns one."
        )
        raise CommandError(
            f"{name} of {place} is not an RLM but {_described(value)}. {hint} A whole program runs with `dspy-rlm run {place}`.",
            CONFIGURATION,
        )
    return value


def imported(place: str, *, as_module: bool = False) -> ModuleType:
    """Returns the module of a file or of a name.

    Raises:
        CommandError: It cannot be imported.
    """
    try:
        if as_module:
            if "" not in sys.path and str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))
            return importlib.import_module(place)
        return _from_file(Path(place))
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        raise CommandError(
            f"{place} cannot be imported: {type(error).__name__}: {error}.", CONFIGURATION
        ) from error


def _from_file(path: Path) -> ModuleType:
    folder = str(path.resolve().parent)
    if not sys.flags.safe_path and folder not in sys.path:
        sys.path.insert(0, folder)  # as `python program.py` has it
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Classes of the program are pickled and looked up by the name of their module.
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(path.stem, None)
        if before is not None:
            sys.modules[path.stem] = before
        raise
    return module


def _called(place: str, name: str, value: Any) -> Any:
    try:
        return value()
    except Exception as error:  # code of the program
        raise CommandError(
            f"{name}() of {place} failed: {type(error).__name__}: {error}.", CONFIGURATION
        ) from error


def _is_module(value: Any) -> bool:
    return isinstance(value, dspy.Module)


def _inside(name: str, value: Any) -> str:
    """Returns the name of an RLM that is an attribute of a module; empty if there is none."""
    attributes = vars(value) if _is_module(value) else {}
    return next((f"{name}.{key}" for key, one in attributes.items() if isinstance(one, RLM)), "")


def _missing(place: str, name: str, module: ModuleType) -> CommandError:
    names = [key for key, value in vars(module).items() if isinstance(value, RLM)]
    near = nearest(name, names)
    hint = f"Its RLMs are {', '.join(names)}." if names else "It has no RLM at its top level."
    return CommandError(
        f"{place} has no {name!r}. {f'Did you mean {near!r}?' if near else hint}", CONFIGURATION
    )


def _described(value: Any) -> str:
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"
