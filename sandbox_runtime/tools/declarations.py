"""Declares host tools to the sandbox: their signatures, and the documentation that `help(tool)` shows there."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sandbox_runtime.redaction.redact import SignatureText, shown_signature
from sandbox_runtime.rpc.messages import ToolDeclaration
from sandbox_runtime.sandbox import HostTool, WrappedTool
from sandbox_runtime.tools.batch_rows import batch_rows


def function_of(tool: HostTool) -> HostTool:
    """Returns the function that a tool runs on the host."""
    return tool.function if isinstance(tool, WrappedTool) else tool


def signature_of(tool: HostTool) -> inspect.Signature | None:
    """Returns the signature as cells see it; None if it has none."""
    try:
        return _unquoted(shown_signature(inspect.signature(function_of(tool))))
    except (TypeError, ValueError):
        return None


class PlainSignature(NamedTuple):
    """The arguments that certainly fit a signature of plain parameters, by the number of positional ones."""

    least: int
    """So many positional arguments fit at least, without others."""
    allowed: tuple[frozenset[str], ...] = ()
    """For each number of positional arguments, the keyword arguments that may come with them."""
    needed: tuple[frozenset[str], ...] = ()
    """Likewise those that must."""

    @classmethod
    def of(cls, signature: inspect.Signature | None) -> PlainSignature:
        """Returns it for a signature. If that has other parameters too, no arguments fit for certain."""
        parameters = () if signature is None else tuple(signature.parameters.values())
        if signature is None or any(
            one.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for one in parameters
        ):
            return cls(1)
        names = [one.name for one in parameters]
        # Those without a default come first.
        least = sum(one.default is inspect.Parameter.empty for one in parameters)
        counts = range(len(names) + 1)
        return cls(
            least,
            tuple(frozenset(names[count:]) for count in counts),
            tuple(frozenset(names[count:least]) for count in counts),
        )

    def fits(self, args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
        """Returns whether the arguments fit for certain. Otherwise `inspect` finds out, which takes four times as long."""
        count = len(args)
        if count >= len(self.allowed):
            return False
        if not kwargs:
            return count >= self.least
        return self.needed[count] <= kwargs.keys() <= self.allowed[count]


def _unquoted(signature: inspect.Signature) -> inspect.Signature:
    """Returns the signature without quotation marks around types that its module declares as texts."""
    return signature.replace(
        parameters=[
            one.replace(annotation=_type(one.annotation)) for one in signature.parameters.values()
        ],
        return_annotation=_type(signature.return_annotation),
    )


def _type(annotation: Any) -> Any:
    return SignatureText(annotation) if isinstance(annotation, str) else annotation


def declarations(
    tools: Mapping[str, HostTool], signatures: Mapping[str, inspect.Signature | None]
) -> list[ToolDeclaration]:
    """Returns the declarations of tools by name. Each module of wrapped tools is sent once."""
    sent: set[str] = set()
    declared = []
    for name, tool in tools.items():
        doc = _documentation(name, function_of(tool), signatures[name])
        if isinstance(tool, WrappedTool):
            modules = {n: source for n, source in tool.modules.items() if n not in sent}
            sent |= modules.keys()
            declared.append(ToolDeclaration(name, doc, list(tool.modules), tool.kind, modules))
        else:
            declared.append(ToolDeclaration(name, doc, rows=batch_rows(signatures[name])))
    return declared


def _documentation(name: str, tool: HostTool, signature: inspect.Signature | None) -> str:
    head = f"{name}{signature if signature is not None else '(...)'}"
    return f"{head}\n\n{inspect.getdoc(tool) or ''}".strip()
