"""Declares host tools to the sandbox: their signatures, and the documentation that `help(tool)` shows there."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

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
