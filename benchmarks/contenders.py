"""The two sandboxes under measurement, ours and the peer, behind one small protocol.

Each is used as its users use it, through public names only: ours gets a variable once, the peer gets it with every cell,
as `dspy.RLM` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sandbox_runtime import Session

Tools = Mapping[str, Callable[..., str]]
Borrow = Callable[[], "AbstractContextManager[Repl]"]

# A pool refills within a second; one that takes this long never will.
REFILL_SECONDS = 60.0


class CellFailedError(Exception):
    """A cell of a benchmark did not end as it must."""


class Repl(Protocol):
    """One open sandbox."""

    @property
    def pid(self) -> int:
        """The sandbox's own process."""

    def run(self, code: str) -> str:
        """Runs a cell and returns its output."""

    def run_over(self, name: str, value: object, cells: Sequence[str]) -> list[str]:
        """Runs cells with `value` as a variable and returns their outputs."""

    def submitted(self, code: str) -> Mapping[str, Any]:
        """Runs a cell and returns the fields that it submits."""


class Contender(Protocol):
    """Opens sandboxes of one kind; opening may be lazy until the first cell."""

    def open(
        self,
        *,
        tools: Tools | None = None,
        fields: Mapping[str, str] | None = None,
        output_chars: int | None = None,
    ) -> AbstractContextManager[Repl]:
        """Opens a new sandbox with default limits, or with another output limit if it has one.

        `fields` are the parameters of SUBMIT, with their types.
        """

    def ready(self) -> AbstractContextManager[Borrow]:
        """Prepares sandboxes and returns a function that borrows one, after others were used and given time to refill."""

    def each(self, tool: str, items: str) -> str:
        """Returns an expression for a tool's results on all items, by the fastest way for many calls."""

    def at_once(self, tool: str, items: str) -> str:
        """Returns an expression for a tool's results on all items, for calls that block."""


class OurRepl:
    """A session of `sandbox_runtime`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def pid(self) -> int:
        """The session's Deno process."""
        return self._session.pid

    def run(self, code: str) -> str:
        """Runs a cell and returns its output."""
        from sandbox_runtime import Completed

        result = self._session.run_cell(code)
        if not isinstance(result, Completed):
            raise CellFailedError(f"cell ended with {result!r:.300}")
        return result.output

    def run_over(self, name: str, value: object, cells: Sequence[str]) -> list[str]:
        """Assigns the variable once, then runs the cells."""
        self._session.assign(name, value)
        return [self.run(cell) for cell in cells]

    def submitted(self, code: str) -> Mapping[str, Any]:
        """Runs a cell and returns the fields that it submits."""
        from sandbox_runtime import Submitted

        result = self._session.run_cell(code)
        if not isinstance(result, Submitted):
            raise CellFailedError(f"cell ended with {result!r:.300}")
        return result.outputs


class Ours:
    """`sandbox_runtime.open_session`, and its `Pool`."""

    def __init__(self) -> None:
        import sandbox_runtime

        self._package = sandbox_runtime

    @contextmanager
    def open(
        self,
        *,
        tools: Tools | None = None,
        fields: Mapping[str, str] | None = None,
        output_chars: int | None = None,
    ) -> Iterator[Repl]:
        """Opens a session that closes at the end of the block."""
        limits = self._package.Limits()
        if output_chars is not None:
            limits = self._package.Limits(output_chars=output_chars)
        with self._package.open_session(limits, tools, fields) as session:
            yield OurRepl(session)

    @contextmanager
    def ready(self) -> Iterator[Borrow]:
        """Opens a pool and waits for a warm session."""

        @contextmanager
        def borrow() -> Iterator[Repl]:
            with pool.lend() as session:
                yield OurRepl(session)

        pool = self._package.Pool()
        try:
            pool.lend().close()
            end = time.monotonic() + REFILL_SECONDS
            while not pool.warm():
                if time.monotonic() > end:
                    raise CellFailedError(f"no warm session in {REFILL_SECONDS:g} s")
                time.sleep(0.01)
            yield borrow
        finally:
            pool.close()

    def each(self, tool: str, items: str) -> str:
        """Sends one message for all calls."""
        return f"{tool}.batched({items})"

    def at_once(self, tool: str, items: str) -> str:
        """Runs each call in an asyncio task."""
        return f"await __import__('asyncio').gather(*[{tool}.aio(item) for item in {items}])"


class PeerRepl:
    """A `dspy.PythonInterpreter`."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter

    @property
    def pid(self) -> int:
        """The interpreter's Deno process."""
        return int(self._interpreter.deno_process.pid)

    def run(self, code: str) -> str:
        """Runs a cell and returns its output."""
        return str(self._interpreter.execute(code))

    def run_over(self, name: str, value: object, cells: Sequence[str]) -> list[str]:
        """Passes the value with every cell."""
        return [str(self._interpreter.execute(cell, variables={name: value})) for cell in cells]

    def submitted(self, code: str) -> Mapping[str, Any]:
        """Runs a cell and returns the fields that it submits."""
        result = self._interpreter.execute(code)
        output = getattr(result, "output", None)
        if not isinstance(output, dict):
            raise CellFailedError(f"cell ended with {result!r:.300}")
        return output


class OneByOne:
    """A contender whose cells call one tool after the other, which is the only way."""

    def each(self, tool: str, items: str) -> str:
        """Calls one after the other, which is the only way."""
        return f"[{tool}(item) for item in {items}]"

    def at_once(self, tool: str, items: str) -> str:
        """Calls one after the other, which is the only way."""
        return self.each(tool, items)


class Peer(OneByOne):
    """`dspy.PythonInterpreter` with the patched runner of `peer.py`."""

    def __init__(self, runner: Path) -> None:
        from dspy.primitives.python_interpreter import PythonInterpreter

        from benchmarks.peer import deno_command

        self._interpreter = PythonInterpreter
        self._command = deno_command(runner)

    @contextmanager
    def open(
        self,
        *,
        tools: Tools | None = None,
        fields: Mapping[str, str] | None = None,
        output_chars: int | None = None,
    ) -> Iterator[Repl]:
        """Opens an interpreter that shuts down at the end of the block; it has no output limit."""
        del output_chars
        outputs = [{"name": name, "type": kind} for name, kind in (fields or {}).items()]
        with self._interpreter(
            deno_command=self._command, tools=dict(tools or {}), output_fields=outputs or None
        ) as interpreter:
            yield PeerRepl(interpreter)

    @contextmanager
    def ready(self) -> Iterator[Borrow]:
        """Opens a new interpreter each time, since none is kept warm."""
        yield self.open
