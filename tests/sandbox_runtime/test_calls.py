"""Many host calls from one cell: `f.aio`, `f.batched`, time-outs, contexts and loops. Real sandboxes."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
import time

import pytest
from session_cells import when

from sandbox_runtime import Completed, Failed, Limits, check_call, open_session
from sandbox_runtime.rpc.sandbox_messages import ToolCall
from sandbox_runtime.tools.host_tools import HostTools
from sandbox_runtime.values.encoder import ValueCodec
from tests.measuring import Cost

WHO = contextvars.ContextVar("who", default="nobody")


class Meeting:
    """A tool that returns once `parties` calls are in it: only calls made at once ever do."""

    def __init__(self, parties):
        self.barrier = threading.Barrier(parties)

    def __call__(self, item):
        self.barrier.wait(timeout=60)
        return item


class Gauge:
    """A tool that notes how many calls ran at the same time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __call__(self, item):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.01)
        with self.lock:
            self.now -= 1
        return item


def run(session, code):
    """Returns the output of a cell that must run to its end."""
    result = session.run_cell(code)
    assert isinstance(result, Completed), result
    return result.output


def half(number):
    """Fails for odd numbers."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


class TestBatched:
    """`f.batched(items)` is `[f(item) for item in items]`, at once."""

    def test_the_calls_run_at_once(self, lent):
        """Each waits for the others."""
        session = lent(tools={"meet": Meeting(4)})

        assert run(session, "meet.batched([1, 2, 3, 4])") == "[1, 2, 3, 4]\n"

    def test_a_bounded_number_at_a_time(self, opened):
        """`Limits.concurrent_calls`; the results are in order all the same."""
        gauge = Gauge()
        session = opened(limits=Limits(concurrent_calls=3), tools={"gauge": gauge})

        assert run(session, "gauge.batched(range(50)) == list(range(50))") == "True\n"
        assert gauge.most == 3

    def test_a_failed_item_is_an_exception_in_its_place(self, lent):
        """The others are not lost."""
        session = lent(tools={"half": half})

        code = "r = half.batched([2, 3, 4])\nprint(r[0], type(r[1]).__name__, r[1], r[2])"
        assert run(session, code).startswith("1 ValueError 3 is odd 2\n")

    def test_failed_items_are_in_the_output(self, lent):
        """Code that never looks at the items gets their number and the reasons all the same."""
        session = lent(tools={"half": half})

        assert run(session, "r = half.batched([2, 3, 3])").strip() == (
            "[half.batched: 2 of 3 calls failed: all with ValueError: 3 is odd]"
        )
        assert run(session, "r = half.batched([1, 3, 4, 3])").strip() == (
            "[half.batched: 3 of 4 calls failed: ValueError: 3 is odd; 1 with other errors]"
        )
        assert run(session, "r = half.batched([2, 4])") == ""

    def test_a_result_that_cannot_cross(self, lent):
        """Is its own item's failure."""
        session = lent(tools={"give": lambda at: threading.Lock() if at else "fine"})

        code = "r = give.batched([0, 1])\nprint(r[0], type(r[1]).__name__)\nprint(r[1])"
        printed_text = run(session, code)

        assert printed_text.startswith("fine ValueCrossingError\n")
        assert "The results of give.batched()[1]" in printed_text

    def test_several_lists_and_keywords(self, lent):
        """Like `map`: one argument of each list, the keywords for all."""
        session = lent(tools={"join": lambda a, b, sep: f"{a}{sep}{b}"})

        assert run(session, "join.batched('ab', 'xy', sep='-')") == "['a-x', 'b-y']\n"

    def test_nothing(self, lent):
        """Asks nobody."""
        session = lent(tools={"half": half})

        assert run(session, "half.batched([])") == "[]\n"

    def test_wrong_arguments(self, lent):
        """Are told before anything runs."""
        ran = []
        session = lent(tools={"one": lambda a: ran.append(a)})

        result = session.run_cell("one.batched([1, 2], [3, 4])")

        assert isinstance(result, Failed)
        assert result.error_type == "TypeError"
        assert ran == []


class TestAio:
    """`await f.aio(...)` lets a cell go on while the host works."""

    def test_gather_runs_them_at_once(self, lent):
        """Each waits for the others."""
        session = lent(tools={"meet": Meeting(4)})

        code = "import asyncio\nawait asyncio.gather(*[meet.aio(i) for i in range(4)])"
        assert run(session, code) == "[0, 1, 2, 3]\n"

    def test_errors_arrive_where_they_are_awaited(self, lent):
        """As if the function had been called."""
        session = lent(tools={"half": half})

        code = (
            "try:\n    await half.aio(3)\nexcept ValueError as error:\n    print('caught', error)"
        )
        assert run(session, code) == "caught 3 is odd\n"

    def test_one_that_was_not_waited_for(self, opened):
        """Goes as it went when the cell is run again: its answer came after the cell."""
        release = threading.Event()
        session = opened(tools={"hang": lambda: release.wait(60)})
        code = "task = asyncio.ensure_future(hang.aio()); await asyncio.sleep(0.1); task.done()"
        assert run(session, f"import asyncio; {code}").startswith("False\n")

        os.kill(session.pid, signal.SIGKILL)

        assert run(session, "1") == "1\n"
        assert session.restarts == 1
        release.set()

    def test_large_arguments_and_results(self, lent):
        """Megabytes in both directions, several at once."""
        session = lent(tools={"double": lambda text: text * 2})

        code = """
import asyncio
texts = await asyncio.gather(*[double.aio(str(i) * 3_000_000) for i in range(4)])
[(t[0], len(t)) for t in texts]
"""
        assert run(session, code) == (
            "[('0', 6000000), ('1', 6000000), ('2', 6000000), ('3', 6000000)]\n"
        )

    def test_blocking_calls_in_between(self, lent):
        """Do not disturb those in flight."""
        release = threading.Event()
        tools = {"wait": lambda: release.wait(60), "go": release.set}
        session = lent(tools=tools)

        code = """
import asyncio
task = asyncio.ensure_future(wait.aio())
await asyncio.sleep(0)
go()
await task
"""
        assert run(session, code) == "True\n"

    def test_more_than_may_be_open(self, lent):
        """The rest waits in the sandbox."""
        session = lent(tools={"echo": lambda item: item})

        code = "import asyncio\nsum(await asyncio.gather(*[echo.aio(i) for i in range(1000)]))"
        assert run(session, code) == "499500\n"

    def test_left_behind(self, lent):
        """A call that nobody awaits is given up with its cell, and its answer goes nowhere."""
        release = threading.Event()
        session = lent(tools={"wait": lambda: release.wait(60), "echo": lambda item: item})

        run(
            session,
            "import asyncio\ntask = asyncio.ensure_future(wait.aio())\nawait asyncio.sleep(0)",
        )
        release.set()

        for number in range(20):
            assert run(session, f"echo({number})") == f"{number}\n"

    def test_the_clock_stands_while_the_cell_waits(self, opened):
        """A slow host is not the cell's fault."""
        session = opened(limits=Limits(cell_seconds=0.3), tools={"slow": lambda: time.sleep(1)})

        assert run(session, "await slow.aio()\nprint('done')") == "done\n"

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("work", ["pass", "await asyncio.sleep(0)"])
    def test_the_clock_runs_while_the_cell_works(self, opened, work):
        """Waiting for the host is no way to work for ever."""
        release = threading.Event()
        limits = Limits(cell_seconds=0.3, grace_seconds=5)
        session = opened(limits=limits, tools={"slow": lambda: release.wait(60)})

        code = f"""
import asyncio
task = asyncio.ensure_future(slow.aio())
await asyncio.sleep(0)
while True: {work}
"""
        result = session.run_cell(code)
        release.set()

        assert isinstance(result, Failed)
        assert result.error_type == "CellTimeoutError"

    def test_the_clock_runs_between_calls_that_block_and_calls_that_are_awaited(self, opened):
        """The time of a call that blocks is taken off once, not again when the next is awaited."""
        limits = Limits(cell_seconds=0.3, grace_seconds=5)
        session = opened(limits=limits, tools={"slow": lambda: time.sleep(0.1)})

        code = """
import time
for _ in range(600):  # as often as it takes on a machine that hardly runs it
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end: pass
    slow()
    await slow.aio()
"""
        result = session.run_cell(code)

        assert isinstance(result, Failed)
        assert result.error_type == "CellTimeoutError"


class TestCoroutines:
    """Coroutine functions as host tools."""

    def test_on_a_loop_of_the_sessions_own(self, lent):
        """One loop for all, so that they can share connections."""
        loops = set()

        async def tool(item):
            loops.add(asyncio.get_running_loop())
            await asyncio.sleep(0)
            return item

        session = lent(tools={"tool": tool})

        assert (
            run(session, "tool(1), tool.batched([2, 3]), await tool.aio(4)") == "(1, [2, 3], 4)\n"
        )
        assert len(loops) == 1

    def test_on_the_callers_loop(self):
        """The caller's event loop is free while the cell runs in a thread."""

        async def main():
            mine = asyncio.get_running_loop()

            async def tool(item):
                return item if asyncio.get_running_loop() is mine else None

            def work():
                with open_session(tools={"tool": tool}, loop=mine) as session:
                    return run(session, "tool(1), tool.batched([2]), await tool.aio(3)")

            return await asyncio.to_thread(work)

        assert asyncio.run(main()) == "(1, [2], 3)\n"

    def test_they_are_cancelled_when_given_up(self, lent):
        """By an interrupt, for one."""
        cancelled = threading.Event()

        async def tool():
            threading.Timer(0.1, session.interrupt).start()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        session = lent(tools={"tool": tool})

        result = session.run_cell("tool()")

        assert isinstance(result, Failed)
        assert result.error_type == "KeyboardInterrupt"
        assert cancelled.wait(60)


class TestContext:
    """Every call runs in the context of who runs the cell."""

    @pytest.mark.parametrize("call", ["who()", "who.batched([])", "await who.aio()", "many()"])
    def test_variables_of_the_context(self, lent, call):
        """Also in other threads."""

        async def many():
            return WHO.get()

        session = lent(tools={"who": WHO.get, "many": many})
        token = WHO.set("the caller")
        try:
            printed_text = run(session, call)
        finally:
            WHO.reset(token)

        assert printed_text == ("[]\n" if "batched" in call else "'the caller'\n")

    def test_a_call_in_turn_runs_in_the_callers_thread(self, lent):
        """The fastest way, and what tools with thread-local state want."""
        session = lent(tools={"thread": threading.get_ident})

        assert run(session, "thread()") == f"{threading.get_ident()}\n"


class TestTimeOut:
    """`Limits.call_seconds` ends a call that never returns, and the cell goes on."""

    @pytest.fixture
    def impatient(self, opened):
        """A session with tools that hang."""
        release = threading.Event()

        async def hang_async():
            await asyncio.sleep(60)

        yield opened(
            limits=Limits(call_seconds=0.7, concurrent_calls=2),
            tools={"hang": lambda: release.wait(60), "hang_async": hang_async, "half": half},
        )
        release.set()

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("call", ["hang()", "hang_async()", "await hang.aio()"])
    def test_the_cell_sees_it(self, impatient, call):
        """As an exception with the limit's name; variables stay, and other calls work."""
        code = f"try:\n    {call}\nexcept TimeoutError as error:\n    print(error)\nhalf(4)"

        assert "gave no answer within 0.7 s (Limits.call_seconds)\n2\n" in run(impatient, code)

    @pytest.mark.nightly  # waits a limit out
    def test_in_a_batch(self, impatient):
        """Only the items that hang fail, and the threads that hang make room for others."""
        code = "[type(r).__name__ for r in hang.batched(*[[]]) + half.batched([2, 4, 6, 8])]"
        for _ in range(4):
            impatient.run_cell("hang()")

        assert run(impatient, code) == "['int', 'int', 'int', 'int']\n"


def test_calls_that_hang_do_not_keep_a_session_open(opened):
    """Closing gives them up; their threads are daemons."""
    began, release = threading.Event(), threading.Event()
    session = opened(tools={"hang": lambda: (began.set(), release.wait(60))})
    thread = when(began, session.close)

    with pytest.raises(Exception, match="closed while a cell ran"):
        session.run_cell("await hang.aio()")

    thread.join()
    release.set()


class Slow:
    """A tool whose calls end when told, and which notes when each began."""

    def __init__(self):
        self.began = []
        self.release = threading.Event()

    def __call__(self, item):
        self.began.append(item)
        self.release.wait(30)
        return item


END_OF_CELL = [
    "1 / 0",
    "SUBMIT(1)",
    "raise KeyboardInterrupt",
    "pass",
]


class TestAfterTheCell:
    """Nothing begins when the cell is over."""

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize("end", END_OF_CELL)
    def test_calls_that_waited(self, opened, end):
        """Never begin; those that had begun go on, and nobody waits for them."""
        slow = Slow()
        session = opened(limits=Limits(concurrent_calls=4), tools={"slow": slow})

        session.run_cell(
            "import asyncio\n"
            "tasks = [asyncio.ensure_future(slow.aio(i)) for i in range(40)]\n"
            f"await asyncio.sleep(1)\n{end}"
        )
        begun = len(slow.began)
        slow.release.set()

        assert run(session, "1") == "1\n"
        assert begun == len(slow.began) == 4

    def test_a_batch_beside_a_call_that_blocks_a_thread(self, opened):
        """It is over when its items are, although its other threads still wait for a place."""
        slow = Slow()
        session = opened(
            limits=Limits(concurrent_calls=2),
            tools={"slow": slow, "half": half, "release": slow.release.set},
        )
        code = (
            "import asyncio\ntask = asyncio.create_task(slow.aio(1))\nawait asyncio.sleep(0)\n"
            "print(half.batched([2, 4, 6]))\nawait asyncio.sleep(0.01)\n"
            "print(half.batched(list(range(0, 200, 2))) == list(range(100)))\nrelease()\n_ = await task"
        )

        assert run(session, code) == "[1, 2, 3]\nTrue\n"

    def test_a_batch_that_was_interrupted(self, opened):
        """Its other items never begin."""
        slow = Slow()
        session = opened(limits=Limits(concurrent_calls=2), tools={"slow": slow})

        def interrupt() -> None:
            while len(slow.began) < 2:
                time.sleep(0.01)
            session.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        result = session.run_cell("slow.batched(range(1000))")
        slow.release.set()
        thread.join()

        assert result.error_type == "KeyboardInterrupt"
        assert run(session, "1") == "1\n"
        assert len(slow.began) == 2

    def test_work_that_asks_before_it_begins_something(self, lent):
        """Code of a tool that goes on after its cell can know that it is over."""
        seen, release = [], threading.Event()

        def work():
            check_call()
            release.wait(30)
            try:
                check_call()
            except InterruptedError as error:
                seen.append(str(error))

        session = lent(tools={"work": work})
        run(
            session,
            "import asyncio\nt = asyncio.ensure_future(work.aio())\nawait asyncio.sleep(0.3)",
        )
        release.set()
        for _ in range(1000):
            if seen:
                break
            time.sleep(0.01)

        assert "its cell has ended" in seen[0]
        check_call()  # nobody's call

    def test_a_sandbox_that_a_tool_has_opened(self, opened, lent):
        """Cells in it call no tool once the outer cell has ended."""
        began, outcomes, ended = [], [], threading.Event()
        inner = opened(tools={"look": lambda: began.append("look")})

        def nest():
            ended.wait(30)
            outcomes.append(inner.run_cell("look()"))

        session = lent(tools={"nest": nest})
        run(
            session,
            "import asyncio\nt = asyncio.ensure_future(nest.aio())\nawait asyncio.sleep(0.3)",
        )
        ended.set()
        for _ in range(1000):
            if outcomes:
                break
            time.sleep(0.01)

        assert outcomes[0].error_type == "InterruptedError"
        assert began == []

    def test_coroutines_that_waited(self, opened):
        """Never begin either."""
        began, release = [], threading.Event()

        async def slow(item):
            began.append(item)
            while not release.is_set():
                await asyncio.sleep(0.01)

        session = opened(limits=Limits(concurrent_calls=3), tools={"slow": slow})
        run(
            session,
            "import asyncio\n"
            "tasks = [asyncio.ensure_future(slow.aio(i)) for i in range(20)]\n"
            "await asyncio.sleep(0.5)",
        )
        release.set()

        assert run(session, "1") == "1\n"
        assert len(began) == 3


class TestMemory:
    """Queued calls take no more memory than their limit."""

    def test_calls_that_wait_hold_back_the_next(self, opened):
        """Their arguments stay as they came, and past the bound nothing more is read."""
        slow = Slow()
        session = opened(
            limits=Limits(concurrent_calls=1, frame_bytes=4 * 1024 * 1024), tools={"slow": slow}
        )
        waiting = []

        def look():
            end = time.monotonic() + 60
            while session._tools._open_bytes < 4_000_000 and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.5)  # what would still be read is read now
            waiting.append(session._tools._open_bytes)
            slow.release.set()

        threading.Thread(target=look).start()

        printed_text = run(
            session,
            "import asyncio\n"
            "text = 'x' * 1_000_000\n"
            "got = await asyncio.gather(*[slow.aio(text) for _ in range(60)])\n"
            "len(got)",
        )

        assert printed_text == "60\n"
        assert 4_000_000 < waiting[0] < 6_000_000  # of 60

    @pytest.mark.nightly  # 60,000 calls; `test_calls_that_wait_hold_back_the_next` shows the bound
    def test_a_batch_of_very_many(self, opened):
        """An item costs its place in the list of results, not a thread's worth of things."""
        session = opened(tools={"one": lambda item: None})

        with Cost() as cost:
            assert run(session, "len(one.batched(range(60_000)))") == "60000\n"

        assert cost.peak_bytes < 60 * 1024 * 1024


class TestRoomForCalls:
    """The host reads no further calls while those that wait take too much memory."""

    @pytest.mark.parametrize(
        "attachments", [[bytearray()] * 16_000, [bytearray(1_000_000)]], ids=["empty", "large"]
    )
    def test_attachments_count(self, attachments):
        """Empty attachments take memory as well."""
        tools = HostTools(Limits(frame_bytes=4 * 1024 * 1024, concurrent_calls=1))
        slow = Slow()
        tools.replace({"slow": slow}, ValueCodec())
        served = 0
        try:
            while tools.wait_for_room(0) and served < 100:
                served += 1
                tools.serve(ToolCall(served, 1, "slow", "aio", "", attachments), lambda _: None)
        finally:
            slow.release.set()
            tools.close()

        assert served < 10
