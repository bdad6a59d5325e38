"""Monty, an interpreter of a part of Python in Rust, behind the protocol of `contenders.py`.

It is the quick one at small things, and another trade: no CPython, a few modules of the standard library, no packages. A cell
that it cannot run fails, and its row says so. https://github.com/pydantic/monty
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.contenders import Borrow, CellFailedError, OneByOne, Repl, Tools

PACKAGE = "pydantic_monty"

_SUBMIT = "SUBMIT"

# By default a session may call the host 1,000 times, fewer than a row does.
_LIMITS: Any = {"max_suspensions": 1_000_000}


def is_installed() -> bool:
    """Returns whether the package is there; it is no dependency of this project."""
    return importlib.util.find_spec(PACKAGE) is not None


class MontyRepl:
    """A session of a pool of Monty's."""

    def __init__(self, session: Any, tools: Tools) -> None:
        self._session = session
        self._functions: dict[str, Callable[..., Any]] = dict(tools)

    @property
    def pid(self) -> int:
        """The session's worker process."""
        return int(self._session.worker_pid)

    def run(self, code: str) -> str:
        """Runs a cell and returns its output."""
        return self._run(code, None)

    def run_over(self, name: str, value: object, cells: Sequence[str]) -> list[str]:
        """Passes the value with the first cell: it stays in the session."""
        first, *others = cells
        return [self._run(first, {name: value}), *map(self.run, others)]

    def submitted(self, code: str) -> Mapping[str, Any]:
        """Runs a cell and returns the fields that it submits."""
        fields: dict[str, Any] = {}
        self._functions[_SUBMIT] = lambda **values: fields.update(values)
        self.run(code)
        return fields

    def _run(self, code: str, inputs: dict[str, object] | None) -> str:
        printed: list[str] = []
        try:
            self._session.feed_run(
                code,
                inputs=inputs,
                external_lookup=self._functions,
                print_callback=lambda _stream, text: printed.append(text),
            )
        except Exception as error:
            raise CellFailedError(f"{type(error).__name__}: {error!s:.200}") from error
        return "".join(printed)


class Monty(OneByOne):
    """`pydantic_monty.Monty`: a pool of worker processes; each sandbox is a session."""

    def __init__(self) -> None:
        import pydantic_monty

        self._package = pydantic_monty

    @contextmanager
    def open(
        self,
        *,
        tools: Tools | None = None,
        fields: Mapping[str, str] | None = None,
        output_chars: int | None = None,
    ) -> Iterator[Repl]:
        """Opens a pool with one session, both of which end with the block; it has no output limit."""
        del fields, output_chars
        with self._package.Monty() as pool, pool.checkout(limits=_LIMITS) as session:
            yield MontyRepl(session, tools or {})

    @contextmanager
    def ready(self) -> Iterator[Borrow]:
        """Opens a pool whose first session is over."""
        with self._package.Monty() as pool:

            @contextmanager
            def borrow() -> Iterator[Repl]:
                with pool.checkout(limits=_LIMITS) as session:
                    yield MontyRepl(session, {})

            with borrow() as repl:
                repl.run("print(1)")
            yield borrow
