"""The sandbox's main thread, spoken to without the session that keeps to the protocol."""

from __future__ import annotations

import pytest

from sandbox_runtime import Limits
from sandbox_runtime.open import ready_engine
from sandbox_runtime.rpc.channel import Channel
from sandbox_runtime.rpc.frames import encode_frame
from sandbox_runtime.rpc.messages import ANSWER, REQUEST, Initialize, Run
from sandbox_runtime.rpc.process import Process
from sandbox_runtime.rpc.protocol import Connection
from sandbox_runtime.rpc.sandbox_messages import EXIT_REASONS

LIMITS = Limits()
EXIT_CODES = {reason: code for code, reason in EXIT_REASONS.items()}


@pytest.fixture
def last_words():
    """Returns the exit code, stdout and the last line of stderr of a fresh sandbox after such bytes."""
    engine = ready_engine()
    processes = []

    def say(*pieces):
        process = Process(engine.command(LIMITS), engine.environment, 4 * 2**30)
        processes.append(process)
        process.write(pieces)
        space, heard = memoryview(bytearray(1000)), b""
        while count := process.read_into(space):
            heard += space[:count]
        code = process.wait(60)
        process.drain_stderr()
        return code, heard, process.stderr_tail.rpartition("\n")[2]

    yield say
    for process in processes:
        process.kill()
        process.wait()
        process.release()


def initialize(**changes):
    fields = {
        "cell_seconds": 1.0,
        "grace_seconds": 1.0,
        "memory_bytes": 2**28,
        "output_chars": 100,
        "value_bytes": 100,
        "seed": "",
        "relayed": False,
        "assets": ["pyodide.js"],
        **changes,
    }
    return Connection(LIMITS.frame_bytes).request(Initialize(**fields))[1]


class TestBreaches:
    """Bytes that are not of the protocol end the process. Its exit code is the reason, and nothing is on stdout."""

    def test_bytes_that_are_no_frame(self, last_words):
        """They are found when they are read."""
        assert last_words(b"hello, this is no frame") == (
            EXIT_CODES["protocol"],
            b"",
            "What arrived is not a frame.",
        )

    def test_a_request_that_is_none(self, last_words):
        """It is found when it is looked at."""
        pieces = encode_frame(REQUEST, 1, 0, b'{"method":"fly","params":{}}')

        assert last_words(*pieces) == (
            EXIT_CODES["protocol"],
            b"",
            "The host sent fly, an unknown request.",
        )

    def test_a_request_that_comes_too_early(self, last_words):
        """It is found when it is to be done."""
        _, pieces = Connection(LIMITS.frame_bytes).request(Run(1, "1"))

        assert last_words(*pieces) == (
            EXIT_CODES["protocol"],
            b"",
            "The first request must be initialize.",
        )

    def test_an_answer_to_no_call(self, last_words):
        """An answer is no request."""
        assert last_words(*encode_frame(ANSWER, 9, 0, b"=1")) == (
            EXIT_CODES["protocol"],
            b"",
            "The host sent an unknown frame.",
        )

    def test_another_version(self, last_words):
        """Two incompatible ends refuse each other, and say which versions they speak."""
        code, heard, words = last_words(*initialize(version=3))

        assert (code, heard) == (EXIT_CODES["version"], b"")
        assert words.endswith("of the protocol, the host 3.")

    def test_another_request_where_a_file_is_due(self, last_words):
        """The files come first."""
        run = encode_frame(REQUEST, 2, 0, b'{"method":"checkpoint","params":{}}')

        code, heard, words = last_words(*initialize(), *run)

        assert (code, heard) == (EXIT_CODES["protocol"], b"")
        assert words == "A file of the start is missing."


class TestNobodyReads:
    """A process whose words nobody hears any more ends, and does not try to say so for ever."""

    def test_in_the_middle_of_a_frame(self):
        """The pipe breaks while a large value is written; its other pipe and its parent are still there."""
        channel = Channel(ready_engine(), LIMITS, "")
        process = channel._process
        try:
            _, pieces = channel._connection.request(Run(1, "SUBMIT('x' * 50_000_000)"))
            process.write(pieces)
            assert process.wait_readable(60)
            process._stdout.close()

            assert process.wait(60) == EXIT_CODES["crash"]
        finally:
            channel.close()

    def test_the_pipe_to_the_worker_closes(self):
        """The worker reads the pipe itself between cells, and its end is the end of the process."""
        channel = Channel(ready_engine(), LIMITS, "")
        process = channel._process
        try:
            process._stdin.close()

            assert process.wait(60) == 0
        finally:
            channel.close()
