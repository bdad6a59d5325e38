"""An RLM under `dspy.streamify`: the messages and chunks that a reader gets during a run."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import dspy
import pytest
from dspy.streaming import StatusMessage, StatusMessageProvider, StreamListener, StreamResponse

from dspy_rlm import RunFailedError
from dspy_rlm.concurrency.anyio_threads import Stream, current
from dspy_rlm.dspy_bridge.streaming import OutputListener, StatusMessages
from dspy_rlm.testing import Action, Fault, asks_for, fields, route, rules, scripted

# With this the program is called by `forward` in a thread, or by `aforward` on the loop.
both = pytest.mark.parametrize("is_async_program", [False, True])


def streamed(rlm: dspy.Module, inputs: dict[str, Any], **options: Any) -> list[Any]:
    """Returns all messages that the reader receives."""
    return list(dspy.streamify(rlm, async_streaming=False, **options)(**inputs))


def status_texts(items: list[Any]) -> list[str]:
    """Returns the status messages, without the seconds."""
    texts = [item.message for item in items if isinstance(item, StatusMessage)]
    return [re.sub(r"(, [\d,]+ tokens)?(, \$[\d.]+)?, [\d.]+ s$", "", text) for text in texts]


def received(items: list[Any], name: str) -> list[str]:
    """Returns the text that listeners received for a field, joined per stream."""
    chunks = [i for i in items if isinstance(i, StreamResponse) and i.signature_field_name == name]
    text = "".join(f"{chunk.chunk}{'|' if chunk.is_last_chunk else ''}" for chunk in chunks)
    return text.split("|")[:-1]


def replies(*moves: str) -> Any:
    """A sub-LM that plays the root of a sub-run, answers typed prompts with n = 4, others with yes."""
    return route(
        (asks_for("code"), scripted(*(Action("", move) for move in moves))),
        (asks_for("n"), fields(lambda _: {"n": 4})),
        otherwise=rules([], default="yes"),
    )


class TestStatusMessages:
    @both
    def test_a_run_tells_what_it_does(self, play, is_async_program):
        """Each iteration, cell and sub-call, those of sub-runs too, and the end; no provider is needed."""
        rlm, _ = play(
            "q -> answer: str",
            "import dspy\nx = sub_llm('?')\ny = dspy.Predict('q -> n: int')(q='?')",
            "sub_llm_batched(['a', 'b', 'c']); predict_batched('q -> n: int', ['a', 'b'])",
            "SUBMIT(sub_rlm('q -> a: str', q='inner').a)",
            sub=replies("SUBMIT(sub_llm('deep'))"),
        )
        items = streamed(rlm, {"q": "?"}, is_async_program=is_async_program)

        assert status_texts(items) == [
            "Iteration 1/20: asking the LM what to do",
            "Iteration 1: running 3 lines of code",
            "Iteration 1: sub_llm",
            "Iteration 1: dspy.Predict",
            "Iteration 2/20: asking the LM what to do",
            "Iteration 2: running 1 line of code",
            "Iteration 2: sub_llm_batched, 3 prompts",
            "Iteration 2: predict_batched, 2 rows",
            "Iteration 3/20: asking the LM what to do",
            "Iteration 3: running 1 line of code",
            "Iteration 3: sub_rlm",
            "Sub-run at depth 1. Iteration 1/20: asking the LM what to do",
            "Sub-run at depth 1. Iteration 1: running 1 line of code",
            "Sub-run at depth 1. Iteration 1: sub_llm",
            "Sub-run at depth 1. Submitted, 1 iteration, 9 sub-LM calls",
            "Submitted, 3 iterations, 9 sub-LM calls",
        ]
        assert items[-1].answer == "yes"

    @both
    def test_tools_are_told_of_from_any_thread(self, play, is_async_program, caplog):
        """DSPy's own messages arrive too: of single calls, of batches, and of asynchronous tools."""

        def search(word: str) -> str:
            return word

        async def later(word: str) -> str:
            return word

        rlm, _ = play(
            "q -> answer: list",
            "a = [search('s'), *search.batched(['t', 'u'])]\n"
            "b = [later('v'), await later.aio('w')]\nSUBMIT(a + b)",
            tools=[search, later],
        )
        items = streamed(rlm, {"q": "?"}, is_async_program=is_async_program)

        assert items[-1].answer == ["s", "t", "u", "v", "w"]
        calling = [text for text in status_texts(items) if text.startswith("Calling")]
        assert calling == [f"Calling tool {n}..." for n in ["search"] * 3 + ["later"] * 2]
        assert not caplog.records

    @both
    def test_a_provider_of_ones_own_says_it_otherwise(self, play, is_async_program):
        """A provider can change one text, omit another and keep the rest."""

        class Short(StatusMessages):
            def iteration_status_message(self, iteration, max_iterations, depth):
                return f"turn {iteration} of {max_iterations}, depth {depth}"

            def cell_status_message(self, iteration, code, depth):
                return None

            def run_end_status_message(self, report, depth):
                return f"done after {report.iterations}"

        rlm, _ = play("q -> answer", "sub_llm('?')", "SUBMIT('')", sub=replies())
        items = streamed(
            rlm, {"q": "?"}, is_async_program=is_async_program, status_message_provider=Short()
        )

        assert status_texts(items) == [
            "turn 1 of 20, depth 0",
            "Iteration 1: sub_llm",
            "turn 2 of 20, depth 0",
            "done after 2",
        ]

    @both
    def test_a_provider_that_knows_nothing_of_us(self, play, is_async_program):
        """A foreign provider's messages are sent as for every module, together with ours."""

        class Theirs(StatusMessageProvider):
            def module_start_status_message(self, instance, inputs):
                return f"module {type(instance).__name__}"

            def lm_start_status_message(self, instance, inputs):
                return f"lm {instance.model}"

        rlm, _ = play(
            "q -> answer",
            "predict_batched('q -> n: int', ['x', 'y'])\nSUBMIT('')",
            sub=replies(),
        )
        items = streamed(
            rlm, {"q": "?"}, is_async_program=is_async_program, status_message_provider=Theirs()
        )

        assert status_texts(items) == [
            "module RLM",
            "Iteration 1/20: asking the LM what to do",
            "module ActionPredictor",
            "lm openai/root",
            "Iteration 1: running 2 lines of code",
            "Iteration 1: predict_batched, 2 rows",
            "module Predict",
            "module Predict",
            "Submitted, 1 iteration, 2 sub-LM calls",
        ]

    def test_a_program_with_a_loop_of_its_own(self, play):
        """A synchronous program in DSPy's thread sends its messages to the reader's loop."""

        class Program(dspy.Module):
            def __init__(self, rlm):
                super().__init__()
                self.rlm = rlm

            def forward(self, q):
                return asyncio.run(self.rlm.acall(q=q))

        rlm, _ = play("q -> answer", "SUBMIT('')")
        # A listener to something else: DSPy sends the pieces of the LM's reply across loops.
        other = StreamListener("a", predict=dspy.Predict("q -> a"))
        items = streamed(Program(rlm), {"q": "?"}, stream_listeners=[other])

        assert status_texts(items) == [
            "Iteration 1/20: asking the LM what to do",
            "Iteration 1: running 1 line of code",
            "Submitted, 1 iteration, 0 sub-LM calls",
        ]

    def test_a_provider_that_fails_says_nothing(self, play, caplog):
        """A failing status provider is logged, and the run continues."""

        class Broken(StatusMessages):
            def cell_status_message(self, iteration, code, depth):
                raise ValueError("broken provider")

        rlm, _ = play("q -> answer", "SUBMIT('right')")
        items = streamed(rlm, {"q": "?"}, status_message_provider=Broken())

        assert items[-1].answer == "right"
        assert "broken provider" in caplog.text

    @both
    @pytest.mark.sampled(1)
    def test_a_reader_that_is_slow_misses_nothing(self, play, is_async_program):
        """More messages than the stream holds: they wait, in order, and the prediction overtakes none."""

        async def later(n: int) -> int:
            return n

        cells = ["later.batched(list(range(9)))", *["1"] * 4, "SUBMIT('found')"]
        rlm, _ = play("q -> answer: str", *cells, tools=[later])
        program = dspy.streamify(
            rlm,
            is_async_program=is_async_program,
            stream_listeners=[OutputListener(rlm, "answer")],
        )

        async def read() -> list[Any]:
            items = []
            async for item in program(q="?"):
                items.append(item)
                await asyncio.sleep(1 if len(items) == 1 else 0.1)
            return items

        items = asyncio.run(asyncio.wait_for(read(), 60))
        ours = [text for text in status_texts(items) if not text.startswith(("Calling", "Tool"))]

        assert len([text for text in status_texts(items) if text.startswith("Calling")]) == 9
        assert ours == [
            *(
                f"Iteration {n}{text}"
                for n in range(1, 7)
                for text in ("/20: asking the LM what to do", ": running 1 line of code")
            ),
            "Submitted, 6 iterations, 0 sub-LM calls",
        ]
        assert received(items, "answer") == ["found"]
        assert items[-1].answer == "found"

    @both
    def test_a_run_that_fails(self, play, is_async_program):
        """A failing run sends a message, and the reader gets the exception."""
        rlm, server = play("q -> answer", "1")
        server.close()
        items: list[Any] = []
        program = dspy.streamify(rlm, async_streaming=False, is_async_program=is_async_program)
        with pytest.raises(RunFailedError, match="The run failed after 0 step"):
            items.extend(program(q="?"))

        assert status_texts(items)[-1].startswith("Failed (")


class TestListeners:
    @both
    @pytest.mark.parametrize("max_seconds", [None, 60])
    def test_the_predictors_fields_in_every_iteration(self, play, is_async_program, max_seconds):
        """`reasoning` and `code`, piece by piece, with listeners that may be used again.

        Also where a run has an end, and so its calls of LMs are in threads of their own.
        """
        rlm, server = play(
            "q -> answer: str",
            Action("Look at it first.", "print(q)"),
            Action("That is it.", "SUBMIT(sub_llm(q))"),
            sub=replies(),
            max_seconds=max_seconds,
        )
        items = streamed(
            rlm,
            {"q": "?"},
            is_async_program=is_async_program,
            stream_listeners=[
                StreamListener("reasoning", allow_reuse=True),
                StreamListener("code", predict=rlm.generate_action, allow_reuse=True),
            ],
        )

        assert received(items, "reasoning") == ["Look at it first.", "That is it."]
        assert [c.strip("`\n").removeprefix("python\n") for c in received(items, "code")] == [
            "print(q)",
            "SUBMIT(sub_llm(q))",
        ]
        assert {i.predict_name for i in items if isinstance(i, StreamResponse)} == {
            "generate_action",
            None,
        }
        assert len([i for i in items if isinstance(i, StreamResponse)]) > 8
        assert items[-1].answer == "yes"
        assert [e.request.stream for e in server.requests] == [True, True, False]

    @both
    def test_an_output_comes_when_it_is_submitted(self, play, is_async_program):
        """Whole, before the prediction, which may then be left out; a typed one as JSON."""
        rlm, _ = play(
            "q -> answer: str, lines: list[int], raw: bytes",
            r"SUBMIT('found', [1, 2], b'\xff')",
        )
        listeners = [
            OutputListener(rlm, "answer"),
            OutputListener(rlm, "raw"),
            StreamListener("lines", predict=rlm),
        ]
        items = streamed(
            rlm,
            {"q": "?"},
            is_async_program=is_async_program,
            stream_listeners=listeners,
            include_final_prediction_in_output_stream=False,
        )

        assert StreamResponse("rlm", "answer", "found", True) in items
        assert StreamResponse("rlm", "raw", '"_w=="', True) in items
        assert StreamResponse(None, "lines", "[1,2]", True) in items
        assert not any(isinstance(item, dspy.Prediction) for item in items)

    @both
    def test_an_output_that_is_extracted_comes_in_pieces(self, play, is_async_program):
        """The extraction's LM call is streamed to the listeners of outputs."""
        rlm, _ = play(
            "q -> answer: str",
            "1",
            extracted={"answer": "found in the end, at last"},
            max_iterations=1,
        )
        items = streamed(
            rlm,
            {"q": "?"},
            is_async_program=is_async_program,
            stream_listeners=[OutputListener(rlm, "answer")],
        )

        assert received(items, "answer") == ["found in the end, at last"]
        assert len([item for item in items if isinstance(item, StreamResponse)]) > 3
        assert items[-1].answer == "found in the end, at last"

    @both
    def test_a_predictor_in_a_tool(self, play, is_async_program):
        """A predictor in a tool can be listened to in every thread that calls the tool."""
        inner = dspy.Predict("text -> summary")

        def summarize(text: str) -> str:
            return inner(text=text).summary

        rlm, _ = play(
            "q -> answer: list",
            "SUBMIT([*summarize.batched(['one']), summarize('two')])",
            extracted={"summary": "short and sweet"},
            tools=[summarize],
        )
        listener = StreamListener("summary", predict=inner, allow_reuse=True)
        items = streamed(
            rlm, {"q": "?"}, is_async_program=is_async_program, stream_listeners=[listener]
        )

        assert received(items, "summary") == ["short and sweet"] * 2
        assert items[-1].answer == ["short and sweet"] * 2

    def test_a_listener_to_what_is_no_output(self, play):
        """A listener to a name that is not an output is refused, with the available outputs."""
        rlm, _ = play("q -> answer", "SUBMIT('')")

        with pytest.raises(ValueError, match=r"no output 'code' to listen to\. It has: answer"):
            OutputListener(rlm, "code")

    def test_an_rlm_in_a_program(self, play):
        """Its messages and outputs reach the reader of the whole; another module's streams are its own."""

        class Program(dspy.Module):
            def __init__(self, rlm):
                super().__init__()
                self.rlm = rlm
                self.check = dspy.Predict("answer -> verdict")

            def forward(self, q):
                return self.check(answer=self.rlm(q=q).answer)

        rlm, _ = play(
            "q -> answer: str", "SUBMIT('found')", extracted={"verdict": "all is well here"}
        )
        items = streamed(
            Program(rlm),
            {"q": "?"},
            stream_listeners=[OutputListener(rlm, "answer"), StreamListener("verdict")],
        )

        assert received(items, "answer") == ["found"]
        assert received(items, "verdict") == ["all is well here"]
        assert status_texts(items)[0] == "Iteration 1/20: asking the LM what to do"

    @both
    def test_an_rlm_in_an_asynchronous_tool(self, play, is_async_program):
        """Messages of an RLM in an async tool reach the reader of the whole program."""

        async def look(q: str) -> str:
            return (await inner.acall(q=q)).answer

        inner, _ = play("q -> answer", "SUBMIT('found')", max_iterations=3)
        inner.set_lm(dspy.settings.lm)
        rlm, _ = play("q -> answer", "SUBMIT(look(q))", tools=[look])
        items = streamed(rlm, {"q": "?"}, is_async_program=is_async_program)

        assert items[-1].answer == "found"
        assert [text for text in status_texts(items) if "tool" not in text.lower()] == [
            "Iteration 1/20: asking the LM what to do",
            "Iteration 1: running 1 line of code",
            "Iteration 1/3: asking the LM what to do",
            "Iteration 1: running 1 line of code",
            "Submitted, 1 iteration, 0 sub-LM calls",
            "Submitted, 1 iteration, 0 sub-LM calls",
        ]

    def test_without_a_stream_nothing_is_watched(self, play, caplog):
        """A run of its own logs its steps and the audit events of its sandbox, through loggers of their own."""
        caplog.set_level(logging.INFO)
        rlm, _ = play("q -> answer", "sub_llm('?')", "SUBMIT('')", sub=replies())
        rlm(q="?")

        ours = [r.name for r in caplog.records if r.name.startswith(("dspy", "sandbox"))]
        assert set(ours) <= {"sandbox_runtime.audit", "dspy_rlm"}


class TestStream:
    """The stream that a run writes to, from its own threads and from the loop."""

    def test_nobody_reads_any_more(self):
        """Messages without a reader are dropped, even if the loop is gone."""

        async def leave() -> Stream:
            sending, reading = anyio.create_memory_object_stream[str](1)
            stream = Stream(sending, asyncio.get_running_loop())
            reading.close()
            stream.send("from the loop")
            await asyncio.to_thread(stream.send, "from a thread")
            sending.close()
            await asyncio.to_thread(stream.send, "from a thread")
            return stream

        asyncio.run(leave()).send("when all is over")

    @pytest.mark.parametrize("calls", [True, False])
    @pytest.mark.sampled(1)
    def test_what_the_loop_takes_in_its_last_round(self, calls):
        """Work in the loop's last round is dropped or runs once in the caller: no thread waits for an ended loop."""
        over = threading.Event()
        begun: list[object] = []
        returned: list[object] = []

        def work(stream: Stream) -> None:
            while not over.is_set():
                if calls:
                    returned.append(stream.reachable(begun.append)(object()))
                else:
                    stream.send(object())

        async def listen() -> list[threading.Thread]:
            loop = asyncio.get_running_loop()
            sending, reading = anyio.create_memory_object_stream[object](4)
            stream = Stream(sending, loop)
            threads = [threading.Thread(target=work, args=[stream], daemon=True) for _ in range(3)]
            for thread in threads:
                thread.start()
            end = loop.time() + 0.05
            with sending, reading:
                while loop.time() < end:
                    with suppress(anyio.WouldBlock):
                        reading.receive_nowait()
                    await asyncio.sleep(0)
            return threads

        for _ in range(5):
            over.clear()
            threads = asyncio.run(listen())
            over.set()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()

        assert len(returned) == len(begun) == len(set(begun))

    def test_who_has_left(self):
        """Nothing waits for a reader that has left, even if its loop continues; functions run without a stream."""
        loop = asyncio.new_event_loop()
        sending, reading = anyio.create_memory_object_stream[str](1)
        stream = Stream(sending, loop)
        with ThreadPoolExecutor(1) as threads, dspy.context(send_stream=sending):
            waiting = threads.submit(stream.send, "the loop stands still")
            assert not waiting.done()
            reading.close()
            waiting.result(60)
            assert stream.reachable(lambda: dspy.settings.send_stream)() is None
        sending.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    def test_a_program_in_a_loop_of_its_own_wakes_the_reader(self):
        """A message wakes the reader's loop, even if the loop is idle."""
        received = threading.Event()

        def program() -> bool:
            async def run() -> bool:
                current(asyncio.get_running_loop()).send("hello")
                return received.wait(60)

            return asyncio.run(run())

        async def read(reading) -> str:
            item = await reading.receive()
            received.set()
            return item

        async def both() -> list[object]:
            sending, reading = anyio.create_memory_object_stream[str](1)
            with sending, reading, dspy.context(send_stream=sending):
                return await asyncio.gather(read(reading), anyio.to_thread.run_sync(program))

        assert asyncio.run(both()) == ["hello", True]

    def test_messages_from_the_loop_keep_their_order(self):
        """Messages that find the buffer full wait, and nothing overtakes them."""

        async def fill() -> list[int]:
            sending, reading = anyio.create_memory_object_stream[int](2)
            stream = Stream(sending, asyncio.get_running_loop())
            for n in range(5):
                stream.send(n)
            first = reading.receive_nowait()
            stream.send(5)
            async with reading, sending:
                return [first, *[await reading.receive() for _ in range(5)]]

        assert asyncio.run(fill()) == [0, 1, 2, 3, 4, 5]

    def test_a_function_is_called_where_dspy_can_send(self):
        """A function runs in an AnyIO thread with the caller's context, and may wait for others like it."""
        here = contextvars.ContextVar("here", default="nowhere")

        def send(depth: int) -> tuple[str, int]:
            anyio.from_thread.check_cancelled()  # raises in a thread that AnyIO does not know
            return (here.get(), depth) if depth == 50 else reach(send)(depth + 1)

        async def call() -> tuple[str, int]:
            nonlocal reach
            sending, reading = anyio.create_memory_object_stream[str](1)
            reach = Stream(sending, asyncio.get_running_loop()).reachable
            here.set("here")
            context = contextvars.copy_context()
            with sending, reading, ThreadPoolExecutor(1) as threads:
                return await asyncio.wrap_future(threads.submit(context.run, reach(send), 0))

        reach: Any = None
        assert asyncio.run(call()) == ("here", 50)


@both
def test_no_text_is_streamed_twice(play, is_async_program):
    """A call that breaks off after some of it was sent is not made again, as DSPy does not."""
    text = "word " * 60
    rlm, server = play("q -> answer: str", "print(1)", extracted={"answer": text}, max_iterations=1)
    rlm.set_lm(server.lm("root", num_retries=3))
    server.fail("root", Fault(cut_off=True, after=1, times=1))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - AnyIO wraps it or not
        streamed(
            rlm,
            {"q": "?"},
            stream_listeners=[OutputListener(rlm, "answer")],
            is_async_program=is_async_program,
        )

    assert "closed mid-chunk" in str(getattr(caught.value, "exceptions", [caught.value])[0])
    assert len(server.requests) == 2
