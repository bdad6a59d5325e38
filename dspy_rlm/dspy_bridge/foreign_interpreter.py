"""Runs the cells of our RLM in any other DSPy `CodeInterpreter`."""

from __future__ import annotations

import base64
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dspy import CodeExecutionError, CodeInterpreter, FinalOutput

from dspy_rlm.dspy_bridge.callbacks import ended_once
from dspy_rlm.protocols.middleware import HostFunction, wrap_all
from dspy_rlm.tools.wrapping import awaiting
from dspy_rlm.values.conversion import TypeRules, rule_of
from sandbox_runtime import (
    CellResult,
    CodeType,
    Completed,
    Failed,
    HandleType,
    Submitted,
    ValueCrossingError,
    ValueType,
)
from sandbox_runtime.helpers import abridged


def declare(interpreter: Any, output_fields: list[dict[str, Any]] | None) -> None:
    """Sets the fields of SUBMIT on an interpreter that has them, after its tools were changed."""
    if hasattr(interpreter, "output_fields"):
        interpreter.output_fields = output_fields
    if hasattr(interpreter, "_tools_registered"):
        interpreter._tools_registered = False  # dspy.PythonInterpreter registers them only once


def spreading(_name: str, function: HostFunction) -> HostFunction:
    """Wraps a function of the form `f(..., **rest)` so that it also takes `rest` as one mapping.

    An interpreter that binds calls to signatures passes the arguments of `predict("word -> n: int", word="x")` as
    `signature=..., inputs={"word": "x"}`.
    """
    parameters = inspect.signature(function).parameters.values()
    rest = next((one.name for one in parameters if one.kind is one.VAR_KEYWORD), None)
    if rest is None:
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        packed = kwargs.get(rest)
        others = {name: value for name, value in kwargs.items() if name != rest}
        # A signature may have a field of that name.
        if isinstance(packed, Mapping) and not any(
            rest in str(one) for one in (*args, *others.values())
        ):
            return function(*args, **others, **packed)
        return function(*args, **kwargs)

    return call


class InterpreterSandbox:
    """A DSPy `CodeInterpreter` as the sandbox of our RLM."""

    def __init__(
        self,
        interpreter: CodeInterpreter,
        tools: Mapping[str, HostFunction],
        outputs: Mapping[str, str],
        output_chars: int,
        rules: TypeRules,
        ending: Callable[[], None] | None = None,
    ) -> None:
        """Takes over the interpreter.

        Args:
            interpreter: The interpreter for the cells; it need not be started.
            tools: Host functions that cells can call, by name.
            outputs: The fields that SUBMIT takes, with their types as text.
            output_chars: Characters of a cell's output that are kept.
            rules: How values of some types enter the interpreter.
            ending: Called at the end. None: the interpreter is shut down.

        Raises:
            TypeError: It is not a `CodeInterpreter`.
        """
        if not isinstance(interpreter, CodeInterpreter):
            raise TypeError(
                f"interpreter_factory returned a {type(interpreter).__name__}, which is not a CodeInterpreter "
                "(start, execute, shutdown, tools)."
            )
        self._interpreter = interpreter
        self._ending = ended_once(ending or interpreter.shutdown)
        self._output_chars = output_chars
        self._rules = rules
        self._unassigned: dict[str, Any] = {}
        interpreter.tools.update(wrap_all(tools, [awaiting, spreading]))
        declare(interpreter, [{"name": name} for name in outputs])

    def assign(self, variables: Mapping[str, Any], /) -> None:
        """Keeps the variables for the next cell, because the protocol binds them with an execution.

        Values of a `CodeType` are built at once, by running their code.

        Raises:
            ValueCrossingError: The interpreter cannot represent a value.
        """
        for name, value in variables.items():
            match rule_of(value, self._rules):
                case CodeType(payload=payload, code=code):
                    self._make(name, payload(value), code(value, name, f"_raw_{name}"))
                case ValueType(to_plain=to_plain):
                    self._unassigned[name] = to_plain(value)
                case HandleType():
                    raise ValueCrossingError(
                        f"{name} is of type {type(value).__name__}, which crosses as a handle, and only "
                        "our own sandbox has handles. Leave out the interpreter_factory, or pass the "
                        "data that the code needs."
                    )
                case _:
                    self._unassigned[name] = value

    def _make(self, name: str, data: str | bytes, code: str) -> None:
        """Runs the code that builds a variable. Bytes are sent as base64, as DSPy does."""
        data_name = f"_raw_{name}"
        if isinstance(data, bytes):
            code = f"import base64\n{data_name} = base64.b64decode({data_name})\n{code}"
            data = base64.b64encode(data).decode()
        try:
            self._interpreter.execute(code, {data_name: data})
        except (CodeExecutionError, SyntaxError) as error:
            raise ValueCrossingError(f"The interpreter could not take {name}: {error}") from error

    def run_cell(self, code: str, /) -> CellResult:
        """Runs a cell. If the interpreter itself fails, DSPy's exception is raised."""
        variables, self._unassigned = self._unassigned, {}
        try:
            result = self._interpreter.execute(code, variables)
        except SyntaxError as error:
            # Nothing was bound: DSPy's interpreter prepends the assignments to the code.
            self._unassigned = {**variables, **self._unassigned}
            return Failed("SyntaxError", self._abridge(str(error)))
        except CodeExecutionError as error:
            return Failed("CodeExecutionError", self._abridge(str(error)))
        if isinstance(result, FinalOutput):
            outputs = result.output
            return Submitted(outputs if isinstance(outputs, dict) else {"output": outputs})
        lines = result if isinstance(result, list) else [] if result is None else [result]
        return Completed(self._abridge("\n".join(str(line) for line in lines)))

    def close(self) -> None:
        """Shuts the interpreter down once, or returns it to the caller who lent it. Call it from any thread."""
        self._ending()

    def _abridge(self, text: str) -> str:
        return abridged(text, self._output_chars)
