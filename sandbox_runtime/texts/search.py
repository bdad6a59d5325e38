"""Searches texts for untrusted regular expressions.

`re` cannot be interrupted, and a pattern of a few characters can take forever or use up all memory. So it runs in a
separate process with little memory (`search_worker.py`), which is killed at the deadline and ends by itself when this
process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox_runtime.host_time import add_host_seconds
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.index import TextIndex, blocks
from sandbox_runtime.texts.search_worker import HEADER

# Flags that a cell may use: those that change how the pattern is read, not the type of the result.
ALLOWED_FLAGS = int(re.ASCII | re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.UNICODE)

MAX_PATTERN_CHARS = 20_000

BLOCK_BYTES = 1024 * 1024

# An answer holds the matches of one block: at most the requested characters and one match more. JSON takes at most
# six bytes for a character.
MAX_FOUND_CHARS = 10_000_000
MAX_ANSWER_BYTES = 96 * 1024 * 1024

# Seconds for one block where there is no deadline.
_PATIENCE_SECONDS = 60.0

# The worker inherits only the variables that its Python needs to start.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG")

_NO_ANSWER = "the pattern cannot be searched for: the search ended without an answer"

Hit = dict[str, Any]
"""A match: `spans` and `groups`, the whole match first; the `names` of groups; the number and text of its line
(`line`, `text`)."""


class Searcher:
    """Searches one text at a time, in a process that is started by the first search and then kept."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._lock = threading.Lock()  # held during a search: the process runs one at a time
        self._guard = threading.Lock()  # guards the fields below, only briefly
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def search(
        self,
        index: TextIndex,
        pattern: str,
        flags: int,
        deadline: Deadline,
        on_match: Callable[[Hit], bool | None],
        *,
        start: int = 0,
        stop: int | None = None,
        lines: bool = False,
        limit: int = 1,
        chars: int = MAX_FOUND_CHARS,
    ) -> None:
        """Finds the first matches between two characters, or the first match of each line.

        Args:
            index: The text.
            pattern: A pattern of `re`. `^` and `$` match at every line.
            flags: Flags of `re`.
            deadline: The deadline of the search.
            on_match: Called with each match as soon as it is found; returns true to end the search. The matches
                remain valid if the search fails later.
            start: No match begins before this character.
            stop: No match ends after this character; None for the end of the text.
            lines: Whether to find the first match of each line, within it.
            limit: The number of matches.
            chars: The total cost of the matches, by `cost_of`; the last one may exceed it.

        Raises:
            ValueError: The pattern is invalid, or the search process has ended.
            TimeoutError: The deadline has passed.
            TextChangedError: The text has changed.
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
            contextlib.closing(blocks(index.source, offset, BLOCK_BYTES, deadline)) as pieces,
        ):
            for _, data, final in pieces:
                answer = self._ask({**order, "final": final}, data, deadline)
                order = {}
                if "wrong" in answer:
                    raise ValueError(f"the pattern cannot be searched for: {answer['wrong']}")
                if any(on_match(hit) for hit in answer["hits"]) or answer["done"]:
                    break

    def close(self) -> None:
        """Ends the process. A running search fails, and so does every later one."""
        with self._guard:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _process_for(self, order: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Returns the process, started if necessary. A new one cannot continue a search, so that raises `ValueError`."""
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
        started = time.monotonic()
        process = self._process_for(order)
        remaining = deadline.remaining
        order["seconds"] = (_PATIENCE_SECONDS if remaining is None else remaining) + 1.0
        head = json.dumps(order).encode()
        try:
            with deadline.ending(process.kill):
                answer = _exchange(process, head, data)
        except (OSError, EOFError, ValueError) as error:
            add_host_seconds(time.monotonic() - started)  # it ended without an account
            self._drop(process)
            deadline.check()
            raise ValueError(
                f"{_NO_ANSWER}, most likely because it needs too much memory"
            ) from error
        except BaseException:
            self._drop(process)
            raise
        add_host_seconds(answer["cpu_seconds"])
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
        start_new_session=True,  # so that Ctrl-C reaches only the host, which ends the worker
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # unflushed data is lost, as it should be
                stream.close()


def check_pattern(pattern: object, flags: object) -> tuple[str, int]:
    """Returns a cell's pattern and flags. Raises `TypeError` or `ValueError` if they are not valid."""
    if type(pattern) is not str or type(flags) is not int:
        raise TypeError("a pattern must be a str, or a str pattern compiled with re.compile()")
    if len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(
            f"a pattern may have at most {MAX_PATTERN_CHARS:,} characters, not {len(pattern):,}"
        )
    if flags & ~ALLOWED_FLAGS:
        raise ValueError("a pattern may have only the flags A, I, M, S and X of re")
    return pattern, flags
