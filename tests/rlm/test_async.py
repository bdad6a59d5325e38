"""`aforward`: a free event loop, cancellation at once, live loops, and many runs in one process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import anyio
import dspy
import pydantic
import pytest
from thrifty_pool import ThriftyPool

from dspy_rlm import CodeType, HandleType, Pool
from dspy_rlm.errors import RunEndedError
from dspy_rlm.runs.sandbox import open_in_thread
from dspy_rlm.testing import Action, Fault, asks_for, fields, route, rules, scripted
from sandbox_runtime import default_pool

# Far below a cell's own limit of a minute, far above what a loaded machine needs.
AT_ONCE_SECONDS = 30


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until the condition holds; a hang fails the test."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        threading.Event().wait(0.01)


async def until(true: Callable[[], bool]) -> None:
    """Like `wait_until`, without blocking the event loop."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


def seconds_kept_waiting() -> float:
    """Returns the seconds in which this thread was runnable but not scheduled (Linux; else 0)."""
    try:
        stat = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text()
    except OSError:
        return 0.0
    return int(stat.split()[1]) / 1e9


async def cancelled(run: Coroutine[Any, Any, Any], reached: Callable[[], bool]) -> Any:
    """Cancels a run once the condition holds, and returns its exception, which must come at once."""
    task = asyncio.ensure_future(run)
    await until(lambda: reached() or task.done())
    began = time.monotonic()
    assert task.cancel(), "the run had ended already"
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert time.monotonic() - began < AT_ONCE_SECONDS
    return caught.value


# Threads of earlier tests: a plain tool that never returns keeps its own.
earlier_threads: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _only_threads_of_this_test() -> None:
    """Leaves the threads of earlier tests out of `our_threads`."""
    earlier_threads.clear()
    earlier_threads.update(threading.enumerate())


def our_threads() -> list[str]:
    """The threads of this test's runs, without those of a pool, and the loop for LM calls that all runs share."""
    names = [thread.name for thread in threading.enumerate() if thread not in earlier_threads]
    names = [name for name in names if name != "rlm-lm-calls"]
    return [name for name in names if name.startswith(("rlm-", "host-tool"))]


class Slow:
    """An input that takes its time."""


class Blocked:
    """Work that starts and does not end before the test does."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()
        self.count = 0

    def __call__(self, *_: Any) -> str:
        self.count += 1
        self.begun.set()
        self.released.wait()
        return "too late"


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    """A player or tool that never returns."""
    blocked = Blocked()
    yield blocked
    blocked.released.set()


@pytest.fixture
def pool(deno_children) -> Iterator[Pool]:
    """A pool for one test, which leaves no process and no thread behind."""
    default_pool().close()  # what it makes ready for others would look like ours
    before, threads = deno_children(), our_threads()
    pool = ThriftyPool(keeps=0, max_sessions=4)
    yield pool
    wait_until(lambda: not pool.queue.held, 30)
    pool.close()
    wait_until(lambda: deno_children() <= before, 30)
    wait_until(lambda: len(our_threads()) <= len(threads), 30)


class TestEventLoop:
    """The event loop is never blocked by a run."""

    def test_a_busy_cell_stalls_it_for_less_than_20_ms(self, play, pool):
        """The loop stalls for less than 20 ms, without time in which the machine ran other work; best of three."""
        ends: list[float] = []

        def note() -> None:
            ends.append(time.perf_counter())

        rlm, _ = play(
            "q -> a",
            "import time\nnote()\nend = time.time() + 0.5\nwhile time.time() < end: pass\nnote()",
            "SUBMIT('x')",
            tools=[note],
            pool=pool,
        )

        async def main() -> float:
            run = asyncio.ensure_future(rlm.acall(q=""))
            worst, before = 0.0, time.perf_counter() - seconds_kept_waiting()
            while not run.done():
                await asyncio.sleep(0.002)
                now = time.perf_counter() - seconds_kept_waiting()
                if len(ends) == 1:
                    worst = max(worst, now - before - 0.002)
                before = now
            await run
            assert ends[1] - ends[0] > 0.4
            return worst

        tries: list[float] = []
        while len(tries) < 3 and min(tries, default=1) >= 0.02:
            ends.clear()
            tries.append(asyncio.run(main()))
        assert min(tries) < 0.02, tries

    def test_work_of_the_host_is_done_in_other_threads(self, play, pool):
        """Inputs are described, plain tools called, and outputs validated outside of the loop's thread."""
        where: set[tuple[str, str]] = set()

        def note(name: str) -> None:
            where.add((name, threading.current_thread().name))

        def check(n: int) -> int:
            note(f"validated {n}")
            return n

        checked_int = Annotated[int, pydantic.AfterValidator(check)]

        count: Any = {
            "image": (Any, dspy.InputField()),
            "answer": (checked_int, dspy.OutputField()),
        }

        def tool() -> int:
            """A tool."""
            note("tool")
            return 2

        rule = HandleType(Slow, preview=lambda _: note("described") or "")
        rlm, _ = play(
            dspy.Signature(count, "Count."), "SUBMIT(tool())", tools=[tool], types=[rule], pool=pool
        )
        asyncio.run(rlm.acall(image=Slow()))

        assert {name for name, _ in where} == {"described", "tool", "validated 2"}
        assert threading.main_thread().name not in {thread for _, thread in where}

    def test_inputs_are_checked_in_none_of_its_threads(self, play, pool, blocked):
        """The threads of the loop's executor may all be taken by runs that wait for this one."""
        rlm, _ = play("q -> a", "SUBMIT('x')", pool=pool)

        async def main() -> str:
            threads = ThreadPoolExecutor(1)
            asyncio.get_running_loop().set_default_executor(threads)
            threads.submit(blocked)
            run = asyncio.ensure_future(rlm.acall(q=""))
            try:
                async with asyncio.timeout(AT_ONCE_SECONDS):
                    while not pool.queue.held:
                        await asyncio.sleep(0.01)
            finally:
                blocked.released.set()  # DSPy itself needs one for a call of an LM
            return (await run).a

        assert asyncio.run(main()) == "x"

    def test_async_tools_run_on_it(self, play, pool):
        """Concurrent runs do not mix: each has its own sandbox and its own counters."""
        loops = set()

        async def note(n: int) -> int:
            loops.add(asyncio.get_running_loop())
            return n

        rlm, _ = play("n: int -> m: int", "x = note(n)", "SUBMIT(x * 10)", tools=[note], pool=pool)

        async def main() -> list[int]:
            results = await asyncio.gather(*(rlm.acall(n=n) for n in range(2)))
            assert loops == {asyncio.get_running_loop()}
            return [result.m for result in results]

        assert asyncio.run(main()) == [0, 10]


class TestCancelling:
    """The caller gets its CancelledError at once, and nothing continues in the background."""

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        "code", ["while True: pass", "import time\ntime.sleep(50)", "sum(range(10**12))"]
    )
    def test_during_a_cell(self, play, pool, code):
        """The sandbox is closed, and the exception has the run's results so far."""
        ready = threading.Event()

        def note() -> None:
            ready.set()

        rlm, _ = play("q -> a", "print(6 * 7)", f"note()\n{code}", tools=[note], pool=pool)
        error = asyncio.run(cancelled(rlm.acall(q=""), ready.is_set))

        assert error.run.status == "failed"
        assert [step["output"] for step in error.run.trajectory] == ["42"]

    def test_during_a_call_of_the_root_lm(self, play, pool, blocked):
        """The request is abandoned, and no other is sent."""
        rlm, server = play("q -> a", blocked, pool=pool)
        error = asyncio.run(cancelled(rlm.acall(q=""), blocked.begun.is_set))

        assert error.run.trajectory == []
        assert blocked.count == 1
        assert not server.requests

    def test_during_a_sub_call(self, play, pool, blocked):
        """Requests in flight are abandoned; a batch sends no further item."""
        rlm, _ = play(
            "q -> a", "sub_llm_batched([str(n) for n in range(50)])", sub=blocked, pool=pool
        )
        error = asyncio.run(cancelled(rlm.acall(q=""), lambda: blocked.count == 16))
        wait_until(lambda: not our_threads())

        assert blocked.count == 16
        assert error.run.llm_calls == 50  # charged for as a whole
        assert error.run.sub_calls == ()  # what they took is not known yet

    def test_before_a_sub_call_is_tried_again(self, play, pool):
        """An abandoned call is not retried, although DSPy's own retries would continue in its thread."""
        rlm, server = play("q -> a", "sub_llm('?')", sub=rules([], default="x"), pool=pool)
        rlm.sub_lm = server.lm("sub", num_retries=8)
        server.fail("sub", Fault(status=500, times=None, retry_after_seconds=0.5))
        asyncio.run(cancelled(rlm.acall(q=""), lambda: bool(server.requests_to("sub"))))
        sent = len(server.requests_to("sub"))
        wait_until(lambda: "rlm-call" not in our_threads())
        threading.Event().wait(1.0)

        assert len(server.requests_to("sub")) == sent <= 2

    def test_during_a_sub_run(self, play, pool):
        """The cell, the sandbox and the LM call of the sub-run end with the run."""
        ready = threading.Semaphore(0)

        def note() -> None:
            ready.release()

        rlm, server = play(
            "q -> a",
            "sub_rlm('q -> a', q='')",
            sub=scripted(Action("", "note()\nwhile True: pass")),
            tools=[note],
            pool=pool,
        )
        asyncio.run(cancelled(rlm.acall(q=""), lambda: ready.acquire(blocking=False)))
        wait_until(lambda: not our_threads())

        assert len(server.requests_to("sub")) == 1

    @pytest.mark.filterwarnings("ignore:(CodeAct|ProgramOfThought) is deprecated")
    def test_during_a_module_of_dspys_with_code_of_its_own(self, play, pool, deno_children):
        """Cancelling ends the interpreter of a DSPy module too."""
        ready = threading.Event()

        def note() -> None:
            """Sets the event that the test waits for."""
            ready.set()

        rlm, server = play(
            "q -> a",
            "import dspy\ndspy.CodeAct('q -> a', tools=[note])(q='')",
            sub=fields(lambda _: {"generated_code": "note()\nwhile True: pass", "finished": False}),
            tools=[note],
            pool=pool,
        )
        asyncio.run(cancelled(rlm.acall(q=""), ready.is_set))
        wait_until(lambda: not our_threads())

        assert len(server.requests_to("sub")) == 1
        default_pool().close()

    def test_during_an_async_tool(self, play, pool):
        """An async tool is cancelled too, on the caller's loop."""
        seen = []

        async def forever() -> None:
            seen.append("begun")
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        rlm, _ = play("q -> a", "forever()", tools=[forever], pool=pool)

        async def main() -> None:
            await cancelled(rlm.acall(q=""), lambda: bool(seen))
            await until(lambda: len(seen) == 2)

        asyncio.run(main())
        assert seen == ["begun", "cancelled"]

    @pytest.mark.nightly  # waits a limit out
    def test_during_a_tool_that_never_returns(self, play, pool, blocked, deno_children):
        """Python cannot end the tool's thread, but nothing waits for it: its slot and its sandbox are free."""
        before = deno_children()

        def never() -> None:
            """Never returns."""
            blocked()

        rlm, _ = play("q -> a", "never()", tools=[never], pool=pool)
        asyncio.run(cancelled(rlm.acall(q=""), blocked.begun.is_set))

        wait_until(lambda: pool.queue.held == 0)
        pool.close()
        wait_until(lambda: deno_children() <= before)
        wait_until(lambda: our_threads() == ["rlm-sandbox"])
        assert all(t.daemon for t in threading.enumerate() if t.name == "rlm-sandbox")
        blocked.released.set()

    def test_during_a_run_that_a_plain_tool_has_started(self, play, pool, blocked):
        """A run that a plain tool has started ends too, and sends nothing more."""
        inner, server = play("q -> a", blocked, pool=pool)
        inner.set_lm(server.lm("root"))
        ended: list[BaseException] = []

        def ask() -> str:
            try:
                return str(inner(q="inner").a)
            except BaseException as error:
                ended.append(error)
                raise

        outer, _ = play("q -> a", "ask()", tools=[ask], pool=pool)
        asyncio.run(cancelled(outer.acall(q=""), blocked.begun.is_set))
        wait_until(lambda: bool(ended), AT_ONCE_SECONDS)

        assert "The run has ended" in str(ended[0])
        assert blocked.count == 1

    def test_while_the_inputs_are_assigned(self, play, pool, blocked):
        """Cancelling while inputs are assigned, or earlier, closes a sandbox as soon as it has opened."""
        rule = CodeType(Slow, payload=blocked, code=lambda value, name, raw: f"{name} = {raw}")
        rlm, server = play("slow -> a", types=[rule], pool=pool)
        error = asyncio.run(cancelled(rlm.acall(slow=Slow()), blocked.begun.is_set))

        assert error.run.trajectory == []
        assert not server.requests
        blocked.released.set()

    def test_while_the_sandbox_is_opened(self, play, pool):
        """A cold start, which takes about 0.3 s, is cancelled in the middle."""
        rlm, server = play("q -> a", "SUBMIT('')", pool=pool)

        async def main() -> None:
            task = asyncio.ensure_future(rlm.acall(q=""))
            await until(lambda: pool.queue.held == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert not server.requests

    def test_before_the_sandbox_is_opened(self, play, pool):
        """The slot is released, even if opening never starts."""
        rlm, server = play("q -> a", "SUBMIT('')", pool=pool)

        async def main() -> None:
            task = rlm.prepare({"q": ""}, None, asyncio.get_running_loop())
            task.context.run_scope.cancel(RunEndedError("too late"))
            async with open_in_thread(task) as work:
                with pytest.raises(RunEndedError):
                    await work.open()

        asyncio.run(main())
        wait_until(lambda: not pool.queue.held, 10)
        assert not server.requests

    @pytest.mark.parametrize("count", [4, pytest.param(30, marks=pytest.mark.nightly)])
    def test_at_any_moment(self, play, pool, count):
        """Cancelling at any moment, from before the first thread to after the last, leaves nothing behind."""
        rlm, _ = play(
            "q -> a",
            "sub_llm('?')",
            "sub_rlm('q -> a', q='')",
            "SUBMIT('x')",
            sub=route((asks_for("code"), submit("y")), otherwise=rules([], default="yes")),
            pool=pool,
        )

        async def main() -> None:
            async def one(seconds: float) -> None:
                with anyio.move_on_after(seconds):
                    await rlm.acall(q="")

            await asyncio.gather(*(one(n * 2.1 / count) for n in range(count)))

        asyncio.run(main())

    def test_while_it_stands_in_line(self, play, blocked):
        """A queued run leaves the queue, and those behind it move up."""
        pool = ThriftyPool(max_sessions=1)
        rlm, _ = play(
            "q -> a",
            route((lambda r: "first" in r.prompt, blocked), otherwise=submit("x")),
            pool=pool,
        )

        async def main() -> str:
            first = asyncio.ensure_future(rlm.acall(q="first"))
            await until(blocked.begun.is_set)
            error = await cancelled(rlm.acall(q="second"), lambda: pool.queue.waiting == 1)
            assert error.run.trajectory == []
            assert pool.queue.waiting == 0
            third = asyncio.ensure_future(rlm.acall(q="third"))
            await until(lambda: pool.queue.waiting == 1)
            first.cancel()
            return (await third).a

        assert asyncio.run(main()) == "x"
        pool.close()

    def test_by_a_timeout_or_a_task_group(self, play, pool, blocked):
        """Every way of cancelling works: `asyncio.timeout`, anyio, a failing sibling in a task group."""
        rlm, _ = play("q -> a", "while True: pass", pool=pool)

        async def by_timeout() -> BaseException | None:
            try:
                async with asyncio.timeout(1):
                    await rlm.acall(q="")
            except TimeoutError as error:
                return error.__cause__
            return None

        async def by_anyio() -> bool:
            with anyio.move_on_after(1) as scope:
                await rlm.acall(q="")
            return scope.cancelled_caught

        async def by_group() -> None:
            async def fail() -> None:
                await until(lambda: pool.queue.held == 2)
                raise LookupError("the other one")

            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(rlm.acall(q=""))
                group.create_task(fail())

        cause: Any = asyncio.run(by_timeout())
        assert cause.run.status == "failed"
        assert asyncio.run(by_anyio())
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(by_group())
        assert [type(error) for error in caught.value.exceptions] == [LookupError]


def submit(answer: str) -> Any:
    """A root LM that submits at once."""
    return scripted(Action("", f"SUBMIT({answer!r})"))


class TestManyRuns:
    """Hundreds of runs in one process share the pool."""

    @pytest.mark.parametrize("count", [3, pytest.param(300, marks=pytest.mark.nightly)])
    @pytest.mark.timeout(900)
    def test_many_at_the_same_time(self, play, deno_children, count):
        """Every run succeeds, with no more sandboxes than the pool has slots, and threads in proportion."""
        before, most = deno_children(), [0, 0]
        pool = Pool(1, max_sessions=2)
        rlm, _ = play("n: int -> m: int", "x = n * 10", "SUBMIT(x)", pool=pool)

        async def main() -> list[int]:
            runs = asyncio.gather(*(rlm.acall(n=n) for n in range(count)))
            while not runs.done():
                most[0] = max(most[0], len(deno_children() - before))
                most[1] = max(most[1], len([n for n in our_threads() if n == "rlm-sandbox"]))
                await asyncio.sleep(0.05)
            return [result.m for result in await runs]

        assert asyncio.run(main()) == [n * 10 for n in range(count)]
        assert most[0] <= pool.max_sessions + pool.size + 1
        assert most[1] <= pool.max_sessions + 1
        pool.close()

    def test_batches_parallel_and_asyncify(self, play, deno_children):
        """DSPy's own ways to run many programs wait in the same queue."""
        before, most = deno_children(), [0]
        pool = ThriftyPool(keeps=2, max_sessions=2)
        rlm, _ = play("n: int -> m: int", "SUBMIT(n * 10)", pool=pool)
        examples = [dspy.Example(n=n).with_inputs("n") for n in range(4)]
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                most[0] = max(most[0], len(deno_children() - before))

        async def asyncified() -> list[int]:
            run = dspy.asyncify(rlm)
            return [r.m for r in await asyncio.gather(*(run(n=n) for n in range(4)))]

        watcher = threading.Thread(target=watch)
        watcher.start()
        parallel = dspy.Parallel(num_threads=4, disable_progress_bar=True)
        try:
            batched = [r.m for r in rlm.batch(examples, num_threads=4, disable_progress_bar=True)]
            in_parallel = [r.m for r in parallel([(rlm, example) for example in examples])]
            as_coroutines = asyncio.run(asyncified())
        finally:
            over.set()
            watcher.join()

        assert batched == in_parallel == as_coroutines == [n * 10 for n in range(4)]
        assert most[0] <= 2 + 1 + 1
        pool.close()

    def test_runs_below_runs_never_wait_for_themselves(self, play):
        """Nested runs cannot deadlock at any depth or number, even with a single slot: sub-runs, and RLMs in tools."""
        pool = ThriftyPool(max_sessions=1)
        pool.queue.stall_seconds = 10_000  # nobody is let in because nothing moves
        inner, server = play("n: int -> m: int", "SUBMIT(n + 1)", pool=pool)
        inner.set_lm(server.lm("root"))

        def ask(n: int) -> int:
            """Runs another RLM."""
            return inner(n=n).m

        async def ask_async(n: int) -> int:
            """Runs another RLM on the loop."""
            return (await inner.acall(n=n)).m

        def ask_in_threads(n: int) -> list[int]:
            """Runs another RLM in DSPy's threads."""
            pairs = [(inner, dspy.Example(n=k).with_inputs("n")) for k in range(n)]
            return [r.m for r in dspy.Parallel(num_threads=n, disable_progress_bar=True)(pairs)]

        outer, _ = play(
            "n: int -> m: list",
            "SUBMIT([ask(n), ask_async(n), *ask_in_threads(2), "
            "*[sub_rlm('n: int -> m: int', n=k).m for k in range(2)], *ask.batched([5, 6])])",
            sub=scripted(Action("", "SUBMIT(n * 100)")),
            tools=[ask, ask_async, ask_in_threads],
            pool=pool,
        )

        async def main() -> list[Any]:
            return [r.m for r in await asyncio.gather(*(outer.acall(n=n) for n in range(2)))]

        assert asyncio.run(main()) == [[n + 1, n + 1, 1, 2, 0, 100, 6, 7] for n in range(2)]
        assert outer(n=7).m == [8, 8, 1, 2, 0, 100, 6, 7]
        pool.close()


class TestLiveLoops:
    """Calls inside a running event loop, as in a notebook, and from several threads with their own loops."""

    @pytest.fixture
    def tools(self):
        """A plain tool and a coroutine function, with the threads and loops that they ran on."""
        ran_on: list[Any] = []

        def plain(n: int) -> int:
            """Adds one."""
            ran_on.append(threading.current_thread())
            return n + 1

        async def slow(n: int) -> int:
            """Adds ten."""
            await asyncio.sleep(0.01)
            ran_on.append(asyncio.get_running_loop())
            return n + 10

        return plain, slow, ran_on

    def test_both_calls_work_in_a_live_loop(self, play, pool, tools):
        """`rlm(...)` blocks a running loop as any call does, and `await rlm.acall(...)` leaves it free."""
        plain, slow, ran_on = tools
        rlm, _ = play(
            "n: int -> m: list",
            "SUBMIT([plain(n), slow(n), *slow.batched([1, 2]), await slow.aio(3), sub_llm('?')])",
            sub=rules([], default="yes"),
            tools=[plain, slow],
            pool=pool,
        )

        async def cell() -> tuple[Any, Any]:
            called = rlm(n=1)
            loops = {where for where in ran_on if not isinstance(where, threading.Thread)}
            assert asyncio.get_running_loop() not in loops  # it was busy
            ran_on.clear()
            awaited = await rlm.acall(n=1)
            assert {where for where in ran_on if not isinstance(where, threading.Thread)} == {
                asyncio.get_running_loop()
            }
            return called.m, awaited.m

        assert asyncio.run(cell()) == ([2, 11, 11, 12, 13, "yes"], [2, 11, 11, 12, 13, "yes"])

    @pytest.mark.nightly  # two sandboxes; the test before it has one loop
    def test_loops_in_threads_do_not_mix(self, play, pool):
        """Two loops in two threads, each with its own settings, do not mix; nor does a call without a loop."""
        loops: dict[str, set[Any]] = {}

        async def whose() -> str:
            """Returns the DSPy setting that is visible here."""
            mark = str(dspy.settings.rlm_test_marker)
            loops.setdefault(mark, set()).add(asyncio.get_running_loop())
            return mark

        rlm, server = play(
            "q -> a: list",
            "SUBMIT([whose(), sub_llm('?'), await whose.aio()])",
            sub=rules([], default="yes"),
            tools=[whose],
            pool=pool,
        )
        results: dict[str, Any] = {}
        lm = server.lm("root")

        def run(mark: str) -> None:
            async def main() -> None:
                with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), rlm_test_marker=mark):
                    results[mark] = [(await rlm.acall(q="")).a]

            asyncio.run(main())

        threads = [threading.Thread(target=run, args=(mark,)) for mark in "xy"]
        for thread in threads:
            thread.start()
        with dspy.context(rlm_test_marker="z"):
            results["z"] = [rlm(q="").a]
        for thread in threads:
            thread.join()

        for mark, answers in results.items():
            assert answers == [[mark, "yes", mark]] * len(answers)
        assert {mark: len(found) for mark, found in loops.items()} == {"x": 1, "y": 1, "z": 1}
        assert len(set().union(*loops.values())) == 3
