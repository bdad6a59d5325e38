"""Channels to a misbehaving process. A small Python program plays the sandbox."""

from __future__ import annotations

import dataclasses
import json
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox_runtime import Limits, SandboxDiedError
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.rpc.channel import Channel
from sandbox_runtime.sessions import client
from sandbox_runtime.values.encoder import ValueCodec

# Answers each request with the result and the parts that its first argument has for the method.
SANDBOX = """
import json, sys
answers = json.loads(sys.argv[1])
secret = ""
while True:
    sizes = []
    while line := sys.stdin.buffer.readline().strip():
        sizes += [int(size) for size in line.split(b": ")[1].split(b",")]
    if not sizes:
        break
    request, *_ = [sys.stdin.buffer.read(size) for size in sizes]
    request = json.loads(request)
    if "id" not in request:
        continue
    secret = request["params"].get("secret", secret)
    for number in range(answers.get("outputs", 0) if request["method"] == "run" else 0):
        params = {"cell": 1, "text": answers["texts"][number % len(answers["texts"])]}
        body = json.dumps({"jsonrpc": "2.0", "method": "output", "params": params}).encode()
        head = f"Secret: {secret}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
        sys.stdout.buffer.write(b"".join((head.encode(), body, f"{secret}\\n".encode())))
    if "outputs" in answers and request["method"] == "run":
        break
    result, parts = answers.get(request["method"], [{}, []])
    body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
    head = f"Secret: {secret}\\r\\nContent-Length: {len(body)}\\r\\n"
    if parts:
        head += f"Attachments: {','.join(str(len(part)) for part in parts)}\\r\\n"
    frame = [head.encode(), b"\\r\\n", body, *(part.encode("latin-1") for part in parts)]
    frame.append(f"{secret}\\n".encode())
    sys.stdout.buffer.write(b"".join(frame))
    sys.stdout.buffer.flush()
"""

CELL_END = {
    "outcome": "completed",
    "output": "",
    "errorType": "",
    "message": "",
    "traceback": "",
    "noted": 0,
}


@dataclasses.dataclass(frozen=True)
class Player(Engine):
    """An engine whose sandbox returns prepared answers."""

    answers: str = "{}"

    def command(self, limits):
        return [sys.executable, "-I", "-c", SANDBOX, self.answers]

    @property
    def file_names(self):
        return ()

    def files(self):
        return iter(())


@pytest.fixture
def talk():
    """Opens channels to sandboxes with prepared answers by method."""
    begun = []

    def begin(**answers):
        engine = Player(Path(), Path(), answers=json.dumps(answers))
        begun.append(Channel(engine, Limits(), ""))
        return begun[-1]

    yield begin
    for channel in begun:
        channel.close()


def run(channel):
    return client.run(channel, 1, "1", lambda call: None, lambda: False, lambda seconds: True)


def head(memory):
    return struct.pack("<d", memory).decode("latin-1")


class Meeting:
    """A lock whose holder meets another thread on the way out."""

    def __init__(self, lock, other):
        self.acquire, self.release = lock.acquire, lock.release
        self._other = other

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_):
        thread = threading.Thread(target=self._other)
        thread.start()
        thread.join()
        self.release()


def test_closed_at_the_very_end_of_a_request(talk):
    """Whichever thread finishes last closes the pipes."""
    channel = talk(run=[CELL_END, []])
    channel._asking = Meeting(channel._asking, channel.close)

    run(channel)

    assert not channel.check_alive()
    assert channel._process._stdout.closed


def test_answers_that_are_right(talk):
    """Valid answers work, so that the following tests are meaningful."""
    channel = talk(
        run=[CELL_END, []],
        checkpoint=[{}, [head(1.0), "pages", "disk"]],
        compiled=[{}, ["code"]],
    )

    client.assign(channel, "x", 1, ValueCodec())

    assert run(channel)[0].outcome == "completed"
    assert list(client.take_image(channel).values())[1:] == [b"pages", b"disk"]
    assert client.compiled_runtime(channel) == b"code"
    assert channel.alive


@pytest.mark.parametrize(
    ("ask", "method", "answer"),
    [
        (run, "run", [{}, []]),
        (run, "run", [{**CELL_END, "outcome": "won"}, []]),
        (client.take_image, "checkpoint", [{}, []]),
        (client.take_image, "checkpoint", [{}, [head(1.0), "pages", "disk", "more"]]),
        (client.take_image, "checkpoint", [{}, ["short", "pages", "disk"]]),
        (client.take_image, "checkpoint", [{}, [head(float("nan")), "pages", "disk"]]),
        (client.compiled_runtime, "compiled", [{}, []]),
    ],
)
def test_answers_of_the_wrong_content(talk, ask, method, answer):
    """Invalid results end the process, like any violation of the protocol."""
    channel = talk(**{method: answer})

    with pytest.raises(SandboxDiedError, match="The sandbox s") as caught:
        ask(channel)

    assert caught.value.reason == "protocol"
    assert not channel.alive


class TestLastOutput:
    """A cell's output before its process's end is kept, within the limit of a cell's output."""

    def last_output(self, talk, outputs, texts):
        channel = talk(outputs=outputs, texts=texts)
        with pytest.raises(SandboxDiedError) as caught:
            run(channel)
        return caught.value.output

    def test_little(self, talk):
        """A short output is kept completely."""
        assert self.last_output(talk, 3, ["a", "b", "c"]) == "abc"

    def test_more_than_a_cell_may_show(self, talk):
        """A long output is abridged as by the sandbox itself, in whatever chunks it arrived."""
        limit = Limits().output_chars

        text = self.last_output(talk, 30_000, ["0123456789"])

        half = "0123456789" * (limit // 20)
        assert text == f"{half}\n... ({300_000 - limit:,} characters omitted) ...\n{half}"

    def test_nothing_very_often(self, talk):
        """Empty chunks are not kept; a hundred thousand of them cost little."""
        before = time.process_time()

        assert self.last_output(talk, 100_000, [""]) == ""
        # Joining all chunks for each new one took more than a minute.
        assert time.process_time() - before < 30
