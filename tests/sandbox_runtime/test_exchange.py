"""Channels to a misbehaving process. A small Python program plays the sandbox."""

from __future__ import annotations

import dataclasses
import json
import struct
import sys
import threading
from pathlib import Path

import pytest

from sandbox_runtime import Limits, SandboxDiedError
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.rpc.channel import Channel
from sandbox_runtime.rpc.messages import TakeImage, ToolReturned
from sandbox_runtime.rpc.open_calls import MAX_OPEN_CALLS
from sandbox_runtime.rpc.sandbox_messages import CALL, END, EXIT_REASONS, OUTPUT, REFUSED
from sandbox_runtime.sessions import client
from sandbox_runtime.values.encoder import ValueCodec

# Answers each request with the result and the parts that its first argument has for the method. Before the end of a
# cell it writes frames of its own: "R" in them is the cell's request, "L" the length of the rest.
SANDBOX = """
import json, struct, sys
answers = json.loads(sys.argv[1])
inp, out = sys.stdin.buffer, sys.stdout.buffer
def frame(kind, ident, arg, body, parts=()):
    body = body if isinstance(body, bytes) else body.encode("latin-1")
    head = struct.pack("<BBHIiI", 0xD1, kind, len(parts), ident, arg, len(body))
    out.write(head + struct.pack(f"<{len(parts)}I", *map(len, parts)) + body + b"".join(parts))
while head := inp.read(16):
    _, kind, count, ident, arg, size = struct.unpack("<BBHIiI", head)
    sizes = struct.unpack(f"<{count}I", inp.read(4 * count))
    body = inp.read(size)
    parts = [inp.read(size) for size in sizes]
    if kind not in (1, 4) or ident == 0:
        continue
    method = "run" if kind == 1 else json.loads(body)["method"]
    if method == "run":
        for number in range(answers.get("outputs", 0)):
            frame(4, 0, ident, answers["texts"][number % len(answers["texts"])] + "\\n")
        for number in range(answers.get("calls", 0)):
            frame(1, number, ident, "1f\\x000\\0[[],{}]\\n")
        for kind, own, arg, body in answers.get("before", ()):
            frame(kind, own, ident if arg is None else arg, body)
        out.write(answers.get("bytes", "").encode("latin-1"))
        if "code" in answers:
            out.flush()
            print("the noise of others\\n" + answers.get("stderr", ""), file=sys.stderr, flush=True)
            sys.exit(answers["code"])
        if "outputs" in answers:
            break
    result, parts = answers.get(method, [{}, []])
    frame(2, ident, 0, json.dumps(result) + "\\n", [part.encode("latin-1") for part in parts])
    if method == "run":
        for kind, own, arg, body in answers.get("after", ()):
            frame(kind, own, ident if arg is None else arg, body)
    out.flush()
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


def run(channel, serve=lambda call: None):
    return client.run(channel, 1, "1", serve, lambda: False, lambda seconds: True)


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
        return caught.value

    def test_little(self, talk):
        """A short output is kept completely."""
        assert self.last_output(talk, 3, ["a", "b", "c"]).output == "abc"

    def test_as_much_as_a_cell_may_show(self, talk):
        """All of it is kept, in whatever pieces it arrived."""
        limit = Limits().output_chars

        assert self.last_output(talk, limit, ["x"]).output == "x" * limit

    def test_more_than_a_cell_may_show(self, talk):
        """The sandbox itself sends no more than that, so more is a breach; what is shown is abridged."""
        limit = Limits().output_chars

        died = self.last_output(talk, 30_000, ["0123456789"])

        assert died.reason == "protocol"
        assert died.output == "0123456789" * (limit // 10)

    @pytest.mark.parametrize("texts", [[""], ["a", ""]])
    def test_nothing_at_all(self, talk, texts):
        """Empty pieces are a breach: any number of them would fit into the limit."""
        assert self.last_output(talk, 100_000, texts).reason == "protocol"


class TestOutOfTurn:
    """A message in the wrong place, or for another request, ends the process that sent it."""

    @pytest.mark.parametrize(
        "frame",
        [
            [CALL, 1, 5, "0f\x000\0[[],{}]\n"],
            [OUTPUT, 0, 5, "text\n"],
            [END, 5, 0, json.dumps(CELL_END) + "\n"],
            [REFUSED, 5, 0, '{"type": "E", "message": "m"}\n'],
            [9, 0, None, "{}\n"],
            [OUTPUT, 0, None, "text"],
            [END, 0, 0, "{}"],
        ],
        ids=["call", "output", "end", "refusal", "kind", "no end", "no end of an end"],
    )
    def test_before_the_end(self, talk, frame):
        """Frames that do not carry the number of this request are not this cell's."""
        channel = talk(before=[frame])

        with pytest.raises(SandboxDiedError) as caught:
            run(channel)

        assert caught.value.reason == "protocol"
        assert not channel.check_alive()

    @pytest.mark.parametrize(
        "frame",
        [
            [CALL, 1, None, "0f\x000\0[[],{}]\n"],
            [OUTPUT, 0, None, "text\n"],
            [END, 5, 0, json.dumps(CELL_END) + "\n"],
        ],
        ids=["call", "output", "end"],
    )
    def test_after_the_end(self, talk, frame):
        """Nothing is served after the end of a cell: the next request finds it, and the process has ended."""
        served = []
        channel = talk(run=[CELL_END, []], after=[frame])

        run(channel)
        with pytest.raises(SandboxDiedError) as caught:
            run(channel, served.append)

        assert caught.value.reason == "protocol"
        assert served == []

    def test_a_call_between_cells(self, talk):
        """A request that runs no cell has no calls."""
        channel = talk(run=[CELL_END, []], after=[[CALL, 1, None, "0f\x000\0[[],{}]\n"]])
        run(channel)

        with pytest.raises(SandboxDiedError, match="messages after its answer"):
            client.take_image(channel)

    def test_the_same_call_twice(self, talk):
        """Every open call has a number of its own."""
        call = [CALL, 1, None, "1f\x000\0[[],{}]\n"]
        channel = talk(before=[call, call])

        with pytest.raises(SandboxDiedError, match="the same call twice"):
            run(channel)

    def test_too_many_open_calls(self, talk):
        """A flood of calls that the host has not answered ends the process."""
        channel = talk(calls=MAX_OPEN_CALLS + 1)

        with pytest.raises(SandboxDiedError, match="too many calls"):
            run(channel)

    def test_half_a_frame_and_the_end_of_the_pipe(self, talk):
        """An incomplete frame is never decoded."""
        channel = talk(before=[[OUTPUT, 0, None, "whole\n"]], bytes="\xd1\x02\0\0\1", code=9)

        with pytest.raises(SandboxDiedError, match="ended with code 9") as caught:
            run(channel)

        assert caught.value.output == "whole"

    def test_bytes_that_are_no_frame(self, talk):
        """They are refused at the first byte."""
        with pytest.raises(SandboxDiedError, match="not a frame"):
            run(talk(bytes="Content-Length: 3\r\n\r\n{}\n"))


class TestExitCodes:
    """The exit code of a process, and no frame, states the reason for which it ended itself."""

    @pytest.mark.parametrize(("code", "reason"), EXIT_REASONS.items())
    def test_reasons(self, talk, code, reason):
        """Each code is a reason. The sentence is the last line of stderr, or ours where there is one."""
        channel = talk(code=code, stderr="Why.\n")

        with pytest.raises(SandboxDiedError) as caught:
            run(channel)

        assert caught.value.reason == reason
        assert "noise" not in str(caught.value)

    @pytest.mark.parametrize("code", [1, 69, 75])
    def test_other_codes(self, talk, code):
        """Any other code is an end without a reason."""
        with pytest.raises(SandboxDiedError, match=f"ended with code {code}") as caught:
            run(talk(code=code, stderr="words"))

        assert caught.value.reason == "exit"


class TestAnswers:
    """A call has one answer, whoever gives it first, and none after its cell."""

    def test_an_interrupt_answers_a_blocking_call(self, talk):
        """The tool's own answer comes second, and is dropped."""
        call = [CALL, 1, None, "0f\x000\0[[],{}]\n"]
        channel = talk(before=[call], run=[CELL_END, []])

        unanswered = []

        def serve(call):
            channel.interrupt()
            unanswered.append(channel._writer._calls.claim(call.id))
            return ToolReturned(call.id, "json", "1")

        assert run(channel, serve)[0].outcome == "completed"
        assert unanswered == [False]

    def test_an_answer_after_the_end(self, talk):
        """It is dropped: the next request must be the next thing that the sandbox reads."""
        channel = talk(before=[[CALL, 1, None, "1f\x000\0[[],{}]\n"]], run=[CELL_END, []])
        run(channel)

        channel.answer(ToolReturned(1, "json", "1"))

        channel._process.write(channel._connection.request(TakeImage())[1])
        assert channel._process.wait_readable(20)
