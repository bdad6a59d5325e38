"""The names that the host binds in the REPL's namespace: variables and tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sandbox_runtime.guest.namespace import tool_wrappers
from sandbox_runtime.guest.values.codec import Part, receive

Namespace = dict[str, Any]

# By the kind of a `WrappedTool`; any other is a function.
_Maker = Callable[[Sequence[str], str, Any], Any]
_BY_KIND: dict[str, _Maker] = {
    "module": tool_wrappers.importable,
    "display": tool_wrappers.display,
}


def bind_value(namespace: Namespace, name: str, kind: str, parts: Sequence[Part]) -> None:
    """Binds a variable to a value from the host.

    The kind `types` binds nothing: receiving the value defines its classes. The kind `code:…` has statements, the
    name of their data, and the data as a value of the kind after the colon.
    """
    if kind == "types":
        receive("pickle", parts)
    elif kind.startswith("code:"):
        data_name = str(parts[1], "utf-8")
        namespace[data_name] = receive(kind.removeprefix("code:"), parts[2:])
        try:
            exec(compile(str(parts[0], "utf-8"), f"<{name}>", "exec"), namespace)  # noqa: S102
        finally:
            namespace.pop(data_name, None)
    else:
        namespace[name] = receive(kind, parts)


def tool_object(tool: dict[str, Any], call: Callable[..., Any]) -> Any:
    """Returns the object to bind to a tool's name: the function that calls it, or its wrapper's replacement."""
    if "front" not in tool:
        return call
    tool_wrappers.add(tool["modules"])
    make: _Maker = _BY_KIND.get(tool["kind"], tool_wrappers.function)
    return make(tool["front"], tool["name"], call)


def rebound_names(namespace: Namespace, own: Namespace) -> list[str]:
    """Returns the harness's names that a cell has bound to something else."""
    return [name for name, value in own.items() if namespace.get(name) is not value]
