"""Streams an RLM with `dspy.streamify`: status messages for iterations, cells and sub-calls, and outputs.

    program = dspy.streamify(rlm, stream_listeners=[OutputListener(rlm, "answer")])

Status messages work with any of DSPy's providers; subclass `StatusMessages` to change the texts.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import dspy
from dspy.streaming import StatusMessageProvider, StreamListener, StreamResponse
from pydantic_core import to_json

from dspy_rlm.concurrency.anyio_threads import Stream
from dspy_rlm.concurrency.batch_progress import Listener, batches_reported_to
from dspy_rlm.dspy_internals.streaming import ServableStatus, StatusStreamingCallback
from dspy_rlm.events import (
    ActionChosen,
    Event,
    IterationStarted,
    RunEnded,
    Sink,
    SubCallStarted,
)
from dspy_rlm.protocols.middleware import HostFunction, Wrapper
from dspy_rlm.reports.report import RunReport
from dspy_rlm.reports.text import count, summary

logger = logging.getLogger(__name__)

# The REPL's functions that call other LMs, with the unit of a batch ("" where there is only one call).
_SUB_CALLS = {
    "sub_llm": "",
    "sub_llm_batched": "prompt",
    "llm_query": "",
    "llm_query_batched": "prompt",
    "predict": "",
    "predict_batched": "row",
    "sub_rlm": "",
    "sub_rlm_batched": "row",
    "rlm_query": "",
    "rlm_query_batched": "prompt",
    "recursive_llm": "",
    "dspy": "",
}


class StatusMessages(StatusMessageProvider):
    """The status messages of an RLM. Subclass it to change them; None sends nothing.

    Any other provider may have methods of these names too; this class supplies those it lacks. `depth` is 0
    for the run itself and 1 for runs that its code starts.
    """

    def iteration_status_message(
        self, iteration: int, max_iterations: int, depth: int
    ) -> str | None:
        """Returns the message that is shown before the root LM is called for its next step."""
        return f"{_level(depth)}Iteration {iteration}/{max_iterations}: asking the LM what to do"

    def cell_status_message(self, iteration: int, code: str, depth: int) -> str | None:
        """Returns the message that is shown before a cell runs."""
        lines = count(len(code.splitlines()), "line")
        return f"{_level(depth)}Iteration {iteration}: running {lines} of code"

    def sub_call_status_message(
        self, iteration: int, name: str, calls: int, depth: int
    ) -> str | None:
        """Returns the message for a sub-call. `name` is the function, `calls` the number of LM calls."""
        many = _SUB_CALLS.get(name)
        how_many = f", {count(calls, many)}" if many else ""
        return f"{_level(depth)}Iteration {iteration}: {name}{how_many}"

    def run_end_status_message(self, report: RunReport, depth: int) -> str | None:
        """Returns the message that is shown after the run."""
        return f"{_level(depth)}{summary(report)}"

    def tool_end_status_message(self, outputs: Any) -> str | None:
        """Returns None: DSPy's text says that the LM is called next, but here the cell continues."""
        return None


def _level(depth: int) -> str:
    return f"Sub-run at depth {depth}. " if depth else ""


class OutputListener(StreamListener):
    """Listens to an output of an RLM, which arrives as one chunk when it is submitted.

    If the turns are used up and the output is extracted instead, it arrives in chunks, as the LM writes it.
    """

    def __init__(self, rlm: dspy.Module, name: str, *, allow_reuse: bool = False) -> None:
        """Listens to the output `name` of `rlm`, which may be a part of the streamed program.

        Raises:
            ValueError: It has no such output.
        """
        outputs = rlm.signature.output_fields
        if name not in outputs:
            raise ValueError(
                f"The RLM has no output {name!r} to listen to. It has: {', '.join(outputs)}."
            )
        super().__init__(name, predict=rlm, predict_name="rlm", allow_reuse=allow_reuse)


def streaming_sink(rlm: dspy.Module, stream: Stream, depth: int) -> Sink:
    """Returns a sink that sends the events of a run to the stream."""
    provider = next(
        (
            callback.status_message_provider
            for callback in dspy.settings.callbacks
            if isinstance(callback, StatusStreamingCallback)
        ),
        None,
    )
    listeners = output_listeners(rlm)

    def sink(event: Event) -> None:
        if isinstance(event, RunEnded) and event.report.status == "submitted":
            for listener in listeners:
                stream.send(
                    _single_chunk(listener, (event.outputs or {})[listener.signature_field_name])
                )
        if text := _text(provider, event, depth):
            stream.send(ServableStatus(text))

    return sink


def output_listeners(rlm: dspy.Module) -> list[StreamListener]:
    """Returns the running program's listeners to outputs of this RLM."""
    return [
        listener
        for listener in dspy.settings.stream_listeners or ()
        if listener.predict is rlm and listener.signature_field_name in rlm.signature.output_fields
    ]


def _single_chunk(listener: StreamListener, value: Any) -> StreamResponse:
    """Returns an output as a single, final chunk, and marks the listener as done."""
    listener.stream_start = listener.stream_end = True
    text = value if isinstance(value, str) else _json(value)
    return StreamResponse(listener.predict_name, listener.signature_field_name, text, True)


def _json(value: Any) -> str:
    return to_json(value, fallback=str, bytes_mode="base64", serialize_unknown=True).decode()


def extract_settings(rlm: dspy.Module) -> Mapping[str, Any]:
    """Returns DSPy's settings for the call that extracts outputs, so that its listeners get the chunks."""
    if not output_listeners(rlm):
        return {}
    return {"send_stream": dspy.settings.send_stream, "caller_predict": rlm}


def _text(provider: Any, event: Event, depth: int) -> str | None:
    """Returns the provider's message for an event. As in DSPy, a provider that fails is logged and skipped."""
    name: str
    arguments: tuple[Any, ...]
    match event:
        case IterationStarted(number, most):
            name, arguments = "iteration", (number, most)
        case ActionChosen(number, _, code, True):
            name, arguments = "cell", (number, code)
        case SubCallStarted(number, called, calls):
            name, arguments = "sub_call", (number, called, calls)
        case RunEnded(report):
            name, arguments = "run_end", (report,)
        case _:
            return None
    method = f"{name}_status_message"
    message = getattr(provider, method, None) or getattr(_DEFAULT, method)
    try:
        text: str | None = message(*arguments, depth)
    except Exception as error:  # noqa: BLE001 - a provider may raise anything, and must not end the run
        logger.warning("The status message provider failed in %s: %s", method, error)
        return None
    return text


_DEFAULT = StatusMessages()


def announce_sub_calls(tell: Callable[[str, int], Listener], names: Collection[str]) -> Wrapper:
    """Wraps the REPL's functions that call other LMs so that each announces its name and number of calls.

    Args:
        tell: Gets the name and the number, before the call, and returns a listener for the progress of a batch.
        names: The REPL's own names; one of the user's tools may have the same name.
    """

    def wrap(name: str, function: HostFunction) -> HostFunction:
        if name not in _SUB_CALLS or name not in names:
            return function

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            listener = tell(_full_name(name, args), _how_many(name, args, kwargs))
            with batches_reported_to(listener):
                return function(*args, **kwargs)

        return call

    return wrap


def on_stream(stream: Stream) -> Wrapper:
    """Wraps functions so that they run where DSPy can send to the stream."""
    return lambda _name, function: stream.reachable(function)


def _full_name(name: str, args: Sequence[Any]) -> str:
    """Returns the name; for `import dspy` with that of the module, which comes from the cell."""
    kind = args[0] if name == "dspy" and args else None
    return f"dspy.{kind[:30]}" if isinstance(kind, str) and kind.isidentifier() else name


def _how_many(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    has_signature = name in ("predict_batched", "sub_rlm_batched")
    arguments = [*args[has_signature:], *kwargs.values()]
    batch = arguments[0] if _SUB_CALLS[name] and arguments else None
    return len(batch) if isinstance(batch, (list, tuple)) else 1
