"""The policy server: OpenAI's chat API on a local port, played by Python functions.

It lets a program reach its LMs through `dspy.LM` and real HTTP without a language model. Owns the
models' names, the log of exchanges and the planned faults; `listener.py` owns the sockets.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import dspy

from dspy_rlm.limiting.limiter import LIMITERS
from dspy_rlm.testing import chat
from dspy_rlm.testing.chat import ChatRequest, InvalidRequestError, Message
from dspy_rlm.testing.faults import Fault, FaultPlan
from dspy_rlm.testing.listener import Answer, Dropped, Listener, Streamed, Whole
from dspy_rlm.testing.players import Player

# dspy.LM requires a key. This one gives no access to anything.
DUMMY_API_KEY = "policy-server-needs-no-key"


@dataclass(frozen=True)
class Exchange:
    """One request and its outcome."""

    request: ChatRequest | None
    """The request; None when it was malformed."""

    reply: str | None
    """The player's text; None when no player answered."""

    status: int | None
    """The HTTP status sent; None when the connection was dropped without one."""

    error: str | None
    """The error, if there was one: a player's exception, a refusal or a fault."""

    fault: Fault | None
    """The fault that was injected."""

    started: float
    """The time at which the request was read, in seconds since the epoch."""

    seconds: float
    """The time to compute the answer, with delays and without sending it."""

    @property
    def model(self) -> str:
        """The requested model; "" when the request was malformed."""
        return self.request.model if self.request else ""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages of the request; empty when it was malformed."""
        return self.request.messages if self.request else ()

    @property
    def prompt(self) -> str:
        """The text of the last user message; "" when the request was malformed."""
        return self.request.prompt if self.request else ""


class PolicyServer:
    """Plays models by name for any OpenAI-compatible client, from construction until `close`.

    Token counts in its replies are estimates (see `chat.estimate_tokens`) for programs that read them; draw
    no conclusions about cost or accuracy. Thread-safe; players are called from many threads at once.
    """

    def __init__(
        self,
        models: Mapping[str, Player],
        *,
        faults: Mapping[str, Fault | Sequence[Fault]] | None = None,
        port: int = 0,
    ) -> None:
        """Start serving.

        Args:
            models: The player of each model name, e.g. `{"root": policy(find)}`. Names of real
                models make DSPy report their prices; prefer others.
            faults: The faults from the start, as for `fail`.
            port: The port on 127.0.0.1; 0 for a free one.
        """
        self._models = dict(models)
        self._plan = FaultPlan()
        for model, planned in (faults or {}).items():
            self.fail(model, *([planned] if isinstance(planned, Fault) else planned))
        self._lock = threading.Lock()  # guards _exchanges
        self._exchanges: list[tuple[int, Exchange]] = []
        self._arrivals = itertools.count(1)
        self._closing = threading.Event()
        self._close_lock = threading.Lock()  # allows one thread at a time to close
        self._listener = Listener(self._get, self._post, port)
        LIMITERS.forget(self.base_url)  # what was learned of an earlier server at this port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The base URL for OpenAI clients, e.g. `http://127.0.0.1:40123/v1`."""
        return f"http://127.0.0.1:{self._listener.port}/v1"

    @property
    def requests(self) -> list[Exchange]:
        """Every exchange so far, in the order in which the requests arrived.

        An exchange is added before its reply is sent, so a client that has its answer finds it.
        """
        with self._lock:
            return [exchange for _, exchange in sorted(self._exchanges, key=lambda pair: pair[0])]

    def requests_to(self, model: str) -> list[Exchange]:
        """Returns the exchanges with `model`."""
        return [exchange for exchange in self.requests if exchange.model == model]

    def fail(self, model: str, *faults: Fault) -> None:
        """Inject faults into requests to `model`, one after the other.

        Raises:
            ValueError: There is no such model.
        """
        if model not in self._models:
            raise ValueError(f"Cannot fail {model!r}: {self._no_such_model(model)}")
        for fault in faults:
            self._plan.add(model, fault)

    def lm(self, name: str, *, cache: bool = False, num_retries: int = 0, **kwargs: Any) -> dspy.LM:
        """Returns a `dspy.LM` for this server's model `name`.

        It has no cache and no retries by default, so that one call is one request. `kwargs` are passed to
        `dspy.LM`.
        """
        options = {"api_base": self.base_url, "api_key": DUMMY_API_KEY, **kwargs}
        return dspy.LM(f"openai/{name}", cache=cache, num_retries=num_retries, **options)

    def close(self) -> None:
        """Stop serving, close every connection and end every thread. Idempotent; never blocks forever.

        A player that does not return within `listener.CLOSE_SECONDS` keeps its daemon thread.
        """
        self._closing.set()
        with self._close_lock:
            self._listener.close()

    def _get(self, path: str) -> Answer:
        if path.partition("?")[0] != "/v1/models":
            return _refusal(404, f"There is no GET {path}.", "unknown_url")
        return Whole(200, chat.write_models(self._models))

    def _post(self, path: str, body: bytes) -> Answer:
        if path.partition("?")[0] != "/v1/chat/completions":
            return _refusal(404, f"There is no POST {path}.", "unknown_url")
        turn = _Turn(next(self._arrivals))
        try:
            answer = self._complete(turn, body)
        # Players and predicates are the user's code. An exception in a thread of the server would be lost,
        # and the client must get an answer.
        except BaseException as error:  # noqa: BLE001
            answer = turn.refuse(500, f"{type(error).__name__}: {error}", "player_error")
        with self._lock:
            self._exchanges.append((turn.number, turn.exchange(answer)))
        return answer

    def _complete(self, turn: _Turn, body: bytes) -> Answer:
        try:
            turn.request = request = chat.read_request(body)
        except InvalidRequestError as error:
            return turn.refuse(400, str(error), "invalid_request")
        if request.model not in self._models:
            return turn.refuse(404, self._no_such_model(request.model), "model_not_found")
        turn.fault = self._plan.take(request)
        if turn.fault is not None:
            return self._go_wrong(turn, request, turn.fault)
        return self._play(turn, request)

    def _go_wrong(self, turn: _Turn, request: ChatRequest, fault: Fault) -> Answer:
        if self._closing.wait(fault.delay_seconds):
            turn.error = "The server was closed during a fault's delay."
            return Dropped()
        if fault.status is not None:
            answer = turn.refuse(fault.status, fault.message, "fault", fault.retry_after_seconds)
            return answer if fault.body is None else replace(answer, body=fault.body.encode())
        if fault.drop_connection:
            turn.error = "The connection was dropped on purpose."
            return Dropped()
        if fault.malformed_body:
            turn.error = "The body was malformed on purpose."
            return _malformed_body(request)
        if fault.cut_off:
            turn.error = "The reply was cut off on purpose."
        return self._play(turn, request, cut_off=fault.cut_off)

    def _play(self, turn: _Turn, request: ChatRequest, *, cut_off: bool = False) -> Answer:
        reply = self._models[request.model](request)
        if not isinstance(reply, str):
            raise TypeError(f"The player gave {type(reply).__name__}, not text.")
        turn.reply = reply
        number, created = turn.number, int(turn.started)
        if request.stream:
            events = chat.write_events(request, reply, number=number, created=created)
            return Streamed(events, cut_off)
        body = chat.write_completion(request, reply, number=number, created=created)
        cost = getattr(reply, "cost", None)
        headers = {} if cost is None else {"x-litellm-response-cost": f"{cost}"}
        return Whole(200, body, headers, cut_off=cut_off)

    def _no_such_model(self, model: str) -> str:
        names = ", ".join(sorted(self._models)) or "none"
        return f"The model {model!r} does not exist. Models here: {names}."


class _Turn:
    """The state of an exchange while its answer is computed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.started = time.time()
        self.request: ChatRequest | None = None
        self.reply: str | None = None
        self.error: str | None = None
        self.fault: Fault | None = None
        self._clock = time.perf_counter()

    def refuse(
        self, status: int, message: str, code: str, retry_after_seconds: float | None = None
    ) -> Whole:
        """Records an error and returns its answer."""
        self.error = message
        return _refusal(status, message, code, retry_after_seconds)

    def exchange(self, answer: Answer) -> Exchange:
        """Returns the record of the finished exchange."""
        match answer:
            case Dropped():
                status = None
            case Streamed():
                status = 200
            case Whole():
                status = answer.status
        return Exchange(
            request=self.request,
            reply=self.reply,
            status=status,
            error=self.error,
            fault=self.fault,
            started=self.started,
            seconds=time.perf_counter() - self._clock,
        )


def _refusal(
    status: int, message: str, code: str, retry_after_seconds: float | None = None
) -> Whole:
    headers = {} if retry_after_seconds is None else {"Retry-After": f"{retry_after_seconds:g}"}
    return Whole(status, chat.write_error(status, message, code), headers)


def _malformed_body(request: ChatRequest) -> Answer:
    if request.stream:
        return Streamed((b'data: {"choices": [\n\n', b"data: [DONE]\n\n"))
    return Whole(200, b'{"choices": [')
