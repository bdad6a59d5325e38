"""Bounds on the sandbox's cost to the host process: CPU, stalls, memory, threads, disk.

The numbers stand in `host_costs.py` and in SECURITY.md. Work is counted in CPU seconds, so that a loaded
machine changes nothing.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from sandbox_runtime import (
    Completed,
    Limits,
    Submitted,
    TextFile,
    ValueCrossingError,
    open_session,
)
from sandbox_runtime.host_costs import (
    MAX_LOST_THREADS,
    MEBIBYTE,
    OTHER_THREADS,
    READ_BYTES_PER_BYTE,
    READ_CPU_SECONDS,
    READ_CPU_SECONDS_PER_MEBIBYTE,
    READ_STALL_SECONDS,
    READ_STALL_SECONDS_PER_MEBIBYTE,
    THREADS_PER_CONCURRENT_CALL,
    UNESTIMATED_BYTES,
)
from sandbox_runtime.values.encoder import ValueCodec
from tests.fuzz.forms import FORMS
from tests.measuring import Cost

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SIZE = 2 * MEBIBYTE


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", FORMS)
def test_one_value(name):
    """A value of any form is decoded or refused within the cost that its size allows."""
    parts = FORMS[name](SIZE)
    size = sum(map(len, parts)) / MEBIBYTE

    with Cost() as cost, contextlib.suppress(ValueCrossingError):
        ValueCodec().decode(parts)

    assert cost.cpu_seconds < READ_CPU_SECONDS + READ_CPU_SECONDS_PER_MEBIBYTE * size
    assert cost.stall_seconds < READ_STALL_SECONDS + READ_STALL_SECONDS_PER_MEBIBYTE * size
    assert cost.peak_bytes < READ_BYTES_PER_BYTE * (size * MEBIBYTE + UNESTIMATED_BYTES)


@pytest.mark.parametrize("name", ["empty lists", "small dicts", "a table of one column"])
def test_memory_is_bounded_by_the_frame(name):
    """A value takes no more than the multiple of `Limits.frame_bytes`, however small its parts are."""
    limits = Limits(frame_bytes=4 * MEBIBYTE)
    parts = FORMS[name](limits.frame_bytes)

    with Cost() as cost, pytest.raises(ValueCrossingError, match="host's memory"):
        ValueCodec().decode(parts, limits.value_memory_bytes)

    # No more than the limit is read before the value is known to be too large.
    assert cost.peak_bytes < limits.value_memory_bytes + 2 * limits.frame_bytes


CELLS = {
    "a hostile set for a tool": (
        "from collections.abc import Set\n"
        "class S(Set):\n"
        "    def __contains__(self, x): return True\n"
        "    def __len__(self): return 30_000\n"
        "    def __iter__(self): return (k * (2**61 - 1) for k in range(30_000))\n"
        "try:\n    take(S())\nexcept Exception as error:\n    print(error)\n"
    ),
    "a decimal for a tool": (
        "from sandbox_runtime.guest.values import codec\n"
        "from decimal import Decimal\n"
        "codec.MAX_EXPONENT = 10**12\n"
        "try:\n    take(Decimal('1e999999999'))\nexcept Exception as error:\n    print(error)\n"
    ),
    "many small calls": "for k in range(2000):\n    take(k)\n",
    "a batch": "take.batched(range(20_000))\n",
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", CELLS)
def test_one_cell(name):
    """In a real session, the host's work for a cell is short, and so is each stall."""
    limits = Limits(cell_seconds=20)
    with open_session(limits=limits, tools={"take": lambda value: None}) as session, Cost() as cost:
        result = session.run_cell(CELLS[name])

    assert isinstance(result, Completed)
    assert cost.cpu_seconds < 20
    assert cost.stall_seconds < READ_STALL_SECONDS
    assert cost.peak_bytes < 128 * MEBIBYTE


def test_a_submission_that_collides():
    """A submission with colliding keys is refused, and the next one is accepted."""
    code = (
        "import collections.abc\n"
        "class S(collections.abc.Set):\n"
        "    def __contains__(self, x): return True\n"
        "    def __len__(self): return 30_000\n"
        "    def __iter__(self): return (k * (2**61 - 1) for k in range(30_000))\n"
        "SUBMIT(answer=S())"
    )
    with open_session(outputs={"answer": "set"}) as session:
        with Cost() as cost:
            result = session.run_cell(code)
        good = session.run_cell("SUBMIT(answer={1})")

    assert "collide" in result.message
    assert cost.stall_seconds < READ_STALL_SECONDS
    assert isinstance(good, Submitted)


def test_threads():
    """The number of threads per running call is bounded, and a queued call has none."""
    release = threading.Event()
    limits = Limits(concurrent_calls=4, call_seconds=60)
    with open_session(limits=limits, tools={"hang": lambda: release.wait(30)}) as session:
        with Cost() as cost:
            session.run_cell(
                "import asyncio\n"
                "tasks = [asyncio.ensure_future(hang.aio()) for _ in range(50)]\n"
                "await asyncio.sleep(1)"
            )
        release.set()

    assert 0 < cost.threads <= THREADS_PER_CONCURRENT_CALL * 4 + OTHER_THREADS


def test_threads_of_calls_that_were_given_up():
    """Calls left behind by many cells are bounded in number, and the cell gets an error."""
    release, limits = threading.Event(), Limits(concurrent_calls=16)
    with open_session(limits=limits, tools={"hang": lambda: release.wait(60)}) as session:
        with Cost() as cost:
            for _ in range(8):
                result = session.run_cell(
                    "import asyncio\n"
                    "tasks = [asyncio.ensure_future(hang.aio()) for _ in range(16)]\n"
                    "await asyncio.sleep(0.3)\n"
                    "print([str(t.exception()) for t in tasks if t.done()])"
                )
        release.set()

    assert "abandoned calls are still running on the host" in result.output
    assert cost.threads <= MAX_LOST_THREADS + 2 * 16 + OTHER_THREADS


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Returns an empty folder, which is the working folder and that of temporary files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def unnamed_in(folder):
    """Returns the sizes of the files without a name that this process has open in a folder."""
    sizes = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            place = str(link.readlink())
            if place.startswith(f"{folder}/") and place.endswith(" (deleted)"):
                sizes.append(link.stat().st_size)
    return sizes


def test_disk(disk):
    """A session writes no files, neither in its working folder nor in the temporary folder."""
    with open_session(tools={"echo": lambda value: value}) as session:
        session.run_cell("open('/tmp/x', 'w').write('x' * 1_000_000); echo('y' * 1_000_000)")
        session.checkpoint()

        assert list(disk.iterdir()) == []
        assert unnamed_in(disk) == []


def test_disk_of_a_new_user(tmp_path):
    """The only file of a session without a pool says which version of Deno was tried."""
    program = "from sandbox_runtime import open_session\nwith open_session() as s: s.run_cell('1')"
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TMPDIR": str(tmp_path)},
        check=True,
        timeout=100,
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file()]

    assert all(
        re.fullmatch(r"state/dspy-rlm/deno-[0-9a-f]{16}", str(path.relative_to(tmp_path)))
        for path in files
    )
    assert sum(path.stat().st_size for path in files) < 20


def test_disk_for_a_compressed_text(tmp_path, disk):
    """A compressed text is in a file without a name as far as it was read, and only while the text is in use."""
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(b"a line of a log\n" * 200_000))
    with open_session() as session:
        session.assign("text", TextFile(packed))
        assert session.run_cell("print(len(text))") == Completed("3200000\n")

        assert unnamed_in(disk) == [3_200_000]
        assert list(disk.iterdir()) == []
    del session
    gc.collect()

    assert unnamed_in(disk) == []
    assert list(disk.iterdir()) == []
