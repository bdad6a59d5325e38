"""Servers that lie about what they take, and prompts that cost more than their text: the limits of a run hold."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator

import anyio
import dspy
import pytest

from dspy_rlm import RLM
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.budget.prices import described
from dspy_rlm.budget.token_bounds import prompt_of
from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.lms.call_readings import MOST_TOKENS
from dspy_rlm.lms.meter import Meter
from dspy_rlm.lms.metering import metered
from dspy_rlm.testing import Action, PolicyServer, scripted

TEXT = "word " * 200


@contextlib.contextmanager
def liar(body: Callable[[dict], tuple[str, bytes]]) -> Iterator[tuple[dspy.LM, list[dict]]]:
    """Serves replies as they are written; yields an LM of the server, and the requests."""
    seen: list[dict] = []

    class Lying(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            kind, content = body(seen[-1])
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lying) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/v1"
            yield (
                dspy.LM("openai/liar", api_base=url, api_key="none", cache=False, num_retries=0),
                seen,
            )
        finally:
            server.shutdown()
            thread.join()


def reply(usage: str, text: str = TEXT) -> tuple[str, bytes]:
    """A whole reply with a usage that may be no valid JSON."""
    message = json.dumps({"role": "assistant", "content": text})
    choice = f'{{"index": 0, "finish_reason": "stop", "message": {message}}}'
    parts = [
        '"id": "x", "object": "chat.completion", "created": 1, "model": "liar"',
        f'"choices": [{choice}]',
    ]
    parts += [f'"usage": {usage}'] if usage else []
    return "application/json", f"{{{', '.join(parts)}}}".encode()


def counts(prompt: object, completion: object, more: str = "") -> str:
    return f'{{"prompt_tokens": {prompt}, "completion_tokens": {completion}{more}}}'


# What a server says that its reply took.
USAGES = {
    "nothing": "",
    "none": "null",
    "an empty list": "[]",
    "a text": '"none"',
    "zero": counts(0, 0),
    "zero of the prompt": counts(0, 5),
    "less than zero": counts(-5_000, -5_000),
    "less than zero of one kind": counts(5, -5_000_000),
    "no number": counts("NaN", "NaN"),
    "infinity": counts("Infinity", "1e999"),
    "fractions": counts(10.5, 3.5),
    "texts": counts('"12"', '"x"'),
    "truths": counts("true", "true"),
    "400 digits": counts("9" * 400, 1),
    "30 digits": counts(1, "9" * 30),
    "cached tokens below zero": counts(
        5, 5, ', "prompt_tokens_details": {"cached_tokens": -1000000}'
    ),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES)
def test_a_usage_that_is_none(usage):
    """Calls count at their bound by bytes: a run with such a server ends within its limit, and never with another error."""
    ledger = Ledger(Budget(max_tokens=20_000))
    with liar(lambda _: reply(usage)) as (lm, seen):
        lm = metered(lm, Meter(ledger, "a", 0))
        for number in range(60):
            try:
                lm(f"question {number} {TEXT}")
            except BudgetExceededError:
                break
            except dspy.LMError:
                continue  # the usage cannot be read; the call may have been charged

    # 200 words are more than 200 tokens, of the prompt and of the reply, in any tokenizer.
    assert len(seen) * 400 <= 20_000
    assert ledger.left()["tokens"] < 20_000 - 400


def test_a_count_that_no_call_has_is_no_price():
    """A number that does not fit into a float is no reason to lose the answer."""
    ledger = Ledger(Budget(max_cost=5.0, prices={"liar": (1.0, 1.0)}))
    with liar(lambda _: reply(counts(MOST_TOKENS + 1, "9" * 400))) as (lm, _):
        lm = metered(lm, Meter(ledger, "a", 0))
        assert lm("?") == [TEXT.strip()] or lm.reply
        with pytest.raises(BudgetExceededError, match="report the tokens of each reply"):
            lm("?")


@pytest.mark.parametrize(
    ("usage", "price", "sent"), [(counts(0, 0), 1.0, 1), (counts(0, 0), 0.0, 5)]
)
def test_a_server_that_counts_nothing_keeps_no_limit_in_dollars(usage, price, sent):
    """With a price, the next call is refused; where tokens are free, as of a local server, there is nothing to count."""
    ledger = Ledger(Budget(max_cost=5.0, prices={"liar": (price, price)}))
    with liar(lambda _: reply(usage)) as (lm, seen), contextlib.suppress(BudgetExceededError):
        lm = metered(lm, Meter(ledger, "a", 0))
        for _ in range(5):
            lm("?")

    assert len(seen) == sent


def test_a_stream_that_ends_with_an_error_is_paid_for():
    """The parts that came before a server's error were computed, and count at the bound of the call."""
    events = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "word " * 50}}]},
        {"error": {"message": "overloaded", "type": "server_error", "code": "500"}},
    ]
    body = "".join(f"data: {json.dumps({'id': 'x', 'model': 'liar', **one})}\n\n" for one in events)
    ledger = Ledger(Budget(max_tokens=20_000))

    async def main(lm: dspy.LM) -> None:
        sending, reading = anyio.create_memory_object_stream[object](100)
        with sending, reading, dspy.context(send_stream=sending), pytest.raises(dspy.LMError):
            await metered(lm, Meter(ledger, "action", 0, charged=False)).acall(
                TEXT, max_tokens=1_000
            )

    with liar(lambda _: ("text/event-stream", body.encode())) as (lm, seen):
        anyio.run(main, lm)

    assert [request.get("stream") for request in seen] == [True]
    assert ledger.left()["tokens"] <= 20_000 - 1_000


DOCUMENTS = {
    "a document of empty pages": dspy.File(file_data="data:application/pdf;base64,JVBERi0=", filename="a.pdf").format()[0],
    "a file by its id": dspy.File(file_id="file-123").format()[0],
    "a document by its address": {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}},
    "a text by its address": {"type": "document", "data": "data:text/plain,", "url": "https://a/b.txt"},
    "sound by its address": {"type": "audio", "url": "https://a/b.mp3"},
    "a video": {"type": "video_url", "video_url": {"url": "https://a/b.mp4"}},
    "an image by its address": dspy.Image("https://a/b.png").format()[0],
}  # fmt: skip


@pytest.mark.parametrize("part", DOCUMENTS.values(), ids=DOCUMENTS)
def test_what_is_more_than_its_bytes(part):
    """A part that names its content, or has it in few bytes, counts as the most that a provider takes for one."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "?"}, part]}]

    assert prompt_of(None, {"messages": messages}).bytes > 50_000


@pytest.mark.parametrize(
    "part",
    [
        dspy.File(file_data="data:text/plain;base64,AAAA", filename="a.txt").format()[0],
        dspy.Audio(data="AAAA", audio_format="wav").format()[0],
    ],
    ids=["a text", "sound"],
)
def test_what_is_here_counts_by_its_bytes(part):
    """A text and a sound that are in the prompt have a bound of their own."""
    messages = [{"role": "user", "content": [part]}]

    assert prompt_of(None, {"messages": messages}).bytes < 1_000


@pytest.mark.parametrize(
    "limits",
    [
        {"max_cost": float("nan")}, {"max_cost": float("inf")}, {"max_cost": -1}, {"max_cost": True},
        {"max_cost": 10**400}, {"max_tokens": float("nan")}, {"max_tokens": -1}, {"max_tokens": True},
        {"prices": {"m": (-1, 1)}}, {"prices": {"m": (float("nan"), 1)}}, {"prices": {"m": (1, float("inf"))}},
        {"prices": {"m": (10**400, 1)}}, {"prices": {"m": (True, 1)}},
    ],
    ids=str,
)  # fmt: skip
def test_limits_and_prices_that_are_none(limits):
    """Not a number, infinity and amounts below zero limit nothing, so the constructor refuses them."""
    with pytest.raises(ValueError, match="must be"):
        RLM("q -> a", **limits)


@pytest.mark.parametrize(
    ("fallbacks", "dearest"),
    [
        ([], "openai/gpt-4o-mini"),
        (["openai/o1"], "openai/o1"),
        ([{"model": "openai/o1"}, "openai/gpt-4o-mini"], "openai/o1"),
        (["openai/nobody-knows"], None),
    ],
)
def test_a_call_may_have_the_price_of_a_model_that_stands_in(fallbacks, dearest):
    """LiteLLM asks its `fallbacks` when a model fails: the bound of a call is that of the dearest, if all are known."""
    found = described(dspy.LM("openai/gpt-4o-mini", fallbacks=fallbacks, engine="litellm"))
    wanted = described(dspy.LM(dearest)).price(1_000, {}) if dearest else None

    assert found.price(1_000, {}) == wanted
    assert dearest is None or wanted is not None


OPTIONS = [
    "model='openai/o1-pro'", "api_base='http://127.0.0.1:9/v1'", "n=50", "fallbacks=['openai/o1-pro']", "cache=True",
    "base_url='http://127.0.0.1:9'", "service_tier='priority'", "rollout_id=7", "api_key='x'", "max_tokens=10**9",
    "extra_body={'n': 50}", "logprobs=True", "num_retries=1000", "headers={'x': 'y'}",
]  # fmt: skip


def test_a_cell_chooses_no_other_price(play):
    """Neither options of a call nor of DSPy's modules lead to another model, server, number of replies or cache."""
    code = "\n".join(
        f"try: predict('q -> b', q='x', {option})\nexcept Exception as e: print(type(e).__name__)\n"
        f"try: dspy.Predict('q -> b', {option})(q='x')\nexcept Exception as e: print(type(e).__name__)"
        for option in OPTIONS
    )
    rlm, server = play(
        "q -> answer", f"import dspy\n{code}\nSUBMIT('x')", sub=lambda _: "x", max_llm_calls=50
    )
    rlm(q="?")

    bodies = [request.request for request in server.requests_to("sub")]
    assert {request.candidates for request in bodies} <= {1}
    assert {exchange.model for exchange in server.requests} <= {"root", "sub"}


def test_a_copy_of_a_program_has_a_budget_of_its_own(kept):
    """An optimizer's copies share neither what is spent nor what is left, so that none runs on another's account."""
    root = scripted(Action("", "SUBMIT(sub_llm('x'))"))
    with (
        PolicyServer({"root": root, "sub": lambda _: "x"}) as server,
        dspy.context(lm=server.lm("root")),
    ):
        rlm = RLM("q -> a", sub_lm=server.lm("sub"), max_llm_calls=1, pool=kept)
        copies = [rlm.deepcopy(), rlm.reset_copy(), rlm]
        runs = [one(q=str(number)).run for number, one in enumerate(copies)]

    assert [run.llm_calls for run in runs] == [1, 1, 1]
