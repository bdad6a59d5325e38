"""Searches texts for regular expressions that somebody hostile may have written.

`re` cannot be stopped and may take forever, or all memory, for a few characters of pattern. So it runs
in a process of its own with little memory (`search_worker.py`), which is killed when the time is over and
ends by itself when this process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox_runtime.texts.bytes import Deadline
from sandbox_runtime.texts.index import TextIndex, blocks
from sandbox_runtime.texts.search_worker import HEADER

# What a cell may write; the flags that change how text is read, not what is returned.
ALLOWED_FLAGS = int(re.ASCII | re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.UNICODE)

MAX_PATTERN_CHARS = 20_000

BLOCK_BYTES = 1024 * 1024

# An answer holds matches of one block, of no more characters than were asked for and one match; JSON has
# six bytes for a character at most.
MAX_FOUND_CHARS = 10_000_000
MAX_ANSWER_BYTES = 96 * 1024 * 1024

# What a process without a deadline gets for one block.
_PATIENCE_SECONDS = 60.0

# The worker needs nothing of the environment but what its Python needs to start.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG")

_NO_ANSWER = "the pattern cannot be searched for: the search ended without an answer"

Hit = dict[str, Any]
"""A match: `spans` and `groups` with the whole one first, `names` of groups, its `line` and `text`."""


class Searcher:
    """Searches, one text at a time; keeps a process for it from the first search on."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._lock = threading.Lock()  # held for a search: the process does one at a time
        self._guard = threading.Lock()  # guards what is below, for a moment
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def search(
        self,
        index: TextIndex,
        pattern: str,
        flags: int,
        deadline: Deadline,
        found: Callable[[Hit], bool | None],
        *,
        start: int = 0,
        stop: int | None = None,
        lines: bool = False,
        limit: int = 1,
        chars: int = MAX_FOUND_CHARS,
    ) -> None:
        """Finds the first matches between two characters. `lines`: the first one of each line.

        Args:
            index: The text.
            pattern: As `re` has it. `^` and `$` match at every line.
            flags: Those of `re`.
            deadline: When it is stopped.
            found: Takes each match as soon as it is found, and says true when these are enough. They are
                good also when the search is stopped.
            start: No match begins before this character.
            stop: No match ends after this one. None: the text's end.
            lines: Whether matches lie within lines.
            limit: How many.
            chars: What they may cost together, by `cost_of`, but for the last.

        Raises:
            ValueError: The pattern is none, or the process that searched has ended.
            TimeoutError: The time is over.
            TextChangedError: The text is not what it was.
        """
        offset, char, line = index.block_of_char(start, deadline)
        order: dict[str, Any] = {
            "plan": {
                "pattern": pattern,
                "flags": flags,
                "lines": lines,
                "limit": limit,
                "chars": chars,
                "first": start,
                "last": stop,
                "char": char,
                "line": line,
            }
        }
        with (
            deadline.holding(self._lock),
            contextlib.closing(blocks(index.source, offset, BLOCK_BYTES, deadline)) as given,
        ):
            for _, data, final in given:
                answer = self._ask({**order, "final": final}, data, deadline)
                order = {}
                if "wrong" in answer:
                    raise ValueError(f"the pattern cannot be searched for: {answer['wrong']}")
                if any(found(hit) for hit in answer["hits"]) or answer["done"]:
                    break

    def close(self) -> None:
        """Ends the process. A search that is under way fails, and so does every later one."""
        with self._guard:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _process_for(self, order: dict[str, Any]) -> subprocess.Popen[bytes]:
        """The process, started if need be. One that is new knows nothing of a search in its middle."""
        with self._guard:
            process = self._process
            if process is not None and process.poll() is None:
                return process
            self._process = None
            if process is not None:
                _end(process)
            if self._closed or "plan" not in order:
                raise ValueError(_NO_ANSWER)
            self._process = _start()
            return self._process

    def _drop(self, process: subprocess.Popen[bytes]) -> None:
        with self._guard:
            if self._process is process:
                self._process = None
        _end(process)

    def _ask(self, order: dict[str, Any], data: bytes, deadline: Deadline) -> dict[str, Any]:
        deadline.check()
        process = self._process_for(order)
        left = deadline.left
        order["seconds"] = (_PATIENCE_SECONDS if left is None else left) + 1.0
        head = json.dumps(order).encode()
        try:
            with deadline.ending(process.kill):
                answer = _exchange(process, head, data)
        except (OSError, EOFError, ValueError) as error:
            self._drop(process)
            deadline.check()
            raise ValueError(
                f"{_NO_ANSWER}, most likely because it needs too much memory"
            ) from error
        except BaseException:
            self._drop(process)
            raise
        return answer


def _exchange(process: subprocess.Popen[bytes], head: bytes, data: bytes) -> dict[str, Any]:
    outgoing, incoming = process.stdin, process.stdout
    if outgoing is None or incoming is None:
        raise EOFError
    outgoing.write(HEADER.pack(len(head), len(data)) + head)
    outgoing.write(data)
    outgoing.flush()
    prefix = incoming.read(HEADER.size)
    if len(prefix) < HEADER.size:
        raise EOFError
    size, _ = HEADER.unpack(prefix)
    if size > MAX_ANSWER_BYTES:
        raise ValueError("the answer is too large")
    text = incoming.read(size)
    if len(text) < size:
        raise EOFError
    answer: dict[str, Any] = json.loads(text)
    return answer


def _start() -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("search_worker.py")
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        start_new_session=True,  # Ctrl-C is for the host, which ends this one
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what was not flushed goes nowhere
                stream.close()


def check_pattern(pattern: object, flags: object) -> tuple[str, int]:
    """The pattern and flags of a cell. Raises `TypeError` or `ValueError` for what is none."""
    if type(pattern) is not str or type(flags) is not int:
        raise TypeError("a pattern must be a text, or made by re.compile() of one")
    if len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(
            f"a pattern may have {MAX_PATTERN_CHARS:,} characters, not {len(pattern):,}"
        )
    if flags & ~ALLOWED_FLAGS:
        raise ValueError("a pattern may have the flags A, I, M, S and X of re")
    return pattern, flags
