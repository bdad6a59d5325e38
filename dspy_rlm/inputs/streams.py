"""Stdin and named pipes: read once, into memory or a temporary file; a long text only as far as cells read it."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dspy_rlm.errors import InputError
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.content import SAMPLE_BYTES, Content, compression
from dspy_rlm.inputs.kinds import kind_of
from dspy_rlm.inputs.paths import reading
from dspy_rlm.inputs.sizes import size_text
from dspy_rlm.inputs.spool import Spool
from sandbox_runtime import TextStream
from sandbox_runtime.helpers import decoded, form_of

_PIECE_BYTES = 1024 * 1024


def open_stdin() -> IO[bytes]:
    """Returns stdin as bytes.

    Raises:
        InputError: There is none.
    """
    stream = sys.stdin
    if stream is None or stream.closed:
        raise InputError("Cannot read stdin: it is closed. Pipe something into it, or name a file.")
    binary: IO[bytes] | None = getattr(stream, "buffer", None)
    if binary is None:  # replaced by a text, as in tests and notebooks
        import io

        return io.BytesIO(stream.read().encode())
    if stream.isatty():
        sys.stderr.write("Reading stdin; end it with Ctrl-D.\n")
    return binary


def is_pipe(path: Path) -> bool:
    """Returns whether a path is a pipe, such as that of `<(command)`."""
    with reading(str(path)):
        return stat.S_ISFIFO(path.stat().st_mode)


def pipe_pieces(path: Path, bounds: InputBounds) -> Iterator[bytes]:
    """Yields the data of a named pipe. The wait for the first bytes is bounded, since there may be no writer.

    Raises:
        InputError: It cannot be opened, or nothing arrives.
    """
    with reading(str(path)):
        # Opening it for reading alone would block until something writes.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        waiter = select.poll()
        waiter.register(descriptor, select.POLLIN)
        if not waiter.poll(int(bounds.pipe_seconds * 1000)):
            raise InputError(
                f"Cannot read {path}: it is a pipe, and nothing arrived within {bounds.pipe_seconds:g} s. Is a program writing "
                "to it?"
            )
        os.set_blocking(descriptor, True)
        while piece := file.read(_PIECE_BYTES):
            yield piece


def file_pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """Yields the data of a stream as soon as it arrives."""
    read = getattr(stream, "read1", stream.read)
    while piece := read(_PIECE_BYTES):
        yield piece


def stream_content(
    pieces: Iterator[bytes], name: str, spool: Spool, bounds: InputBounds
) -> Content | TextStream:
    """Returns a stream as a file, or a longer text as a stream that is read on demand.

    Raises:
        InputError: It is empty, or a file of another kind that is too large.
    """
    head, size = [], 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > bounds.lazy_bytes:
            break
    else:
        if not size:
            raise InputError(f"Cannot read {name}: it is empty.")
        return Content(name, spool.write(head, name, bounds.stream_bytes), spool)
    start = head[0] if len(head[0]) >= SAMPLE_BYTES else b"".join(head)[:SAMPLE_BYTES]
    form = form_of([start], has_end=False)
    is_text = (
        not compression(start)
        and not form.binary
        and kind_of(start, b"", "").name in ("text", "html")
    )
    everything = _all(head, pieces)
    if not is_text:
        return Content(name, spool.write(everything, name, bounds.stream_bytes), spool)
    stream = TextStream(
        decoded(everything, form.encoding), name=name, most_bytes=bounds.stream_bytes
    )
    longer = f"more than {size_text(bounds.lazy_bytes)}, read as far as it is needed"
    stream.note = "; ".join(filter(None, (longer, form.note)))
    return stream


def _all(head: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    while head:
        yield head.pop(0)
    yield from rest
