"""Random scripts of cells, and what they must do: the model is Python itself, running the same cells.

A cell's own namespace, tools and printed text are all that counts, so both sides can be compared. Knows
no session.
"""

from __future__ import annotations

import ast
import asyncio
import copy
import dataclasses
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

OUTPUT_CHARS = 10_000

# The state at the start of a script. Data only, so that a fork's model is a copy of it.
VARIABLES: dict[str, Any] = {"n": 1, "items": [1, 2, 3], "table": {"a": 1}, "text": "ab\n" * 50}

# Several times what a pipe holds.
LARGEST_TEXT = 3_000_000


class OddError(ValueError):
    """Raised by a tool for an argument that it does not accept."""


class Tools:
    """Host tools without a state that a cell could see, and how often they were called."""

    def __init__(self, slow_seconds: float) -> None:
        self._slow_seconds = slow_seconds
        self._lock = threading.Lock()  # guards `calls`
        self.calls: Counter[str] = Counter()
        self.functions: dict[str, Callable[..., Any]] = {
            "double": self.double,
            "half": self.half,
            "slow": self.slow,
            "later": self.later,
            "size": self.size,
            "blob": self.blob,
        }

    def _count(self, name: str) -> None:
        with self._lock:
            self.calls[name] += 1

    def take_calls(self) -> Counter[str]:
        """The calls since the last look."""
        with self._lock:
            calls, self.calls = self.calls, Counter()
        return calls

    def double(self, value: Any) -> Any:
        """Returns twice the value."""
        self._count("double")
        return value * 2

    def half(self, number: int) -> int:
        """Fails for odd numbers."""
        self._count("half")
        if number % 2:
            raise OddError(f"{number} is odd")
        return number // 2

    def slow(self, value: Any) -> Any:
        """Returns the value after a delay."""
        self._count("slow")
        time.sleep(self._slow_seconds)
        return value

    async def later(self, value: Any) -> Any:
        """Takes its time on the event loop."""
        self._count("later")
        await asyncio.sleep(self._slow_seconds)
        return value

    def size(self, text: str) -> int:
        """Takes much, gives little."""
        self._count("size")
        return len(text)

    def blob(self, size: int) -> str:
        """Takes little, gives much."""
        self._count("blob")
        return "0123456789"[size % 10] * size


@dataclasses.dataclass(frozen=True)
class Ending:
    """The ending of a cell, as far as both sides must agree."""

    kind: str
    """completed, submitted, or the name of the exception."""

    output: str
    submitted: dict[str, Any] | None = None


class Model:
    """Runs cells as the sandbox must."""

    def __init__(self) -> None:
        self.tools = Tools(slow_seconds=0)
        self._variables: dict[str, Any] = {}

    def assign(self, name: str, value: object) -> None:
        """Binds a variable to a value of its own."""
        self._variables[name] = copy.deepcopy(value)

    def copied(self) -> Model:
        """A second model that begins where this one is."""
        other = Model()
        other._variables = copy.deepcopy(self._variables)
        return other

    def run(self, code: str) -> Ending:
        """Returns the ending of the cell. Modules and functions do not outlive it."""
        printed = io.StringIO()
        submitted: dict[str, Any] = {}
        names: dict[str, Any] = dict(self._variables)
        names.update({name: _Offered(tool) for name, tool in self.tools.functions.items()})
        names["print"] = lambda *values: print(*values, file=printed)
        names["SUBMIT"] = lambda **values: _submit(submitted, values)
        kind = "completed"
        try:
            compiled = compile(code, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(compiled, names)
            if running is not None:
                asyncio.run(running)
        except _SubmittedError:
            kind = "submitted"
        except Exception as error:  # noqa: BLE001 - what a cell raises is its ending
            kind = type(error).__name__
        self._variables = {name: names[name] for name in names if name in self._kept(names)}
        return Ending(kind, abridged(printed.getvalue()), submitted or None)

    def _kept(self, names: dict[str, Any]) -> set[str]:
        return {name for name in (*VARIABLES, "drawn", "given") if name in names}


class _SubmittedError(BaseException):
    """Ends a cell of the model."""


def _submit(submitted: dict[str, Any], values: dict[str, Any]) -> None:
    submitted.update(copy.deepcopy(values))
    raise _SubmittedError


class _Offered:
    """A tool as a cell has it."""

    def __init__(self, tool: Callable[..., Any]) -> None:
        self._tool = tool

    def __call__(self, value: Any) -> Any:
        result = self._tool(value)
        if asyncio.iscoroutine(result):
            # The model's cell may run in a loop already; another thread has room for a second one.
            return _in_thread(lambda: asyncio.run(result))
        return result

    async def aio(self, value: Any) -> Any:
        return self(value)

    def batched(self, values: Any) -> list[Any]:
        return [self._outcome(value) for value in values]

    def _outcome(self, value: Any) -> Any:
        try:
            return self(value)
        except Exception as error:  # noqa: BLE001 - it stands in the result's place
            return error


def _in_thread(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def abridged(text: str) -> str:
    """The part of a cell's output that is kept."""
    left_out = len(text) - OUTPUT_CHARS
    if left_out <= 0:
        return text
    half = OUTPUT_CHARS // 2
    return f"{text[:half]}\n... ({left_out:,} characters omitted) ...\n{text[-half:]}"


# ---- Cells ----


def script(dice: random.Random, length: int) -> list[str]:
    """So many cells; the last one submits."""
    return [dice.choice(CELLS)(dice) for _ in range(length - 1)] + [_submits(dice)]


def _arithmetic(dice: random.Random) -> str:
    return f"n = n * {dice.randint(2, 99)} % 1_000_003 + {dice.randint(0, 9)}\nprint(n)"


def _appends(dice: random.Random) -> str:
    return f"items += list(range(n % 7))\nitems.append({dice.randint(0, 999)})\nprint(items[-9:])"


def _table(dice: random.Random) -> str:
    key = dice.choice("abcde")
    return f"table[{key!r}] = table.get({key!r}, 0) + len(items)\nprint(sorted(table.items()))"


def _functions(dice: random.Random) -> str:
    return f"f = lambda k: k * {dice.randint(2, 9)}\nn = sum(map(f, items)) % 10_007\nprint(n)"


def _raises(dice: random.Random) -> str:
    name = dice.choice(["ValueError('no')", "KeyError(n)", "ZeroDivisionError()"])
    return f"items.append(-1)\nprint('before')\nraise {name}"


def _calls(dice: random.Random) -> str:
    tool = dice.choice(["double", "slow", "later"])
    return f"n = {tool}(n) % 1_000_003\nitems = {tool}(items)[-50:]\nprint(n, items[-3:])"


def _many_calls(dice: random.Random) -> str:
    return f"for k in range({dice.randint(10, 200)}):\n    n = double(n) % 1_000_003\nprint(n)"


def _failing_call(dice: random.Random) -> str:
    if dice.random() < 0.5:
        return "try:\n    print(half(n))\nexcept ValueError as e:\n    print(type(e).__name__, e)"
    return "items.append(half(n * 2 + 1))"


def _batch(dice: random.Random) -> str:
    tool = dice.choice(["double", "half", "slow", "later"])
    return f"got = {tool}.batched(range({dice.randint(1, 30)}))\nprint([str(g) for g in got])"


def _gather(dice: random.Random) -> str:
    tool = dice.choice(["double", "slow", "later"])
    count = dice.randint(2, 20)
    return (
        "import asyncio\n"
        f"got = await asyncio.gather(*[{tool}.aio(k + n) for k in range({count})])\n"
        "items.append(sum(got))\nprint(got)"
    )


def _large_argument(dice: random.Random) -> str:
    size = dice.randint(1, LARGEST_TEXT)
    return f"print(size('x' * {size}), len(double('y' * {size // 2})))"


def _large_arguments_at_once(dice: random.Random) -> str:
    size = dice.randint(1, LARGEST_TEXT // 2)
    return (
        "import asyncio\n"
        f"got = await asyncio.gather(*[double.aio(str(k) * {size}) for k in range(4)])\n"
        "print([(g[0], len(g)) for g in got])"
    )


def _large_result(dice: random.Random) -> str:
    size = dice.randint(1, LARGEST_TEXT)
    return f"text = blob({size})\nprint(len(text), text[:1])\ntext = text[:100]"


def _prints_much(dice: random.Random) -> str:
    size = dice.choice([OUTPUT_CHARS - 2, OUTPUT_CHARS - 1, OUTPUT_CHARS, OUTPUT_CHARS + 1, 10**6])
    return f"print(str(n % 10) * {size})"


def _prints_lines(dice: random.Random) -> str:
    return f"for k in range({dice.randint(1, 3000)}):\n    print(k, n)"


def _works(dice: random.Random) -> str:
    return f"n = sum(k * k for k in range({dice.randint(1000, 1_000_000)})) % 9_973\nprint(n)"


def _looks(_dice: random.Random) -> str:
    return "print(n, items[-5:], sum(items), sorted(table.items()), len(text), text[:2])"


def _submits(dice: random.Random) -> str:
    return (
        f"print('done')\nSUBMIT(n=n, items=items, table=table, text=text * {dice.randint(1, 999)})"
    )


CELLS: list[Callable[[random.Random], str]] = [
    _arithmetic,
    _appends,
    _table,
    _functions,
    _raises,
    _calls,
    _many_calls,
    _failing_call,
    _batch,
    _gather,
    _large_argument,
    _large_arguments_at_once,
    _large_result,
    _prints_much,
    _prints_lines,
    _works,
    _looks,
]
