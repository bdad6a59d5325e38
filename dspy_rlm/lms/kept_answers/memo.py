"""Answers of sub-LMs kept on disk, by a digest of the call: asking again about a corpus costs only the calls about its changed parts.

One file of SQLite for any number of processes. It holds the answers, and no prompt, key or address.
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.lms.kept_answers.store import as_from_cache, has_whole_answer
from dspy_rlm.protocols.recording import OWN_KINDS, RecordedAnswer

# Incremented when digests or answers can no longer be read in the same way; such a file is emptied.
FORMAT_VERSION = 1

# Options of an LM that do not change its answers.
_NOT_IN_DIGEST = frozenset(
    ("api_key", "cache", "cache_in_memory", "headers", "extra_headers", "num_retries", "timeout")
)

# The most characters of kept answers. Beyond it, the least recently used answers are dropped.
MAX_CHARS = 1_000_000_000

# Seconds to wait for another process that writes.
_BUSY_SECONDS = 5.0

_FAILURES = (sqlite3.Error, ValueError, RecursionError)

_SCHEMA = """
create table if not exists answers (
    digest blob primary key, model text not null, answer text not null, used_at real not null
) without rowid;
create index if not exists by_use on answers (used_at);
"""


class Memo:
    """The kept answers. Safe to share between threads and processes. A failure of the file never fails a call."""

    def __init__(self, path: Path, max_chars: int = MAX_CHARS) -> None:
        """Opens the file, and creates it if there is none.

        Args:
            path: The file.
            max_chars: The approximate limit on the characters of kept answers.

        Raises:
            OSError: It cannot be opened, or is not such a file.
        """
        self.path = path
        self._max_chars = max_chars
        self._lock = threading.Lock()  # guards the connection
        self._has_warned = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._opened()
        except sqlite3.Error as error:
            raise OSError(f"{path} cannot be used for answers: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        file = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
        )
        try:
            file.execute("pragma journal_mode = wal")
            file.execute("pragma synchronous = normal")
            [version] = file.execute("pragma user_version").fetchone()
            if version not in (0, FORMAT_VERSION):
                file.execute("drop table if exists answers")
            file.executescript(_SCHEMA)
            file.execute(f"pragma user_version = {FORMAT_VERSION}")
        except BaseException:
            file.close()
            raise
        return file

    def get(self, digest: bytes) -> list[Any] | None:
        """Returns the answer of a call, as DSPy returned it; None if it is not kept."""
        with self._lock:
            try:
                return self._get(digest)
            except _FAILURES as error:
                self._warn(error)
                return None

    def _get(self, digest: bytes) -> list[Any] | None:
        query = "select answer from answers where digest = ?"
        row = self._file.execute(query, (digest,)).fetchone()
        if row is None:
            return None
        self._file.execute("update answers set used_at = ? where digest = ?", (time.time(), digest))
        answer = json.loads(row[0])
        return answer if isinstance(answer, list) else None

    def put(self, digest: bytes, model: str, answer: Any) -> None:
        """Keeps an answer, if it is plain data."""
        try:
            text = json.dumps(answer)
        except (TypeError, ValueError):
            return
        if not isinstance(answer, list) or json.loads(text) != answer:
            return
        with self._lock:
            try:
                row = (digest, model, text, time.time())
                self._file.execute("insert or replace into answers values (?, ?, ?, ?)", row)
                self._drop_surplus()
            except _FAILURES as error:
                self._warn(error)

    def _drop_surplus(self) -> None:
        """Drops a tenth of the answers, the least recently used, once there are too many characters."""
        [pages] = self._file.execute("pragma page_count").fetchone()
        [free] = self._file.execute("pragma freelist_count").fetchone()
        [size] = self._file.execute("pragma page_size").fetchone()
        if (pages - free) * size > self._max_chars:
            [count] = self._file.execute("select count(*) from answers").fetchone()
            self._file.execute(
                "delete from answers where digest in (select digest from answers order by used_at limit ?)",
                (max(count // 10, 1),),
            )

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            text = f"Answers of sub-LMs are not kept in {self.path}: {error}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()


class RunMemo:
    """The memo as the runs of one tree use it: the second of two equal calls is another question."""

    def __init__(self, memo: Memo) -> None:
        self._memo = memo
        self._lock = threading.Lock()  # guards the count
        self._counts: Counter[bytes] = Counter()

    def key(self, kind: str, arguments: CallArguments) -> bytes | None:
        """Returns the key of a call, with the number of equal calls before it; None for the turns of a run itself."""
        if kind in OWN_KINDS:
            return None
        digest = arguments.digest(without=_NOT_IN_DIGEST)
        with self._lock:
            number = self._counts[digest]
            self._counts[digest] += 1
        return digest + number.to_bytes(4, "little")

    def answer(
        self, key: bytes, kind: str, depth: int, arguments: CallArguments
    ) -> RecordedAnswer | None:
        """Returns the kept answer of a call, marked as cached; None if there is none."""
        reply = self._memo.get(key)
        return None if reply is None else as_from_cache(reply, kind, depth, arguments)

    def keep(self, key: bytes, lm: Any) -> None:
        """Keeps the last reply of a metered LM, if it is a whole answer."""
        if has_whole_answer(lm):
            self._memo.put(key, str(lm.model), lm.reply)


@functools.lru_cache(maxsize=16)
def _opened(path: str, _process: int) -> Memo:
    return Memo(Path(path))


def open_memo(path: str) -> Memo:
    """Returns the memo in a file, one for each file and process. Raises `OSError` if it cannot be used."""
    return _opened(path, os.getpid())
