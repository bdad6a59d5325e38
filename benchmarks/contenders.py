"""The two sandboxes under measurement, ours and the peer, behind one small protocol.

Each is used as its users use it, through public names only: ours gets a variable once, the peer
gets it with every cell, which is what `dspy.RLM` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sandbox_runtime import Session

Tools = Mapping[str, Callable[..., str]]


class CellFailedError(Exception):
    """A cell did not end as every cell of a benchmark must."""


class Repl(Protocol):
    """One open sandbox."""

    @property
    def pid(self) -> int:
        """The sandbox's own process."""

    def run(self, code: str) -> str:
        """What a cell printed."""

    def run_over(self, name: str, value: object, cells: Sequence[str]) -> list[str]:
        """What each of the cells printed, with `value` as a variable."""


class Contender(Protocol):
    """Opens sandboxes of one kind; opening may be lazy until the first cell."""

    def open(
        self, *, tools: Tools | None = None, output_chars: int | None = None
    ) -> AbstractContextManager[Repl]:
        """A new sandbox with default limits, or with another limit of output where it has one."""


class OurRepl:
    """A session of `sandbox_runtime`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def pid(self) -> int:
        """The session's Deno process."""
        return self._session.pid

    def run(self, code: str) -> str:
        """What a cell printed."""
        from sandbox_runtime import Completed

        result = self._session.run_cell(code)
        if not isinstance(result, Completed):
            raise CellFailedError(f"cell ended with {result!r:.300}")
        return result.output

    def run_over(self, name: str, value: object, cells: Sequence[str]) -> list[str]:
        """Assign once, then run the cells."""
        self._session.assign(name, value)
        return [self.run(cell) for cell in cells]


class Ours:
    """`sandbox_runtime.open_session`."""

    def __init__(self) -> None:
        import sandbox_runtime

        self._package = sandbox_runtime

    @contextmanager
    def open(
        self, *, tools: Tools | None = None, output_chars: int | None = None
    ) -> Iterator[Repl]:
        """A session that closes at the end of the block."""
        limits = self._package.Limits()
        if output_chars is not None:
            limits = self._package.Limits(output_chars=output_chars)
        with self._package.open_session(limits=limits, tools=dict(tools or {})) as session:
            yield OurRepl(session)


class PeerRepl:
    """A `dspy.PythonInterpreter`."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter

    @property
    def pid(self) -> int:
        """The interpreter's Deno process."""
        return int(self._interpreter.deno_process.pid)

    def run(self, code: str) -> str:
        """What a cell printed."""
        return str(self._interpreter.execute(code))

    def run_over(self, name: str, value: object, cells: Sequence[str]) -> list[str]:
        """Pass the value with every cell."""
        return [str(self._interpreter.execute(cell, variables={name: value})) for cell in cells]


class Peer:
    """`dspy.PythonInterpreter` with the patched runner of `peer.py`."""

    def __init__(self, runner: Path) -> None:
        from dspy.primitives.python_interpreter import PythonInterpreter

        from benchmarks.peer import deno_command

        self._interpreter = PythonInterpreter
        self._command = deno_command(runner)

    @contextmanager
    def open(
        self, *, tools: Tools | None = None, output_chars: int | None = None
    ) -> Iterator[Repl]:
        """An interpreter that shuts down at the end of the block; it knows no limit of output."""
        del output_chars
        tools = dict(tools or {})
        with self._interpreter(deno_command=self._command, tools=tools) as interpreter:
            yield PeerRepl(interpreter)
