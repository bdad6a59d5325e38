"""Large values on the real engine: they arrive whole, leave no copies, and are refused with numbers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy
import pytest
from cells import output

from sandbox_runtime import Limits, ValueCrossingError, open_session
from sandbox_runtime.limits import MEBIBYTE


@pytest.fixture(scope="module")
def session():
    """One session; each test uses different variable names."""
    with open_session() as shared:
        yield shared


class TestArrival:
    """Values sent in chunks arrive equal and with the same type."""

    @pytest.mark.parametrize("letters", ["xyz\n", "naïf", "語 y\n", "🙂 yz", "\ud83d\ude42 y"])
    def test_text_of_every_width(self, session, letters):
        """The text equals one created in the sandbox, so its internal representation is right."""
        session.assign("text", letters * 1_000_001)

        assert output(session, f"text == {letters!r} * 1_000_001, text.isascii()") == str(
            (True, letters.isascii())
        )

    def test_one_wide_character_far_behind(self, session):
        """The allocated space is as wide as the widest character, the chunks are not."""
        session.assign("text", "x" * 3_000_000 + "🙂")

        assert output(session, "text == 'x' * 3_000_000 + '🙂', hash(text) == hash(text[:])") == (
            "(True, True)"
        )

    def test_bytes(self, session):
        """Bytes arrive unchanged, also at the border of a chunk."""
        data = os.urandom(3 * MEBIBYTE)
        for cut in (0, 1, 5):
            session.assign("data", data[: 3 * MEBIBYTE - cut])
            assert output(session, "type(data).__name__, len(data), data[-3:].hex()") == str(
                ("bytes", 3 * MEBIBYTE - cut, data[: 3 * MEBIBYTE - cut][-3:].hex())
            )

    def test_a_large_pickle_with_large_and_small_buffers(self, session):
        """Buffers arrive in order, in the pickle or outside it."""
        numbers = bytearray(b"ab" * MEBIBYTE)
        value = {"rows": [f"{n:020}" for n in range(200_000)], "big": numbers, "small": b"z"}

        session.assign("value", value)

        assert output(session, "len(value['rows']), value['rows'][-1], value['big'][-3:]") == str(
            (200_000, f"{199_999:020}", numbers[-3:])
        )

    def test_a_value_that_breaks_off_leaves_nothing_behind(self, session):
        """After a failed transfer, the next value does not begin with the rest of the failed one."""
        rows = [f"{n:020}" for n in range(200_000)]

        with pytest.raises(ValueCrossingError, match=re.escape("rows[200000]")):
            session.assign("rows", [*rows, threading.Lock()])
        session.assign("rows", rows)

        assert output(session, "len(rows), rows[-1]") == str((200_000, rows[-1]))

    def test_a_lost_process_gets_it_again(self):
        """After a restart of the process the values are encoded and sent again."""
        with open_session(tools={"die": lambda: os.kill(own.pid, signal.SIGKILL)}) as own:
            own.assign({"text": "é" * 3_000_000, "rows": [f"{n:020}" for n in range(200_000)]})
            own.run_cell("die()")

            assert output(own, "text == 'é' * 3_000_000, rows[-1]") == str((True, f"{199_999:020}"))

    def test_a_hundred_megabytes(self, session):
        """A hundred megabytes arrive; the time is not asserted."""
        session.assign("text", "x y\n" * 25_000_000)

        assert output(session, "len(text), text[-4:]; del text") == ""


@pytest.fixture(scope="module")
def tight():
    """A session with little memory; each test deletes its values."""
    with open_session(limits=Limits(memory_bytes=256 * MEBIBYTE)) as shared:
        yield shared


class TestRefusals:
    """A value that does not fit is refused with numbers, and the session continues."""

    @pytest.mark.parametrize("value", ["x" * 250 * MEBIBYTE, bytes(250 * MEBIBYTE)])
    def test_more_than_is_left(self, tight, value):
        """The space is requested before anything is sent."""
        message = r"take x: MemoryError: 262,144,000 bytes are needed, and [\d,]+ are left of the "

        with pytest.raises(ValueCrossingError, match=message + "268,435,456 of Limits.memory"):
            tight.assign("x", value)

        tight.assign("x", value[: 100 * MEBIBYTE])
        assert output(tight, "size = len(x)\ndel x\nsize") == str(100 * MEBIBYTE)
        assert tight.restarts == 0

    def test_wide_text_counts_as_wide(self, tight):
        """A character outside the basic plane makes each character of the text take four bytes."""
        with pytest.raises(ValueCrossingError, match=r"x takes 400,000,004 bytes, more than"):
            tight.assign("x", "x" * 100_000_000 + "🙂")

    def test_a_pickle_of_unknown_size(self, tight):
        """It is sent before its size is known: the rest is dropped, and the space is freed."""
        rows = [f"{n:0100000}" for n in range(2400)]

        with pytest.raises(ValueCrossingError, match=r"MemoryError: [\d,]+ bytes are needed, and"):
            tight.assign("rows", rows)

        tight.assign("rows", rows[:500])
        assert output(tight, "count = len(rows)\ndel rows\ncount") == "500"

    def test_a_value_that_is_larger_than_its_pickle(self, opened):
        """The message has numbers in this case too."""
        session = opened(limits=Limits(memory_bytes=128 * MEBIBYTE))

        with pytest.raises(ValueCrossingError, match=r"MemoryError: making it takes more, and"):
            session.assign("rows", [{} for _ in range(2_000_000)])

        assert output(session, "1") == "1"


HOST_PEAK = """
import resource
from sandbox_runtime import Limits, open_session

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

value = "x y\\n" * (SIZE // 4)
with open_session(limits=Limits(memory_bytes=2 * 2**30)) as session:
    before = peak()
    session.assign("x", value)
    grown = peak() - before
    status = open(f"/proc/{session.pid}/status").read()
    sandbox_peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
    printed = session.run_cell("len(x), x[-4:]").output.strip()
print(grown, sandbox_peak, printed, sep="|")
"""


def peaks(size):
    """Returns the growth of the host in MiB, the peak of the sandbox in MiB, and the output of a cell."""
    code = HOST_PEAK.replace("SIZE", str(size))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    grown, sandbox_peak, printed = done.stdout.strip().split("|")
    return int(grown), int(sandbox_peak), printed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
class TestMemory:
    """Neither process holds a second copy."""

    def test_a_hundred_megabytes(self):
        """The host grows by the chunks in flight, the sandbox by the value."""
        grown, sandbox_peak, printed = peaks(100_000_000)

        assert printed == r"(100000000, 'x y\n')"
        assert grown < 40
        assert sandbox_peak < 200 + 100 + 80

    @pytest.mark.nightly
    def test_a_gigabyte(self):
        """A gigabyte of text fits into an interpreter of two."""
        grown, sandbox_peak, printed = peaks(1_000_000_000)

        assert printed == r"(1000000000, 'x y\n')"
        assert grown < 40
        assert sandbox_peak < 200 + 1000 + 100


class TestManyBytes:
    """Many small binary parts are sent as one, so that no frame header exceeds its bound."""

    @pytest.mark.nightly  # a million of what `test_in_other_places` has 20,000 of
    def test_a_million_each_way(self):
        """A million parts cross as a variable, as tool arguments and results, and as a submission."""
        count = 1_000_000
        value = [b"%d" % at for at in range(count)]
        seen = []

        def twice(items):
            seen.append(items)
            return items

        outputs = {"answer": "list"}
        with open_session(tools={"twice": twice}, outputs=outputs) as session:
            session.assign("value", value)
            assert output(session, "back = twice(value); (len(back), back == value)") == str(
                (count, True)
            )
            submitted = session.run_cell("SUBMIT(answer=value)")
            assert session.restarts == 0

        assert seen == [value]
        assert submitted.outputs["answer"] == value

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize(
        "expression",
        [
            "{str(i): b'%d' % i for i in range(20_000)}",
            "[bytearray(b'%d' % i) for i in range(20_000)]",
            "[memoryview(b'%d' % i) for i in range(20_000)]",
            "[(i, {'data': b'%d' % i}) for i in range(20_000)]",
            "[b'', *(b'%d' % i for i in range(20_000)), b'x' * 100_000, 'y' * 100_000, 3]",
            "[b'x' * 70_000] * 20 + [b''] * 20_000",
        ],
    )
    def test_in_other_places(self, session, expression):
        """Each part arrives as bytes, in its place."""
        session.register({}, {"answer": "object"})
        submitted = session.run_cell(f"SUBMIT(answer={expression})")
        assert session.restarts == 0

        expected = eval(expression)
        if isinstance(expected, list):
            kinds = (bytearray, memoryview)
            expected = [bytes(item) if isinstance(item, kinds) else item for item in expected]
        assert submitted.outputs["answer"] == expected

    def test_columns_and_lists_of_arrays(self, session):
        """Ten thousand arrays, each with a buffer of its own."""
        session.assign("arrays", [numpy.arange(3) + at for at in range(10_000)])

        assert output(session, "len(arrays), arrays[-1].tolist()") == str(
            (10_000, [9_999, 10_000, 10_001])
        )
