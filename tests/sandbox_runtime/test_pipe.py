"""The reader of a real sandbox's pipe: the worker, or the main thread while a cell awaits answers."""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from session_cells import failure, output, when

from sandbox_runtime import Limits, Session
from sandbox_runtime.isolation.os_isolation import NO_WALL
from sandbox_runtime.open import ready_engine
from sandbox_runtime.tools.call_scope import current_call


class Gate:
    """A tool whose calls return when the test opens it. `entered` is set by the first call."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, item=None):
        self.entered.set()
        self.open.wait(20)
        return item


@pytest.fixture(scope="module", params=[False, True], ids=["direct", "relayed"])
def shared(request):
    """A session whose worker reads the pipe, and one whose main thread reads everything, as on Windows."""
    engine = dataclasses.replace(ready_engine(), relayed=request.param)
    with Session(engine, Limits()) as session:
        yield session


@pytest.fixture
def session(shared):
    """The session, with a tool that echoes and one that waits."""
    gate = Gate()
    shared.register({"echo": lambda item: item, "gate": gate})
    shared.gate = gate
    pid = shared.pid
    yield shared
    gate.open.set()
    assert shared.pid == pid, "the process was lost"


BEGIN = "import asyncio\ntask = asyncio.ensure_future(gate.aio(1))\n"


class TestReadsInProgress:
    """A read cannot be cancelled, and may bring more than was asked for: what it brings is never lost."""

    def test_the_next_cell_comes_through_a_read_that_has_begun(self, session):
        """The main thread still reads for a cell that has ended, when the next request arrives."""
        for number in range(5):
            output(session, BEGIN + "await asyncio.sleep(0.05)")
            assert output(session, f"echo({number})") == f"{number}\n"

    def test_at_once(self, session):
        """The cell ends before the main thread has begun to read."""
        for number in range(5):
            output(session, BEGIN + "await asyncio.sleep(0)")
            assert output(session, f"echo({number})") == f"{number}\n"

    def test_the_next_cell_awaits_as_well(self, session):
        """A read for one cell after the other."""
        for number in range(5):
            output(session, BEGIN + "await asyncio.sleep(0.01)")
            code = f"await asyncio.gather(*[echo.aio(n) for n in range({number + 2})])"
            assert output(session, code) == f"{list(range(number + 2))}\n"

    def test_a_large_value_comes_next(self, session):
        """A read that has begun takes the first bytes of it, which the worker needs as well."""
        output(session, BEGIN + "await asyncio.sleep(0.05)")

        session.assign("large", "x" * 5_000_000 + "\N{PILE OF POO}")
        output(session, BEGIN + "await asyncio.sleep(0.05)")
        session.assign("other", b"y" * 3_000_000)

        assert output(session, "len(large), len(other), large[-1]") == (
            "(5000001, 3000000, '\N{PILE OF POO}')\n"
        )

    def test_a_late_answer(self, session):
        """An answer that crosses with the end of its cell is dropped by one end or the other."""
        for _ in range(10):
            gate = Gate()
            session.register({"gate": gate, "echo": lambda item: item})
            thread = when(gate.entered, gate.open.set)
            output(session, BEGIN + "await asyncio.sleep(0.002)")
            gate.entered.set()  # the call may have been given up before it began
            thread.join()
            assert output(session, "echo(1)") == "1\n"

    def test_large_late_answers(self, session):
        """Their bytes do not end up in front of the next request."""
        session.register({"large": lambda: "x" * 300_000, "echo": lambda item: item})
        for _ in range(5):
            output(
                session,
                "import asyncio\ntasks = [asyncio.ensure_future(large.aio()) for _ in range(8)]\n"
                "await asyncio.sleep(0.003)",
            )
            assert output(session, "len(echo('y' * 200_000))") == "200000\n"

    def test_calls_that_block_among_calls_that_are_awaited(self, session):
        """Each answer reaches the call that it belongs to, through either thread."""
        code = (
            "import asyncio\ntasks = [asyncio.ensure_future(echo.aio(n)) for n in range(50)]\n"
            "await asyncio.sleep(0)\nblocked = [echo('b' * n) for n in range(50)]\n"
            "print(sum(await asyncio.gather(*tasks)), sum(map(len, blocked)), len(echo.batched(blocked)))"
        )
        for _ in range(5):
            assert output(session, code) == "1225 1225 50\n"

    def test_a_blocking_call_while_the_last_answer_arrives(self, session):
        """The main thread stops reading at the moment in which the worker makes a call."""
        code = (
            "import asyncio\nfor n in range(200):\n"
            "    task = asyncio.ensure_future(echo.aio(n))\n    await asyncio.sleep(0)\n"
            "    assert echo(-n) == -n\n    assert await task == n\nprint('all')"
        )
        assert output(session, code) == "all\n"

    def test_a_checkpoint_after_awaited_calls(self, session):
        """Other requests come through the read as well."""
        output(session, BEGIN + "await asyncio.sleep(0.05)\nx = 1")

        assert session.checkpoint().files

        assert output(session, "x") == "1\n"


class TestInterrupts:
    """An interrupt reaches the cell that it is meant for, wherever that is, and no other."""

    def test_everywhere(self, session):
        """In a loop, in a call that blocks, and in one that is awaited."""
        for code in (
            "while True: pass",
            "import time\ntime.sleep(60)",
            "gate()",
            "gate.batched([1, 2])",
            "import asyncio\nawait gate.aio()",
            "import asyncio\nasync def both():\n    task = asyncio.ensure_future(gate.aio())\n"
            "    await asyncio.sleep(0)\n    gate()\nawait both()",
            "import asyncio\nasync def spin():\n    while True: pass\n"
            "task = asyncio.ensure_future(spin())\nawait asyncio.sleep(0)\ngate()",
        ):
            gate = Gate()
            session.register({"gate": gate, "begun": lambda gate=gate: gate.entered.set()})

            def stop(gate=gate):
                session.interrupt()
                gate.open.set()  # a tool in the cell's own thread runs to its end

            thread = when(gate.entered, stop)
            result = failure(session, f"begun()\n{code}")
            thread.join()

            assert result.error_type == "KeyboardInterrupt"

    def test_one_that_comes_as_its_cell_ends(self, session):
        """It may come too late for its cell; the next cell does not see it."""
        with ThreadPoolExecutor(1) as pool:
            for round_ in range(15):
                later = pool.submit(
                    lambda wait=round_ * 150e-6: (time.sleep(wait), session.interrupt())
                )
                session.run_cell("x = 1")
                later.result()
                assert output(session, "sum(range(1000))") == "499500\n"

    def test_several_that_come_as_their_cell_ends(self, session):
        """Each of them is waited for; those that arrive as one cost the next cell a second at most."""
        with ThreadPoolExecutor(2) as pool:
            for round_ in range(5):
                later = [
                    pool.submit(lambda wait=wait: (time.sleep(wait), session.interrupt()))
                    for wait in (round_ * 100e-6, round_ * 100e-6 + 0.0003)
                ]
                session.run_cell("try:\n    x = sum(range(3000))\nexcept KeyboardInterrupt: pass")
                for one in later:
                    one.result()
                assert output(session, "sum(range(1000))") == "499500\n"

    def test_one_that_comes_as_its_cell_begins(self, session):
        """It is not lost, although the process may see it before the code."""
        with ThreadPoolExecutor(1) as pool:
            for _ in range(10):
                running = pool.submit(failure, session, "while True: pass")
                while session._line._process.channel._writer.running is None:
                    time.sleep(0)
                session.interrupt()
                assert running.result(20).error_type == "KeyboardInterrupt"

    def test_a_cell_that_catches_it(self, session):
        """It arrives once: the cleanup of the cell is not interrupted as well."""
        code = (
            "import time\ntry:\n    begun()\n    gate()\nexcept KeyboardInterrupt:\n    n = 0\n"
            "    end = time.monotonic() + 0.3\n    while time.monotonic() < end: n += 1\nprint('cleaned')"
        )
        gate = session.gate
        session.register({"gate": gate, "begun": lambda: None})
        thread = when(gate.entered, lambda: (session.interrupt(), time.sleep(0.1), gate.open.set()))

        assert output(session, code) == "cleaned\n"
        thread.join()


class TestInterruptsOnTheirWay:
    """A cell may call the host between the host's decision to interrupt it and the arrival of the signal."""

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize(
        "code",
        [
            "while True: note('blocking')",
            "while True: note.batched(['blocking'] * 2)",
            "while True: await note.aio()",
            "import asyncio\nwhile True: await asyncio.gather(note.aio(), note.aio())",
            "import asyncio\nwhile True:\n    task = asyncio.ensure_future(note.aio())\n"
            "    await asyncio.sleep(0)\n    note('blocking')\n    await task",
        ],
        ids=["wait", "batch", "aio", "gather", "both"],
    )
    def test_no_blocking_call_is_served_any_more(self, session, code):
        """Each is answered as interrupted: the blocked cell would see the signal only after the call."""
        late = []
        with ThreadPoolExecutor(1) as pool:
            for round_ in range(10):
                begun, stopped = threading.Event(), threading.Event()

                def note(item=None, begun=begun, stopped=stopped):
                    if item and stopped.is_set() and not current_call().over:
                        late.append(item)
                    begun.set()

                def stop(begun=begun, stopped=stopped, wait=round_ * 100e-6):
                    begun.wait(60)
                    time.sleep(wait)
                    session.interrupt()
                    stopped.set()

                session.register({"note": note})
                stopping = pool.submit(stop)
                result = failure(session, code)
                stopping.result()
                assert result.error_type == "KeyboardInterrupt"

        assert not late

    @pytest.mark.parametrize("call", ["echo(n)", "echo.batched([n])"], ids=["wait", "batch"])
    def test_the_cleanup_of_the_cell_may_call(self, session, call):
        """The interrupt is seen once, and calls after it are served."""
        code = (
            f"n = 0\ntry:\n    begun()\n    while True: {call}\nexcept KeyboardInterrupt: pass\n"
            f"for n in range(20): {call}\nprint('cleaned')"
        )
        with ThreadPoolExecutor(1) as pool:
            for round_ in range(8):
                begun = threading.Event()

                def stop(begun=begun, wait=round_ * 100e-6):
                    begun.wait(60)
                    time.sleep(wait)
                    session.interrupt()

                session.register({"echo": lambda item: item, "begun": begun.set})
                stopping = pool.submit(stop)
                assert output(session, code) == "cleaned\n"
                stopping.result()


class TestHostFile:
    """The file through which small calls go: any code of a cell can use it, and gains nothing by it."""

    READ = "import os\ndef ask(data):\n    return os.read(1000, os.write(1000, data))\n"

    def test_a_call(self, session):
        """Written by a cell itself, it is a call like any other."""
        code = self.READ + "ask(b'0echo\\x000\\0[[\"a\"],{}]')"
        assert output(session, code) == "b'=\"a\"'\n"

    @pytest.mark.parametrize(
        ("data", "error"),
        [
            ("b'0none\\x000\\0[[],{}]'", "there is no tool"),
            ("b'0echo\\x000\\0[[],{}]'", "missing a required argument"),
            ("b'0echo\\x000\\0[[1],{\"item\":2}]'", "multiple values"),
            ("b'0echo\\x000\\0[1]'", "without arguments to read"),
            ("b'0echo\\x000\\0no JSON'", "cannot be read"),
            ("b'0echo\\x000\\0'", "cannot be read"),
            ("b'2echo\\x000\\0[1]'", "without arguments to read"),
        ],
    )
    def test_a_call_that_the_host_refuses(self, session, data, error):
        """The host checks it as it checks every call, and the session goes on."""
        assert error in output(session, self.READ + f"ask({data})")

    def test_bytes_that_are_no_call(self, session):
        """They are refused like those for a closed file, whatever they are."""
        code = (
            "import os\nfor data in (b'', b'x', b'garbage' * 9000, bytes(99), b'1echo\\x000\\0[[1],{}]',\n"
            "    b'\\xd1\\2\\0\\0' * 5, b'0echo\\x000\\0[[1],{}]\\n'):\n"
            "    try:\n        print(os.write(1000, data))\n    except OSError as error:\n"
            "        print(error.errno == 8 or error, end=' ')"
        )
        assert output(session, code) == "True " * 7

    @pytest.mark.parametrize(
        "code",
        [
            "os.read(1000, 10)",
            "os.writev(1000, [b'0echo\\x000\\0', b'[[1],{}]'])",
            "os.readv(1000, [bytearray(1), bytearray(1)])",
            "os.close(1000)",
            "os.dup(1000)",
            "os.fstat(1000)",
            "os.lseek(1000, 0, 0)",
            "open(1000, 'rb').read()",
        ],
    )
    def test_what_else_files_can_do(self, session, code):
        """It can do nothing but this."""
        result = failure(session, f"import os\n{code}")

        assert result.error_type == "OSError"
        assert output(session, "echo(1)") == "1\n"

    def test_an_answer_that_nobody_reads(self, session):
        """It does not get in the way of the next call."""
        code = (
            "import os\nfor n in range(100):\n    os.write(1000, b'0echo\\x000\\0[[7],{}]')\n"
            "    assert echo(n) == n\n"
        )
        assert output(session, code) == ""

    def test_between_cells(self, session):
        """No cell runs there, so nothing is called."""
        called = []
        session.register({"echo": called.append})
        code = (
            "import os\nclass Late:\n    def __del__(self):\n"
            "        os.write(1000, b'0echo\\x000\\0[[1],{}]')\n"
            "late = Late()\nlate.itself = late\n"
        )
        output(session, code)
        output(session, "late = None")
        session.checkpoint()
        session.register({"echo": called.append})

        assert called == []

    def test_answers_of_every_kind(self, session):
        """Values that are not plain JSON come with raw parts, and are the same as by other ways."""
        values = [b"bytes", {"a", "b"}, "x" * 200_000, (1, 2), "na\u00efve \U0001f642", 2**80, None]
        session.register({"value": lambda at: values[at]})

        for at, value in enumerate(values):
            assert output(session, f"value({at}) == {value!r}") == "True\n"

    def test_arguments_around_the_longest_quick_call(self, session):
        """Longer ones go another way."""
        code = "all(echo('x' * n) == 'x' * n for n in (8_100, 8_180, 8_186, 8_192, 16_384, 65_536, 70_000))"
        assert output(session, code) == "True\n"

    def test_a_tool_whose_name_is_not_ascii(self, session):
        """It goes another way as well."""
        session.register({"gr\u00f6\u00dfe": lambda: 3})

        assert output(session, "gr\u00f6\u00dfe()") == "3\n"

    def test_errors_and_interrupts(self, session):
        """Exceptions of tools, and an interrupt during a call."""

        def fail():
            raise ValueError("no")

        session.register({"fail": fail, "stop": lambda: session.interrupt()})

        assert failure(session, "fail()").message == "no"
        assert failure(session, "stop()").error_type == "KeyboardInterrupt"
        assert output(session, "1") == "1\n"


def test_the_signal_opens_no_debugger():
    """SIGUSR1 would have Deno open its inspector to everything on this machine; ours is another signal."""
    with Session(dataclasses.replace(ready_engine(), wall=NO_WALL), Limits()) as session:
        begun = threading.Event()
        session.register({"begun": begun.set})
        thread = when(begun, session.interrupt)

        failure(session, "begun()\nwhile True: pass")
        thread.join()

        assert "ebugger" not in session._line._process.channel._process.stderr_tail
