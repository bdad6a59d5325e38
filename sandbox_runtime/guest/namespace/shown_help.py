"""`help` of the REPL: for what the harness has put there, the call and its documentation, and nothing of how it is made.

Python's own `help` lists for a function of ours `*args, **kwargs` and a module inside the sandbox, and for an object each of
its inherited methods. For everything else it is Python's.
"""

from __future__ import annotations

import types
from inspect import cleandoc, getattr_static, signature
from re import findall
from typing import Any

from sandbox_runtime.guest.tracebacks import HARNESS_FOLDER

_PURPOSE = "help(x) shows the documentation of x: a function, a value, a class or a module."


class Help:
    """Replaces `help`, which waits for a person where it gets no argument."""

    def __repr__(self) -> str:
        return _PURPOSE

    def __call__(self, *request: Any) -> None:
        """Prints the documentation of a value."""
        text = _text_of(request[0]) if len(request) == 1 else _PURPOSE
        if text:
            print(text)  # noqa: T201 - the output of a cell
            return
        import pydoc  # late: it takes long to import

        pydoc.help(*request)


def _text_of(value: Any) -> str:
    """Returns the documentation of something of the harness; empty for anything else."""
    if _is_function(value):
        return _call_of(value)
    kind = value if isinstance(value, type) else type(value)
    if not _is_ours(kind) or isinstance(value, (types.ModuleType, types.FunctionType)):
        return ""
    doc = cleandoc(kind.__doc__ or "")
    described = set(findall(r"\w+", doc))
    names = [name for name in dir(kind) if name[0] != "_" and name not in described]
    title = doc if doc.startswith(f"{kind.__name__}(") else f"{kind.__name__}: {doc}"
    return "\n\n".join(filter(None, [title, "\n".join(_member(kind, name) for name in names)]))


def _is_function(value: Any) -> bool:
    """Returns whether a value is a function or a method of the harness."""
    function = value.__func__ if type(value) is types.MethodType else value
    return type(function) is types.FunctionType and _is_of_harness(function)


def _is_of_harness(function: types.FunctionType) -> bool:
    return function.__code__.co_filename.startswith(f"{HARNESS_FOLDER}/")


def _is_ours(kind: type) -> bool:
    """Returns whether a class has methods of the harness. Enums and exceptions are Python's."""
    return any(
        type(member) is types.FunctionType and _is_of_harness(member)
        for base in kind.__mro__
        for member in vars(base).values()
    )


def _call_of(function: Any) -> str:
    """Returns the call of a function and its documentation, which may begin with the call."""
    doc = cleandoc(function.__doc__ or "")
    name = function.__name__
    return doc if doc.startswith(f"{name}(") else f"{name}{_parameters(function)}\n\n{doc}".strip()


def _member(kind: type, name: str) -> str:
    """Returns a public method or property in one line."""
    member = getattr_static(kind, name)
    function = getattr(member, "__func__", member)  # of a class method
    doc = cleandoc(getattr(function, "__doc__", "") or "").partition("\n")[0]
    call = _parameters(function) if type(function) is types.FunctionType else ""
    call = call.replace("(self, ", "(").replace("(self)", "()")
    return f"    {name}{call}  {doc}".rstrip()


def _parameters(function: Any) -> str:
    """Returns the parameters of a function by name, with their defaults."""
    try:
        shown = signature(function)
    except (TypeError, ValueError):
        return "(...)"
    bare = [one.replace(annotation=one.empty) for one in shown.parameters.values()]
    return str(shown.replace(parameters=bare, return_annotation=shown.empty))
