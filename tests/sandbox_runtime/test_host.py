"""The sandbox's main thread, spoken to without the session that keeps to the protocol."""

from __future__ import annotations

import pytest

from sandbox_runtime import Limits
from sandbox_runtime.open import ready_engine
from sandbox_runtime.rpc.channel import Channel
from sandbox_runtime.rpc.messages import Fatal, Run
from sandbox_runtime.rpc.process import Process
from sandbox_runtime.rpc.protocol import Connection, encode_frame

LIMITS = Limits()


@pytest.fixture
def last_words():
    """Returns the last message of a fresh sandbox after such bytes."""
    engine = ready_engine()
    processes = []

    def say(*pieces):
        process = Process(engine.command(LIMITS), engine.environment, 4 * 2**30)
        processes.append(process)
        process.write(pieces)
        connection, heard = Connection(LIMITS.frame_bytes), []
        while count := process.read_into(connection.space()):
            heard += connection.received(count)
        return heard

    yield say
    for process in processes:
        process.kill()
        process.wait()
        process.release()


class TestBreaches:
    """Bytes that are not of the protocol end the process, and its last message says so."""

    def test_bytes_that_are_no_frame(self, last_words):
        """They are found when they are read."""
        assert last_words(b"hello\r\n\r\n") == [Fatal("protocol", "A frame's header is malformed.")]

    def test_a_message_that_is_none(self, last_words):
        """It is found when it is looked at."""
        body = {"jsonrpc": "2.0", "id": 1, "method": "fly"}

        assert last_words(*encode_frame(body)) == [
            Fatal("protocol", "The host sent fly, an unknown request.")
        ]

    def test_a_request_that_comes_too_early(self, last_words):
        """It is found when it is to be done."""
        _, pieces = Connection(LIMITS.frame_bytes).request(Run(1, "1"))

        assert last_words(*pieces) == [Fatal("protocol", "The first request must be initialize.")]

    def test_an_answer_to_no_call(self, last_words):
        """It is found although nothing waits for it."""
        body = {"jsonrpc": "2.0", "id": 9, "result": {}}

        assert last_words(*encode_frame(body)) == [
            Fatal("protocol", "The host answered a call that was not made.")
        ]


class TestNobodyReads:
    """A process whose words nobody hears any more ends, and does not try to say so for ever."""

    def test_in_the_middle_of_a_frame(self):
        """The pipe breaks while a large value is written; its other pipe and its parent are still there."""
        exchange = Channel(ready_engine(), LIMITS, "")
        process = exchange._process
        try:
            _, pieces = exchange._connection.request(Run(1, "SUBMIT('x' * 50_000_000)"))
            process.write(pieces)
            assert process.wait_readable(60)
            process._stdout.close()

            assert process.wait(20) == 1
        finally:
            exchange.close()
