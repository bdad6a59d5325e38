"""Stand-ins for the tools of a recorded run: prompts and `help` show the same call and the same text."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

import dspy

from dspy_rlm.recorded.exceptions import NotRecordedError
from dspy_rlm.signatures.served_tools import mark_served, shorten
from dspy_rlm.values.python_text import syntax_tree
from sandbox_runtime.helpers import SignatureText

_NO_PARAMETERS = inspect.Signature()


def stand_in_tool(name: str, docs: Mapping[str, Any]) -> dspy.Tool:
    """Returns a tool that has no result.

    Args:
        name: Its name.
        docs: `call`, such as `lookup(key: str) -> int`, and `text`, its documentation.
    """

    def missing(*_args: Any, **_named: Any) -> Any:
        raise NotRecordedError(f"The journal has no such call of {name}(). Pass the RLM to use it.")

    missing.__name__ = name
    signature = _signature(str(docs.get("call", "")))
    setattr(missing, "__signature__", signature)  # noqa: B010 - a function has no such attribute for mypy
    types = dict.fromkeys(signature.parameters, Any)
    if isinstance(docs.get("line"), str):
        mark_served(missing, docs["line"])
    tool = dspy.Tool(
        missing,
        name=name,
        desc=str(docs.get("text", "")),
        args={argument: {} for argument in types},
        arg_types=types,
        arg_desc={},
    )
    shorten([tool])
    return tool


def _signature(call: str) -> inspect.Signature:
    """Returns the signature in the text of a call. Types and defaults stay texts: nothing of it is evaluated."""
    try:
        tree = syntax_tree(f"def {call}: ...")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _NO_PARAMETERS
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef):
        return _NO_PARAMETERS
    arguments = function.args
    ordered = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(ordered) - len(arguments.defaults))
    defaults += arguments.defaults
    parameters = []
    for at, (arg, default) in enumerate(zip(ordered, defaults, strict=True)):
        first = at < len(arguments.posonlyargs)
        kind = Parameter.POSITIONAL_ONLY if first else Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(_parameter(arg, kind, default))
    if arguments.vararg:
        parameters.append(_parameter(arguments.vararg, Parameter.VAR_POSITIONAL, None))
    for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters.append(_parameter(arg, Parameter.KEYWORD_ONLY, default))
    if arguments.kwarg:
        parameters.append(_parameter(arguments.kwarg, Parameter.VAR_KEYWORD, None))
    returned = _text(function.returns)
    return inspect.Signature(parameters, return_annotation=returned)


def _parameter(arg: ast.arg, kind: Any, default: ast.expr | None) -> Parameter:
    return Parameter(arg.arg, kind, annotation=_text(arg.annotation), default=_text(default))


def _text(node: ast.expr | None) -> Any:
    return Parameter.empty if node is None else SignatureText(ast.unparse(node))
