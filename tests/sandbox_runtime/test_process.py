"""The child process: bytes in and out, exit and kill. The child is a small Python program here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox_runtime.rpc.process import STDERR_BYTES, Process

MEMORY = 4 * 2**30

ECHO = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
FOR_EVER = "import sys; sys.stdout.write('up'); sys.stdout.flush(); sys.stdin.read()"


@pytest.fixture
def start():
    """Starts children; kills and releases them after the test."""
    started = []

    def begin(code, environment=None):
        process = Process([sys.executable, "-I", "-c", code], environment or {}, MEMORY)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.release()


def read_all(process):
    """Reads the child's stdout to its end."""
    data, space = b"", memoryview(bytearray(65536))
    while count := process.read_into(space):
        data += space[:count]
    return data


class TestPipes:
    """Written bytes arrive, in any number of pieces."""

    def test_small_pieces_and_large_ones(self, start):
        """All pieces arrive in order, whatever their type."""
        pieces = [b"head", bytearray(b"er"), memoryview(b"x" * 100_000), b"", b"tail"]
        process = start("import sys; data = sys.stdin.buffer.read(100_010); print(data == "
                        "b'header' + b'x' * 100_000 + b'tail')")  # fmt: skip

        process.write(pieces)

        assert read_all(process).strip() == b"True"

    def test_a_view_of_numbers_is_written_as_its_bytes(self, start):
        """Buffers of pickles may have any item format."""
        process = start("import sys; print(len(sys.stdin.buffer.read(80_000 * 8)))")

        process.write([memoryview(bytes(80_000 * 8)).cast("d")])

        assert read_all(process).strip() == b"640000"

    def test_more_than_a_pipe_holds(self, start):
        """A write blocks until the child has read; no byte is lost."""
        process = start(ECHO)
        data = os.urandom(8 * 2**20)
        got = bytearray()

        def empty():
            space = memoryview(bytearray(65536))
            while len(got) < len(data):
                got.extend(space[: process.read_into(space)])

        reader = threading.Thread(target=empty)
        reader.start()
        process.write([data])
        reader.join()

        assert got == data

    def test_a_child_that_does_not_read(self, start):
        """Writing to it raises TimeoutError after `patience` seconds."""
        process = start(FOR_EVER.replace("sys.stdin.read()", "import time; time.sleep(60)"))

        with pytest.raises(TimeoutError, match=r"read nothing for 0\.1 s"):
            process.write([bytes(8 * 2**20)], 0.1)

    def test_waiting_for_something_to_read(self, start):
        """`wait_readable` is True for data or the end of the stream, and False on timeout."""
        process = start("import sys, time; sys.stdin.read(1); print('x')")
        assert not process.wait_readable(0.01)

        process.write([b"1"])

        assert process.wait_readable(30)
        assert read_all(process).strip() == b"x"
        assert process.wait_readable(30)

    def test_the_end_of_the_stream(self, start):
        """A read returns 0 when the child has closed its end."""
        process = start("")

        assert process.read_into(memoryview(bytearray(10))) == 0

    def test_writing_to_a_dead_child(self, start):
        """A write raises OSError, and no signal ends the host."""
        process = start("")
        process.wait()

        with pytest.raises(OSError, match="pipe"):
            process.write([bytes(2**20)])

    def test_writing_after_the_release(self, start):
        """A write after the release raises the same error as for a dead child."""
        process = start("")
        process.wait()
        process.release()

        with pytest.raises(BrokenPipeError):
            process.write([b"x"])

    def test_reading_after_the_release(self, start):
        """A read after the release returns the end of the stream."""
        process = start("")
        process.wait()
        process.release()

        assert process.read_into(memoryview(bytearray(10))) == 0


class TestStderr:
    """stderr is drained, and its tail is kept."""

    def test_the_end_is_kept(self, start):
        """However much is written, a bounded tail is kept for error messages."""
        process = start("import sys\nfor n in range(200_000): print('line', n, file=sys.stderr)")

        process.drain_stderr()

        assert process.stderr_tail.endswith("line 199999")
        assert STDERR_BYTES <= len(process.stderr_tail) + 1 < 2 * STDERR_BYTES

    def test_a_child_that_complains_does_not_block(self, start):
        """A full stderr pipe would otherwise block it before it answers."""
        process = start("import sys; sys.stderr.write('x' * 10**6); print('done')")
        drainer = threading.Thread(target=process.drain_stderr)
        drainer.start()

        assert read_all(process).strip() == b"done"
        drainer.join()

    def test_bytes_that_are_no_text(self, start):
        """Bytes that are not UTF-8 become replacement characters."""
        process = start(r"import os; os.write(2, b'bad \xff\n')")

        process.drain_stderr()

        assert process.stderr_tail == "bad \ufffd"


class TestEnds:
    """A child exits or is killed; either way it is reaped and released."""

    def test_the_exit_code(self, start):
        """`wait` returns the child's exit code."""
        assert start("raise SystemExit(3)").wait() == 3

    def test_kill(self, start):
        """`kill` works at once, from any thread, and repeatedly."""
        process = start(FOR_EVER)
        process.read_into(memoryview(bytearray(2)))
        killer = threading.Thread(target=process.kill)
        killer.start()

        assert process.read_into(memoryview(bytearray(2))) == 0
        assert process.wait() not in (0, None)
        killer.join()
        process.kill()

    def test_an_ended_child_has_no_threads(self, start):
        """Its CPU times are empty after it was reaped: it may end while they are read."""
        process = start("pass")
        process.wait()

        assert process.thread_times() == {}

    def test_waiting_for_a_child_that_lives(self, start):
        """`wait` returns None on timeout."""
        assert start(FOR_EVER).wait(0.01) is None

    def test_releasing_twice(self, start):
        """A second release does nothing."""
        process = start("")
        process.wait()

        process.release()
        process.release()

    def test_the_end_of_its_input_is_the_end_of_its_life(self, start):
        """The child's input ends when the host does."""
        process = start(FOR_EVER)

        process.release()

        assert process.wait() is not None

    def test_a_program_that_does_not_exist(self):
        """The operating system's own error is raised."""
        with pytest.raises(FileNotFoundError):
            Process(["/no/such/program"], {}, MEMORY)


class TestSurroundings:
    """A child sees nothing of the host beside what it receives."""

    def test_the_environment(self, start, monkeypatch):
        """The environment has exactly the passed names, and no key or token of the host."""
        monkeypatch.setenv("SECRET_TOKEN", "hush")
        code = "import os; os.environ.pop('LC_CTYPE', None); print(dict(os.environ))"

        assert read_all(start(code, {"ONLY": "this"})).strip() == b"{'ONLY': 'this'}"

    def test_the_working_directory(self, start):
        """The child runs in the root folder, away from the host's project."""
        message = read_all(start("import os; print(os.getcwd())")).strip().decode()

        assert message == Path(sys.executable).anchor

    @pytest.mark.skipif(not hasattr(os, "getsid"), reason="there are no sessions on Windows")
    def test_signals_of_the_terminal_do_not_reach_it(self, start):
        """Ctrl-C is for the host, which then closes its sandboxes itself."""
        process = start(FOR_EVER)

        assert os.getsid(process.pid) != os.getsid(0)
        assert os.getpgid(process.pid) == process.pid

    @pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
    def test_memory_and_core_dumps_are_limited(self, start):
        """The kernel enforces the limits, whatever the child does."""
        process = start(FOR_EVER)
        lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
        limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}

        assert limits["Max core file size"] == ["0", "0"]
        assert limits["Max data size"] == [str(MEMORY), str(MEMORY)]

    @pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
    def test_a_limit_that_is_lower_already(self):
        """It stays, and the others are set all the same."""
        host = (
            "import json, resource, sys\n"
            "from pathlib import Path\n"
            "sys.path[:] = json.loads(sys.argv[1])\n"
            "from sandbox_runtime.rpc.process import Process\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (90, 100))\n"
            f"process = Process([sys.executable, '-I', '-c', {FOR_EVER!r}], {{}}, {MEMORY})\n"
            "print(Path(f'/proc/{process.pid}/limits').read_text())\n"
            "process.kill(); process.wait(); process.release()\n"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-c", host, json.dumps(sys.path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        limits = {line[:26].strip(): line[26:].split()[:2] for line in done.stdout.splitlines()}

        assert limits["Max open files"] == ["100", "100"]
        assert limits["Max data size"] == [str(MEMORY), str(MEMORY)]
        assert limits["Max file size"] == ["0", "0"]

    def test_no_other_file_is_open_in_it(self, start, tmp_path):
        """The host's files and sockets are not inherited."""
        with (tmp_path / "host's").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            code = f"import os\ntry: os.fstat({file.fileno()})\nexcept OSError: print('closed')"

            assert read_all(start(code)).strip() == b"closed"
