"""Contract tests: the undocumented behaviour of DSPy that `dspy_rlm` depends on, one test for each.

A failure here names the part of DSPy that has changed and the module of ours that it breaks.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import dspy
import pydantic
import pytest
from dspy import lm15
from dspy.clients.call_context import stream_emitted
from dspy.evaluate import evaluate
from dspy.streaming import StatusMessageProvider, StreamListener
from dspy.utils import BaseCallback, DummyLM, with_callbacks

from dspy_rlm.dspy_internals import adapters, gepa, model_table, rlm_class, signatures, stragglers
from dspy_rlm.dspy_internals.lm_calls import (
    UsageTracker,
    adapter_fallback_scope,
    call_on_a_loop,
    is_dspys_own,
    is_priced_by_the_table_alone,
)
from dspy_rlm.dspy_internals.response_headers import HeadersListener, with_headers
from dspy_rlm.dspy_internals.short_steps import ShortStepsLoop
from dspy_rlm.dspy_internals.streaming import StatusStreamingCallback
from dspy_rlm.dspy_internals.traces import FailedPrediction, TraceData, collects_trace
from dspy_rlm.dspy_internals.usage import track_usage
from dspy_rlm.testing import PolicyServer

ANSWER = "[[ ## answer ## ]]\n7\n\n[[ ## completed ## ]]"


@contextmanager
def contract(part: str, dependent: str) -> Iterator[None]:
    """Turns any failure inside it into a sentence that names both sides."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a change may show in any way
        pytest.fail(
            f"DSPy's {part} no longer behaves as it did in 3.4; dspy_rlm/{dependent} depends on it. "
            f"{type(error).__name__}: {error}"
        )


class Engine:
    """An engine of `dspy.LM` that answers with a constant, or raises it."""

    def __init__(self, reply: str | Exception = ANSWER) -> None:
        self.reply, self.calls = reply, 0

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answers one request."""
        self.calls += 1
        if isinstance(self.reply, Exception):
            raise self.reply
        usage = lm15.Usage(input_tokens=3, output_tokens=2, total_tokens=5)
        return lm15.Response(None, request.model, lm15.Message.assistant(self.reply), "stop", usage)


def lm_with(engine: Engine, **options: Any) -> dspy.LM:
    """An LM that runs in this process."""
    return dspy.LM("test/model", engine=engine, cache=False, **{"num_retries": 0, **options})


def test_a_broken_contract_names_both_sides():
    """The sentence says which part of DSPy has changed, and which module of ours needs it."""
    sentence = r"DSPy's clock no longer .* dspy_rlm/x\.py"
    with pytest.raises(pytest.fail.Exception, match=sentence), contract("clock", "x.py"):
        raise ValueError("late")


class _Headers(UsageTracker, HeadersListener):
    """Keeps the headers of responses."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[dict[str, str]] = []

    def take_headers(self, headers: Any) -> None:
        self.headers.append({name.lower(): value for name, value in headers})


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_native_engine_has_a_transport(asynchronous):
    """The headers of a response are read from the transport of DSPy's native engine, which drops them."""
    tracker = _Headers()
    with (
        contract("native engine", "dspy_internals/response_headers.py"),
        PolicyServer({"lm": lambda _: "x"}) as server,
    ):
        original = server.lm("lm")
        lm = original.copy()
        with_headers(lm)
        with_headers(lm)
        with dspy.context(usage_tracker=tracker):
            for _ in range(2):
                asyncio.run(lm.acall("x")) if asynchronous else lm("x")
            original("x")
        lm.close()

    assert len(tracker.headers) == (2 if asynchronous else 3)
    assert all(
        headers["server"].startswith("dspy-rlm-policy-server") for headers in tracker.headers
    )


class TestLMs:
    """The calls of an LM: `lms/` and `budget/`."""

    def test_an_engine_object_answers(self):
        """An object with `complete(Request) -> Response` is an engine."""
        with contract("lm15 (Request, Response, Message, Usage)", "cli/demo/run.py"):
            assert lm_with(Engine("hello"))("hi") == ["hello"]

    def test_adapter_fallback_scope_notices_streamed_text(self):
        """Inside the scope, `emitted` becomes true once a part of a reply was streamed."""
        part = "clients.call_context.adapter_fallback_scope"
        with contract(part, "lms/attempts.py"), adapter_fallback_scope() as streamed:
            assert streamed.emitted is False
            stream_emitted()
            assert streamed.emitted is True

    def test_errors_say_whether_to_retry(self):
        """A failing server is retried, a wrong key is not; an error may say after how many seconds."""
        with contract("is_retryable_lm_error and LMError.retry_after", "lms/tries.py"):
            assert dspy.is_retryable_lm_error(dspy.LMServerError("down"))
            assert not dspy.is_retryable_lm_error(dspy.LMAuthError("wrong key"))
            assert dspy.LMRateLimitError("slow", retry_after=2.0).retry_after == 2.0

    def test_a_copied_lm_takes_another_class(self):
        """A copy keeps the engine, has a history of its own, and is called through its new class."""
        with contract("BaseLM.copy, with a __class__ assigned afterwards", "lms/metering.py"):
            lm = lm_with(Engine("hello"))

            class Counted(dspy.LM):
                calls = 0

                def __call__(self, *args: Any, **options: Any) -> Any:
                    self.calls += 1
                    return super().__call__(*args, **options)

            copied: Any = lm.copy()
            copied.__class__ = Counted

            assert copied("hi") == ["hello"]
            assert (copied.calls, len(copied.history), len(lm.history)) == (1, 1, 0)
            assert copied.callbacks == lm.callbacks
            assert copied.kwargs == lm.kwargs

    def test_no_retries_means_one_call(self):
        """`num_retries = 0`, assigned to an LM, has each call made once."""
        with contract("LM.num_retries", "lms/metering.py"):
            engine = Engine(dspy.LMServerError("down"))
            lm = lm_with(engine, num_retries=3)
            lm.num_retries = 0
            with pytest.raises(dspy.LMServerError):
                lm("hi")
            assert engine.calls == 1

    def test_retries_live_in_forward(self):
        """`LM` has a `forward` and an `aforward` of its own: a class that overrides them is not retried."""
        with contract("LM.forward and LM.aforward", "lms/metering.py"):
            assert {"forward", "aforward"} <= set(vars(dspy.LM))

    def test_the_usage_tracker_hears_of_each_call(self):
        """The tracker in DSPy's settings gets the model and the counts of tokens."""
        with contract("UsageTracker.add_usage, settings.usage_tracker", "lms/call_readings.py"):

            class Tracker(UsageTracker):
                def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
                    super().add_usage(lm, usage_entry)

            tracker = Tracker()
            with dspy.context(usage_tracker=tracker):
                lm_with(Engine())("hi")
            (entry,) = tracker.usage_data["test/model"]
            assert (entry["prompt_tokens"], entry["completion_tokens"]) == (3, 2)

    def test_a_block_has_the_usage_of_its_calls(self):
        """By model, with an entry for each call."""
        with contract("track_usage", "dspy_internals/usage.py"):
            with track_usage() as tracker:
                lm_with(Engine())("hi")
            (entry,) = tracker.usage_data["test/model"]
            assert (entry["prompt_tokens"], entry["completion_tokens"]) == (3, 2)

    def test_caller_modules_get_the_history(self):
        """An object in `caller_modules` that has a `history` gets an entry with cost and response."""
        with contract("settings.caller_modules", "lms/tries.py and dspy_bridge/traces.py"):

            class Caller:
                def __init__(self) -> None:
                    self.history: list[dict[str, Any]] = []

            caller = Caller()
            with dspy.context(caller_modules=[caller]):
                lm_with(Engine())("hi")
            (entry,) = caller.history
            assert {"cost", "response", "usage"} <= set(entry)

    def test_a_trace_of_a_context_is_told_from_that_of_the_process(self):
        """Optimizers collect a trace in a context, in threads too; without one, DSPy adds to a list of the process."""
        with contract("settings.trace", "dspy_internals/traces.py"):
            assert not collects_trace()
            with dspy.context(lm=None):
                assert not collects_trace()
            with dspy.context(trace=[]), dspy.context(lm=None):
                assert collects_trace()
                assert dspy.Parallel(num_threads=1, disable_progress_bar=True)(
                    [(lambda: collects_trace(), {})]
                ) == [True]

    def test_modules_stack_up_in_caller_modules(self):
        """While a module runs, it is the last of `caller_modules`, after those that called it."""
        with contract("settings.caller_modules", "dspy_bridge/traces.py"):
            stacks: list[list[Any]] = []

            class Inner(dspy.Module):
                def forward(self) -> None:
                    stacks.append(list(dspy.settings.caller_modules))

            class Outer(dspy.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.inner = Inner()

                def forward(self) -> None:
                    self.inner()

            outer = Outer()
            outer()
            assert stacks == [[outer, outer.inner]]

    def test_a_model_has_a_route_and_prices(self, monkeypatch):
        """The table that DSPy computes costs from can be read for the model of an LM."""
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        with contract("capabilities.resolve and model_metadata.model_info", "budget/prices.py"):
            route = model_table.resolve(dspy.LM("openai/gpt-4o-mini"))
            rates = model_table.model_info("openai", route.model)
            assert isinstance(route.provider, str)
            assert model_table.model_info("no-such-provider", "no-such-model") == {}
            assert rates["input_cost_per_token"] > 0
            assert rates["output_cost_per_token"] > 0
            assert rates["max_output_tokens"] > 0

    def test_a_two_step_adapter_has_an_lm(self):
        """`TwoStepAdapter` keeps its own LM in `extraction_model`."""
        with contract("TwoStepAdapter.extraction_model", "lms/metering.py"):
            lm = lm_with(Engine())
            assert dspy.TwoStepAdapter(lm).extraction_model is lm

    def test_an_lm_is_saved_and_loaded(self):
        """`load_state` makes an LM from what `dump_state` returned, also one of the user's classes."""
        with contract("BaseLM.dump_state and load_state", "dspy_bridge/pickling.py"):
            state = dspy.LM("openai/gpt-4o-mini", temperature=0.5).dump_state()
            loaded = dspy.BaseLM.load_state(state, allow_custom_lm_class=True)
            assert (loaded.model, loaded.kwargs["temperature"]) == ("openai/gpt-4o-mini", 0.5)


class TestSettings:
    """The keys of DSPy's settings, beside those above."""

    def test_a_key_of_our_own_is_kept(self):
        """`dspy.context` takes a key that DSPy does not know, and `get` returns it."""
        with contract("settings with keys of others", "run_tree.py"):
            assert dspy.settings.get("a_key_of_ours") is None
            with dspy.context(a_key_of_ours="kept"):
                assert dspy.settings.get("a_key_of_ours") == "kept"

    def test_streamify_sets_the_stream(self):
        """A streamed program finds its stream, its listeners and its provider in the settings."""
        seen: dict[str, Any] = {}

        class Program(dspy.Module):
            def __init__(self) -> None:
                super().__init__()
                self.predict = dspy.Predict("question -> answer")

            def forward(self) -> dspy.Prediction:
                seen.update(
                    stream=dspy.settings.send_stream,
                    readers=dspy.settings.send_stream.statistics().open_receive_streams,
                    listeners=dspy.settings.stream_listeners,
                    callbacks=dspy.settings.callbacks,
                )
                return dspy.Prediction(answer="7")

        program, provider = Program(), StatusMessageProvider()
        listener = StreamListener("answer", predict=program.predict, predict_name="predict")
        streamed = dspy.streamify(
            program, stream_listeners=[listener], status_message_provider=provider
        )

        async def read() -> None:
            _ = [item async for item in streamed()]

        with contract(
            "settings.send_stream and stream_listeners",
            "concurrency/anyio_threads.py, dspy_bridge/streaming.py and lms/metering.py",
        ):
            asyncio.run(read())
            assert callable(seen["stream"].send)
            assert seen["readers"] == 1
            assert seen["listeners"] == [listener]
        with contract(
            "streaming.messages.StatusStreamingCallback.status_message_provider",
            "dspy_bridge/streaming.py",
        ):
            (callback,) = (c for c in seen["callbacks"] if isinstance(c, StatusStreamingCallback))
            assert callback.status_message_provider is provider
        with contract("StreamListener's attributes", "dspy_bridge/streaming.py"):
            assert listener.predict is program.predict
            assert listener.predict_name == "predict"
            assert listener.signature_field_name == "answer"
            assert (listener.stream_start, listener.stream_end) == (False, False)

    def test_caller_predict_is_the_predictor(self):
        """With a listener to it, an LM call goes on under the predictor that made it."""
        seen: list[Any] = []

        class Noting(dspy.LM):
            def __call__(self, *args: Any, **options: Any) -> Any:
                seen.append(dspy.settings.caller_predict)
                with dspy.context(send_stream=None):
                    return super().__call__(*args, **options)

        lm = Noting("test/model", engine=Engine(), cache=False)
        with contract("settings.caller_predict", "dspy_bridge/streaming.py"):
            predict = dspy.Predict("question -> answer")
            listener = StreamListener("answer", predict=predict, predict_name="predict")
            streamed = dspy.streamify(predict, stream_listeners=[listener])

            async def read() -> None:
                with dspy.context(lm=lm):
                    _ = [item async for item in streamed(question="?")]

            asyncio.run(read())
            assert seen == [predict]

    def test_the_trace_has_a_bound(self):
        """`max_trace_size` bounds the trace, whose oldest entries go first."""
        with contract("settings.trace and max_trace_size", "dspy_bridge/traces.py"):
            predict, trace = dspy.Predict("question -> answer"), list[Any]()
            with dspy.context(lm=lm_with(Engine()), trace=trace, max_trace_size=1):
                predict(question="first")
                predict(question="second")
            ((predictor, inputs, prediction),) = trace
            assert (predictor, inputs["question"]) == (predict, "second")
            assert prediction.answer == "7"


def _no_reward(_inputs: Any, _prediction: Any) -> float:
    return 0.0


class TestAdapters:
    """The prompts that adapters write, and their parsing of replies."""

    def test_an_unreadable_field_is_named_in_the_message(self):
        """The message has the field after "Failed to parse" and the reason after "Error message"."""
        with contract("AdapterParseError's message", "repl/typed_call.py"):
            with pytest.raises(dspy.AdapterParseError) as caught:
                dspy.ChatAdapter().parse(
                    dspy.Signature("question -> answer: int"), ANSWER.replace("7", "many")
                )
            pattern = r"Failed to parse field answer .*Error message: \S"
            assert re.search(pattern, str(caught.value), re.DOTALL)
            assert "many" in caught.value.lm_response

    def test_refine_wraps_the_adapter_with_its_advice(self):
        """A run finds the advice that `dspy.Refine` adds to the prompts of its second attempt."""
        seen: list[Any] = []

        class Program(dspy.Module):
            def __init__(self) -> None:
                super().__init__()
                self.guess = dspy.Predict("question -> answer")

            def forward(self, question: str) -> dspy.Prediction:
                seen.append((adapters.read_advice(dspy.settings.adapter), self.guess.signature))
                return self.guess(question=question)

        chat = dspy.ChatAdapter()
        reply = '[[ ## discussion ## ]]\nd\n\n[[ ## advice ## ]]\n{"guess": "Think."}\n\n' + ANSWER
        with contract("Refine.forward", "dspy_internals/adapters.py"):
            with dspy.context(lm=lm_with(Engine(reply)), adapter=chat, trace=[]):
                dspy.Refine(Program(), 2, reward_fn=_no_reward, threshold=1.0)(question="?")
            (none, _), (advice, signature) = seen
            assert none is None
            assert advice.adapter is chat
            assert advice.by_name[advice.names[signature]] == "Think."
            assert adapters.read_advice(None) is None

    def test_the_json_fallback_can_be_switched_off_and_wrapped(self):
        """An unparsable reply is requested again as JSON, unless the switch is off."""
        predict = dspy.Predict("question -> answer: int")
        adapter, engine, wrapped = dspy.ChatAdapter(), Engine("no fields"), []

        def calls() -> int:
            before = engine.calls
            settings = dspy.context(lm=lm_with(engine), adapter=adapter)
            with settings, pytest.raises(dspy.AdapterParseError):
                predict(question="?")
            return engine.calls - before

        with contract("ChatAdapter._make_json_adapter_fallback", "values/bounded_parsing.py"):
            adapters.wrap_json_fallback(
                adapter, lambda adapter_call: wrapped.append(adapter_call) or adapter_call
            )
            assert calls() > 1
            assert [type(adapter_call) for adapter_call in wrapped] == [dspy.JSONAdapter]
        with contract("ChatAdapter.use_json_adapter_fallback", "repl/typed_call.py"):
            adapter.use_json_adapter_fallback = False
            assert calls() == 1

    def test_the_methods_take_these_arguments(self):
        """Calls, parsing and the formatting of inputs keep their parameters."""
        with contract(
            "Adapter.__call__, acall, parse and format_user_message_content",
            "prompts/guarded_adapter.py and values/bounded_parsing.py",
        ):
            call = ["self", "lm", "lm_kwargs", "signature", "demos", "inputs"]
            for cls in (dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter):
                assert list(inspect.signature(cls.__call__).parameters) == call
                assert list(inspect.signature(cls.acall).parameters) == call
                parse = list(inspect.signature(cls.parse).parameters)
                assert parse == ["self", "signature", "completion"]
                inputs = list(inspect.signature(cls.format_user_message_content).parameters)
                assert inputs[:3] == ["self", "signature", "inputs"]

    def test_values_are_read_from_text(self):
        """`parse_value` repairs JSON and checks the type; what does not fit is a `ValueError`."""
        with contract("adapters.utils.parse_value", "values/bounded_parsing.py"):
            assert adapters.parse_value('{"a": 1,}', dict[str, int]) == {"a": 1}
            assert adapters.parse_value("b", Literal["a", "b"]) == "b"
            with pytest.raises(ValueError, match="int"):
                adapters.parse_value("many", int)

    def test_a_reply_has_headers(self):
        """The header of a field in a reply, with its name as the first group."""
        with contract("chat_adapter.field_header_pattern", "values/bounded_parsing.py"):
            assert adapters.field_header_pattern.match("[[ ## answer ## ]]")[1] == "answer"
            assert adapters.field_header_pattern.match("answer:") is None


def test_signatures_mark_their_fields():
    """A field notes whether its type was written, its description and its constraints."""
    with contract("utils.constants.IS_TYPE_UNDEFINED", "signatures/fields.py and parser.py"):
        fields = dspy.Signature("question -> answer: str").fields
        assert fields["question"].json_schema_extra[signatures.IS_TYPE_UNDEFINED] is True
        assert not fields["answer"].json_schema_extra.get(signatures.IS_TYPE_UNDEFINED)
    with contract("json_schema_extra of fields", "signatures/fields.py"):

        class Task(dspy.Signature):
            plain: str = dspy.InputField()
            bounded: int = dspy.OutputField(desc="a count", gt=3)

        assert Task.fields["plain"].json_schema_extra["desc"] == "${plain}"
        assert Task.fields["bounded"].json_schema_extra["desc"] == "a count"
        assert "3" in Task.fields["bounded"].json_schema_extra["constraints"]
        assert isinstance(Task.fields["bounded"], pydantic.fields.FieldInfo)


def test_the_classes_of_a_text_signature_are_found_where_it_is_written():
    """The search goes up the stack, to the locals of the caller."""

    class Local:
        """A class of this test."""

    with contract("Signature._detect_custom_types_from_caller", "evidence/options.py"):
        names = ["Local", "str", "NoSuchClass"]
        assert signatures.classes_of_caller(names) == {"Local": Local}


class TestInterpreters:
    """DSPy's `CodeInterpreter`s."""

    def test_callbacks_follow_the_names_of_methods(self):
        """`with_callbacks` knows an interpreter's operation by the method's name, also of a coroutine's."""
        heard: list[str] = []

        class Listener(BaseCallback):
            def on_interpreter_startup_start(
                self, call_id: str, instance: Any, inputs: Any
            ) -> None:
                heard.append("startup")

            def on_interpreter_execute_end(
                self, call_id: str, outputs: Any, exception: Any
            ) -> None:
                heard.append(f"execute: {outputs}")

            def on_interpreter_tool_call_start(
                self, call_id: str, instance: Any, inputs: Any
            ) -> None:
                heard.append(f"tool: {inputs['tool_name']}")

            def on_interpreter_shutdown_end(
                self, call_id: str, outputs: Any, exception: Any
            ) -> None:
                heard.append("shutdown")

        class Interpreter:
            tools: dict[str, Any]

            def __init__(self) -> None:
                self.tools, self.callbacks = {}, [Listener()]

            @with_callbacks
            def start(self) -> None: ...

            @with_callbacks
            def execute(self, code: str, variables: dict[str, Any] | None = None) -> str:
                return code

            async def _awaited(self, tool_name: str) -> None: ...

            _awaited.__name__ = "invoke_tool"
            ainvoke_tool = with_callbacks(_awaited)

            @with_callbacks
            def shutdown(self) -> None: ...

        with contract("with_callbacks on interpreters", "dspy_bridge/callbacks.py"):
            interpreter = Interpreter()
            assert isinstance(interpreter, dspy.CodeInterpreter)
            interpreter.start()
            interpreter.execute("1 + 1")
            asyncio.run(interpreter.ainvoke_tool("search"))
            interpreter.shutdown()
            assert heard == ["startup", "execute: 1 + 1", "tool: search", "shutdown"]

    def test_an_interpreter_declares_its_tools_once(self):
        """`PythonInterpreter` remembers in `_tools_registered` that it did; resetting it declares them again."""
        with contract("PythonInterpreter._tools_registered", "dspy_bridge/foreign_interpreter.py"):
            interpreter = dspy.PythonInterpreter()
            assert interpreter._tools_registered is False
            assert interpreter.tools == {}
            assert interpreter.output_fields is None


class TestOptimizers:
    """The parts of a program that optimizers run and read."""

    def test_evaluation_takes_a_timeout_from_the_executor(self):
        """`dspy.Evaluate` runs on `ParallelExecutor`, whose `timeout` of 0 is never."""
        with contract("utils.parallelizer.ParallelExecutor", "dspy_internals/stragglers.py"):
            executor = stragglers.ParallelExecutor
            assert evaluate.ParallelExecutor is executor
            assert executor().timeout > 0
            assert "0 < self.timeout" in inspect.getsource(executor._execute_parallel)
            with stragglers.no_stragglers():
                assert executor().timeout == 0
            assert executor().timeout > 0

    def test_a_failed_parse_keeps_its_trace(self):
        """A program that fails with an `AdapterParseError` becomes a `FailedPrediction` with its trace."""

        class Program(dspy.Module):
            def __init__(self) -> None:
                super().__init__()
                self.predict = dspy.Predict("question -> answer")

            def forward(self, question: str) -> None:
                dspy.settings.trace.append((self.predict, {"question": question}, "step"))
                raise dspy.AdapterParseError("RLM", self.predict.signature, "the reply")

        with contract("bootstrap_trace.FailedPrediction and TraceData", "dspy_bridge/traces.py"):
            example = dspy.Example(question="?").with_inputs("question")
            (data,) = dspy.bootstrap_trace_data(
                Program(),
                [example],
                num_threads=1,
                raise_on_error=False,
                capture_failed_parses=True,
                capture_crashes=True,
            )
            assert isinstance(data["prediction"], FailedPrediction)
            assert data["prediction"].completion_text == "the reply"
            assert data["trace"][0][2] == "step"
            assert set(TraceData.__annotations__) <= {*data, "score"}

    def test_gepa_has_a_proposer(self):
        """GEPA's own proposer is called with a candidate, the reflections and the components."""
        with contract("teleprompt.gepa.InstructionProposer", "optimize/proposer.py"):
            parameters = inspect.signature(gepa.InstructionProposer().__call__).parameters
            names = {"candidate", "reflective_dataset", "components_to_update"}
            assert names <= set(parameters)


def test_the_class_rlm_lies_in_three_modules():
    """`dspy`, `dspy.predict` and `dspy.predict.rlm` have one and the same `RLM`."""
    with contract("RLM, by the names of three modules", "dspy_internals/rlm_class.py"):
        assert dspy.RLM is dspy.predict.RLM is dspy.predict.rlm.RLM
        assert dspy.RLM is rlm_class.DSPyRLM


def test_a_call_can_be_sent_on_a_loop_with_its_callbacks_in_the_callers_thread():
    """`acall` without its callbacks can be awaited elsewhere, and callbacks are told of a function by another name."""
    seen: list[Any] = []

    class Watching(BaseCallback):
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            seen.append((threading.current_thread(), inputs["prompt"]))

        def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
            seen.append((threading.current_thread(), outputs))

    def elsewhere(call: Any) -> Any:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(call())).result()

    with PolicyServer({"lm": lambda _: "reply"}) as server:
        lm = server.lm("lm", callbacks=[Watching()])
        with contract("BaseLM.acall.__wrapped__ and with_callbacks", "dspy_internals/lm_calls.py"):
            assert call_on_a_loop(lm, elsewhere, "prompt", {}) == ["reply"]
            assert is_dspys_own(lm)
            assert not is_dspys_own(DummyLM([]))

    here = threading.current_thread()
    assert seen == [(here, "prompt"), (here, ["reply"])]


def test_native_calls_are_priced_by_the_table():
    """The selection of the backend says which LMs have no other source of prices."""
    with contract("backend_selection.select_backend", "dspy_internals/lm_calls.py"):
        assert is_priced_by_the_table_alone(dspy.LM("openai/x", api_base="http://127.0.0.1:1/v1"))
        assert not is_priced_by_the_table_alone(dspy.LM("openai/x", engine="litellm"))
        assert not is_priced_by_the_table_alone(dspy.LM("openai/x", headers={"a": "b"}))
        assert not is_priced_by_the_table_alone(DummyLM([]))


class TestShortSteps:
    """The steps that `acall` passes to threads: `dspy_internals/short_steps.py`."""

    @staticmethod
    def called(server: PolicyServer, model: str, calls: int) -> tuple[Any, list[int], list[int]]:
        """Calls a model on our loop; returns the last entry of the history, the steps of each call, and those in threads."""
        steps, threads = [0] * calls, [0] * calls
        number = 0

        class Noting(ShortStepsLoop):
            def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
                steps[number] += 1
                outcome = super().run_in_executor(executor, func, *args)
                threads[number] += not outcome.done()
                return outcome

        async def call() -> Any:
            nonlocal number
            lm = server.lm(model)
            for number in range(calls):  # noqa: B007 - the loop above reads it
                await lm.acall("x")
            return lm.history[-1]

        with asyncio.Runner(loop_factory=Noting) as runner:
            return runner.run(call()), steps, threads

    def test_a_call_takes_no_thread(self):
        """After the first call, the three steps run on the loop: no thread is started for them."""
        with (
            contract("acall, which passes three steps to threads", "dspy_internals/short_steps.py"),
            PolicyServer({"mine": lambda _: "x"}) as server,
        ):
            _, steps, threads = self.called(server, "mine", 2)

        assert steps == [3, 3]
        assert threads[-1] == 0

    @pytest.mark.parametrize("model", ["mine", "gpt-4o-mini"])
    def test_a_price_is_what_dspy_says(self, model):
        """The cost of a call is that of DSPy's own path, and a model without a price has none there either."""
        with (
            contract("execution._price_result", "dspy_internals/short_steps.py"),
            PolicyServer({model: lambda _: "x"}) as server,
        ):
            entry, _, _ = self.called(server, model, 2)
            lm = server.lm(model)
            lm("x")

        assert entry["cost"] == lm.history[-1]["cost"]
        assert (entry["cost"] is None) == (model == "mine")
        assert entry["cost_details"]["kind"] == lm.history[-1]["cost_details"]["kind"]
