"""Tokens and dollars of whole runs: the limits are never passed, whatever a cell asks for."""

from __future__ import annotations

import asyncio
import random
import threading

import dspy
import pytest
from dspy.utils.exceptions import LMError

from dspy_rlm import RLM, RunFailedError
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.concurrency.cancellation import CancelScope
from dspy_rlm.errors import BudgetExceededError, RunEndedError
from dspy_rlm.lms.meter import Meter
from dspy_rlm.lms.metering import metered
from dspy_rlm.testing import (
    Action,
    Counted,
    Fault,
    PolicyServer,
    asks_for,
    fields,
    route,
    rules,
    scripted,
)

# Dollars for a million tokens; a token of a prompt is one of a hundred thousand to the dollar.
PRICES = {"sub": (10, 40), "root": (0, 0)}

DENSE = "\U0001f600"


def outputs(prediction):
    return [step["output"] for step in prediction.trajectory]


class Books:
    """A player that replies as long as allowed and records the actual usage."""

    def __init__(self, text="x", *, tokens=None, input_tokens=10, released=None):
        self.text, self.wants, self.input_tokens = text, tokens, input_tokens
        self.tokens = self.cost = 0
        self.limits: list[int | None] = []
        self.released = released or (lambda: None)
        self._lock = threading.Lock()

    def __call__(self, request):
        return self.answer(request, self.wants, self.input_tokens)

    def answer(self, request, wants, input_tokens):
        """Builds the reply to a request, with this many tokens where allowed."""
        self.released()
        most = request.most_tokens
        wants = wants or most or 1
        count = min(wants, most or wants) * request.candidates
        with self._lock:
            self.limits.append(most)
            self.tokens += input_tokens + count
            self.cost += (input_tokens * 10 + count * 40) / 1e6
        reason = "length" if most is not None and wants > most else "stop"
        return Counted(self.text, input_tokens, count, reason)


class TestWhatACellAsksFor:
    @pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
    def test_a_first_batch_of_an_unknown_price_sends_one(self, play):
        """An unknown price is learned from one call, not from sixteen."""
        rlm, server = play(
            "q -> a",
            "print(sub_llm_batched([str(n) for n in range(16)]))",
            "SUBMIT('x')",
            sub=rules([], default="yes"),
            max_cost=0.5,
            prices={"root": (0, 0)},
        )

        class Own(dspy.LM):
            """An LM that may have prices of its own, so that it is asked."""

            def forward(self, *args, **options):
                return super().forward(*args, **options)

        rlm.sub_lm = Own("openai/sub", api_base=server.base_url, api_key="none", cache=False)
        with pytest.raises(RunFailedError, match="price of 'openai/sub' is not known"):
            rlm(q="")

        assert len(server.requests_to("sub")) == 1

    def test_a_batch_of_a_known_price_is_sent_at_once(self, play):
        """If the upper bounds of all items fit, none of them waits."""
        together = threading.Barrier(16, timeout=60)
        rlm, server = play(
            "q -> a: list",
            "SUBMIT(sub_llm_batched([str(n) for n in range(16)]))",
            sub=Books("yes", tokens=3, released=together.wait),
            max_cost=30,
            prices=PRICES,
        )
        result = rlm(q="")

        assert result.a == ["yes"] * 16
        assert result.run.cost == pytest.approx(16 * (10 * 10 + 3 * 40) / 1e6)
        assert len(server.requests_to("sub")) == 16

    @pytest.mark.parametrize("limit", [{"max_cost": 0.5}, {"max_tokens": 30_000}])
    def test_long_replies_are_let_have_what_is_left(self, play, limit):
        """Long replies may use the remaining budget, together with `max_tokens` and other options of a cell."""
        books = Books('[[ ## b ## ]]\n"x"')
        rlm, _ = play(
            "q -> a: str",
            "import dspy\n"
            "for effort in ('high', 'low'):\n"
            "    try:\n"
            "        dspy.Predict('a -> b', max_tokens=1_000_000, reasoning_effort=effort)(a='')\n"
            "    except RuntimeError as error: print(error)",
            "SUBMIT('on')",
            sub=books,
            extracted={"a": "x"},
            prices=PRICES,
            **limit,
        )
        rlm(q="")

        assert 0 < books.cost <= limit.get("max_cost", 1e9)
        assert 0 < books.tokens <= limit.get("max_tokens", 1e9)
        assert all(most < 1_000_000 for most in books.limits)

    def test_dense_text_is_refused_before_it_is_sent(self, play):
        """Dense text, with up to four tokens per character, is refused before it is sent."""
        rlm, server = play(
            "q -> a: str",
            f"sub_llm({DENSE!r} * 5_000)",
            "SUBMIT(sub_llm('short'))",
            sub=Books("ok", tokens=1),
            max_tokens=16_000,
        )
        result = rlm(q="")

        assert "(max_tokens), and up to" in outputs(result)[0]
        assert [exchange.prompt for exchange in server.requests_to("sub")] == ["short"]

    @pytest.mark.parametrize(
        "option",
        [
            "max_tokens='9'",
            "max_tokens=-1",
            "max_tokens=True",
            "temperature='hot'",
            "seed=2**70",
            "stop=['x'] * 99",
            "stop='x' * 10_000",
            "reasoning_effort='x' * 10_000",
            "reasoning_effort={'budget': 10**9}",
        ],
    )
    def test_options_have_the_types_that_they_have(self, play, option):
        """An option with a value that no estimate can count is refused by name."""
        rlm, server = play(
            "q -> a", f"import dspy\ndspy.Predict('a -> b', {option})(a='')", "SUBMIT('')"
        )
        name = option.partition("=")[0]

        assert f" as {name}, not " in outputs(rlm(q=""))[0]
        assert not server.requests_to("sub")

    def test_candidates_of_the_lm_count(self, play):
        """Each of `n` candidates is charged."""
        books = Books("x")
        rlm, _ = play(
            "q -> a",
            "sub_llm('?')",
            "SUBMIT('')",
            sub=books,
            extracted={"a": "x"},
            max_tokens=9_000,
        )
        rlm.sub_lm = rlm.sub_lm.copy(n=4)
        rlm(q="")

        assert 0 < books.tokens <= 9_000 - 1_000  # what the root LM took besides


class TestReplies:
    def test_a_reply_that_was_cut_is_asked_for_once_more(self, play):
        """A truncated reply is requested once more, and never returned to the code."""
        books = Books("long", tokens=20_000)
        rlm, _server = play("q -> a: str", "SUBMIT(sub_llm('?'))", sub=books, max_tokens=200_000)
        result = rlm(q="")

        assert result.a == "long"
        assert books.limits == [8192, 65_536]
        assert [call.output_tokens for call in result.run.sub_calls] == [8192, 20_000]
        assert result.run.llm_calls == 1

    @pytest.mark.parametrize("limits", [{"max_tokens": 2_000_000}, {"max_cost": 50}])
    @pytest.mark.parametrize(
        ("tokens", "asked"),
        [(4096, [8192]), (8192, [8192, 65_536]), (65_536, [8192, 65_536])],
        ids=["below the first limit", "at the first limit", "at the longest"],
    )
    def test_a_server_that_cuts_by_itself_is_not_asked_for_ever(self, play, limits, tokens, asked):
        """Its limit is no matter of the budget: the answer is passed on, marked as cut, for one charged call."""
        seen = []

        def stubborn(request):
            seen.append(request.most_tokens)
            return Counted("part", 10, min(tokens, request.most_tokens), "length")

        rlm, _server = play(
            "q -> a: bool",
            "answer = sub_llm('?')\nSUBMIT(answer.cut and answer.text == 'part')",
            sub=stubborn,
            max_llm_calls=1,
            prices=PRICES,
            **limits,
        )
        result = rlm(q="")

        assert result.a is True
        assert seen == asked
        assert result.run.llm_calls == 1

    def test_a_turn_that_is_always_cut_ends(self, play):
        """The root LM's reply is taken as it is, too."""

        def stubborn(request):
            reply = "[[ ## reasoning ## ]]\nr\n\n[[ ## code ## ]]\n```python\nSUBMIT('done')\n```\n\n[[ ## completed ## ]]"
            return Counted(reply, 10, request.most_tokens, "length")

        rlm, server = play("q -> a", stubborn, max_tokens=2_000_000)

        assert rlm(q="").a == "done"
        assert len(server.requests) == 2

    def test_where_there_is_no_room_for_it_the_code_is_told(self, play):
        """Without room for a retry the code gets an error, not a truncated answer."""
        rlm, _server = play(
            "q -> a: str",
            "sub_llm('?')",
            "SUBMIT('on')",
            sub=Books("long", tokens=20_000),
            max_tokens=16_000,
        )
        result = rlm(q="")

        assert "The reply was cut after" in outputs(result)[0]
        assert result.a == "on"

    def test_an_lm_with_a_limit_of_its_own_keeps_it(self, play):
        """An LM with its own `max_tokens` keeps it, so the request and its cache entry are unchanged."""
        books = Books("x", tokens=5)
        rlm, _ = play("q -> a", "SUBMIT(sub_llm('?'))", sub=books, max_tokens=100_000)
        rlm.sub_lm = rlm.sub_lm.copy(max_tokens=500)
        rlm(q="")

        assert books.limits == [500]

    def test_without_limits_nothing_is_added(self, play):
        """Without limits, a request gets no bound and no second attempt."""
        books = Books("x", tokens=50_000)
        rlm, _ = play("q -> a", "SUBMIT(sub_llm('?'))", sub=books)
        rlm(q="")

        assert books.limits == [None]


class TestEnds:
    def test_a_history_that_does_not_fit_is_shortened_for_the_extraction(self, play):
        """Dense outputs are shortened for the extraction, and the limit is kept."""
        rlm, server = play(
            "q -> a",
            f"print({DENSE!r} * 6_000)",
            extracted={"a": "found"},
            max_tokens=20_000,
        )
        result = rlm(q="")

        assert (result.a, result.run.stopped_by) == ("found", "max_tokens")
        assert "characters omitted" in server.requests[-1].prompt

    @pytest.mark.parametrize("how", ["sync", "async"])
    def test_calls_under_way_at_the_end_are_not_free(self, play, how):
        """The cost of calls in flight is unknown, but its upper bound is known."""
        submitted = threading.Event()
        rlm, _server = play(
            "q -> a",
            "import asyncio\n"
            "calls = [asyncio.ensure_future(sub_llm.aio(str(n))) for n in range(3)]\n"
            "while begun() < 3: await asyncio.sleep(0.01)\n"
            "SUBMIT('')",
            sub=Books("x", tokens=100, released=lambda: (begun.append(1), submitted.wait(60))),
            tools={"begun": lambda: len(begun)},
            max_cost=10,
            prices=PRICES,
        )
        begun: list[int] = []
        run = (rlm(q="") if how == "sync" else asyncio.run(rlm.acall(q=""))).run
        submitted.set()

        assert run.cost is None
        assert run.cost_at_most >= 3 * (10 * 10 + 100 * 40) / 1e6
        assert run.cost_at_most <= 10
        calls = [*run.sub_calls, *run.under_way]
        assert len(calls) == 3
        assert {call.cost for call in calls} == {None}
        assert next(u.calls for u in run.usage if u.model == "openai/sub") == 3
        assert run.dump()["cost_at_most"] == run.cost_at_most


class TestHosts:
    """Operations that take resources of the host are charged as a call, or refused."""

    def test_a_sub_run_without_a_call_left_opens_nothing(self, play):
        """Without a call left, a sub-run opens no sandbox and runs no setup code."""
        begun = []
        rlm, _ = play(
            "q -> a: list",
            "told = []\n"
            "for _ in range(4):\n"
            "    try: sub_rlm('q -> n: int', q=q, setup='note()')\n"
            "    except RuntimeError as error: told.append(str(error))\n"
            "SUBMIT(told)",
            tools={"note": lambda: begun.append(1)},
            max_llm_calls=0,
        )
        result = rlm(q="")

        assert len(result.a) == 4
        assert all("0 of 0 left (max_llm_calls)" in line for line in result.a)
        assert not begun

    def test_each_sandbox_is_charged(self, play):
        """Each sandbox is charged, even if its setup fails, so that calls bound their number."""
        begun = []
        rlm, server = play(
            "q -> a: list",
            "told = []\n"
            "for _ in range(4):\n"
            "    try: sub_rlm('q -> n: int', q=q, setup='note(); 1/0')\n"
            "    except Exception as error: told.append(type(error).__name__)\n"
            "SUBMIT(told)",
            tools={"note": lambda: begun.append(1)},
            max_llm_calls=2,
        )
        result = rlm(q="")

        assert result.a == ["SubCallError"] * 2 + ["BudgetExceededError"] * 2
        assert (len(begun), result.run.llm_calls) == (2, 2)
        assert not server.requests_to("sub")

    def test_the_first_turn_of_a_sub_run_is_paid_with_it(self, play):
        """The sandbox and the first turn of a sub-run are charged together as one call."""
        rlm, _ = play(
            "q -> n: int",
            "SUBMIT(sub_rlm('q -> n: int', q=q).n)",
            sub=scripted(Action("", "SUBMIT(3)")),
            max_llm_calls=1,
        )
        result = rlm(q="")

        assert (result.n, result.run.llm_calls) == (3, 1)

    def test_rows_that_were_never_begun_are_given_back(self, play):
        """Unsent rows are refunded however a batch ends, including one that failed before it was sent."""
        rlm, _ = play(
            "q -> a: dict",
            "rows = predict_batched('n: int -> b', [{'n': 'no number'}] * 1 + [{'m': 1}])\n"
            "SUBMIT(BUDGET())",
            max_llm_calls=7,
        )

        assert rlm(q="").a["llm_calls"] == 7


class TestTries:
    """Every request is charged, including retries."""

    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize("fault", [{"drop_connection": True}, {"malformed_body": True}])
    def test_an_answer_that_got_lost_counts_at_its_bound(self, fault, asynchronous):
        """A lost answer counts at its upper bound, since its server may have charged for it."""
        ledger = Ledger(Budget(max_tokens=100_000))
        with PolicyServer({"lm": Books("x", tokens=5)}) as server:
            server.fail("lm", Fault(**fault))
            lm = metered(server.lm("lm", num_retries=1, max_tokens=1000), Meter(ledger, "a", 0))
            try:
                asyncio.run(lm.acall("x")) if asynchronous else lm("x")
            except LMError:
                assert "malformed_body" in fault  # which DSPy does not try again
            sent = len(server.requests)

        assert ledger.left()["tokens"] <= 100_000 - 1000 - 15 * (sent - 1)
        assert ledger.sub_calls()[0].input_tokens is None
        assert len(ledger.sub_calls()) == sent
        assert ledger.llm_calls == 1
        assert not ledger._queue.in_flight

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_one_that_waits_for_room_ends_with_its_run(self, asynchronous):
        """A waiting call ends with its run: it is not sent, queued or charged."""
        ledger, stop, held = (
            Ledger(Budget(max_tokens=1_000)),
            CancelScope(cancellable=True),
            threading.Event(),
        )
        books = Books("x", tokens=5, released=lambda: held.wait(60))
        ended = []
        with PolicyServer({"lm": books}) as server:
            lm = metered(server.lm("lm", max_tokens=500), Meter(ledger, "a", 0, stop))

            def ask():
                try:
                    asyncio.run(lm.acall("x")) if asynchronous else lm("x")
                except RunEndedError as error:
                    ended.append(error)

            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            while not (ledger._queue.waiting and ledger._queue.in_flight):
                threading.Event().wait(0.01)
            stop.cancel(RunEndedError("over"))
            for thread in threads:
                thread.join()
            held.set()

        assert len(ended) == 2
        assert not ledger._queue.waiting
        assert not ledger._queue.in_flight
        assert ledger.llm_calls == len(ledger.sub_calls()) == 1

    def test_what_never_left_takes_nothing(self):
        """A call that was never sent is not charged."""
        ledger = Ledger(Budget(max_tokens=10_000))
        with PolicyServer({"lm": Books()}) as server:
            lm = metered(server.lm("lm"), Meter(ledger, "a", 0))
        with pytest.raises(LMError):
            lm("x")

        assert ledger.left()["tokens"] == 10_000

    def test_an_adapter_with_an_lm_of_its_own_is_on_the_ledger(self, kept):
        """The second LM of DSPy's `TwoStepAdapter` is on the ledger, for the run and its sub-calls."""
        reads = fields(
            lambda _: {"b": "x", "reasoning": "r", "code": "SUBMIT(predict('q -> b', q=q).b)"}
        )
        with PolicyServer({"reader": reads, "root": lambda _: "Well, "}) as server:
            adapter = dspy.TwoStepAdapter(server.lm("reader"))
            with dspy.context(lm=server.lm("root"), adapter=adapter):
                result = RLM("q -> a: str", pool=kept)(q="?")
            sent = len(server.requests_to("reader"))

        assert result.a == "x"
        assert sent == 2
        assert sum(u.calls for u in result.run.usage if u.model == "openai/reader") == 2


class TestNeverPassed:
    """The server's own books stay within the limits."""

    @pytest.mark.parametrize("seed", range(6))
    def test_by_many_at_once(self, seed):
        """The limits hold under threads, event loops, several models, retries, faults, caches and cancellation."""
        dice = random.Random(seed)
        limits = (
            {"max_tokens": dice.randrange(2_000, 60_000)}
            if seed % 2
            else {"max_cost": dice.uniform(0.02, 1)}
        )
        ledger, stop = (
            Ledger(Budget(**limits, prices={"m0": (10, 40), "m1": (10, 40)})),
            CancelScope(cancellable=True),
        )
        books, drawing = Books("x"), threading.Lock()

        # Each model counts the same text alike, as real tokenizers do: the ledger learns from it.
        tokens_per_byte = {"m0": dice.random(), "m1": dice.random()}

        def play(request):
            text = "".join(message.text for message in request.messages)
            with drawing:
                input_tokens = int(len(text.encode()) * tokens_per_byte[request.model])
                wants, wait = dice.randrange(1, 5_000), dice.random() / 50
            threading.Event().wait(wait)
            return books.answer(request, wants, input_tokens)

        def one(n):
            name = dice.choice(["m0", "m1"])
            options = {"num_retries": dice.choice([0, 1]), "cache": dice.random() < 0.2}
            options["max_tokens"] = dice.choice([None, 100, 3_000, 10**6])
            lm = metered(server.lm(name, **options), Meter(ledger, "a", 0, stop))
            prompt = dice.choice(["x", DENSE, "mixed \n"]) * dice.randrange(1, 800)
            try:
                if n % 3:
                    lm(prompt)
                else:
                    asyncio.run(asyncio.wait_for(lm.acall(prompt), dice.choice([0.01, 5])))
            except (LMError, BudgetExceededError, RunEndedError, TimeoutError):
                pass
            if n == 70:
                stop.cancel(RunEndedError("over"))

        with PolicyServer({"m0": play, "m1": play}) as server:
            for name in ("m0", "m1"):
                server.fail(
                    name,
                    Fault(status=500, after=3),
                    Fault(cut_off=True, after=1),
                    Fault(status=429),
                )
            threads = [
                threading.Thread(target=lambda k=k: [one(n) for n in range(k, 80, 8)])
                for k in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert books.tokens
        assert books.tokens <= limits.get("max_tokens", 1e12)
        assert books.cost <= limits.get("max_cost", 1e12)
        assert not ledger._queue.in_flight
        assert not ledger._queue.waiting
        assert 0 <= ledger.llm_calls <= 80

    @pytest.mark.parametrize("limits", [{"max_tokens": 60_000}, {"max_cost": 0.4}])
    def test_by_a_run_that_asks_in_every_way(self, play, limits):
        """The limits hold for batches, typed calls, `aio`, sub-runs and DSPy's modules, each at its maximum."""
        books = Books("[[ ## b ## ]]\nx", tokens=3_000, input_tokens=50)
        asks = (
            "import asyncio, dspy\n"
            "def greedy(f):\n"
            "    try: return f()\n"
            "    except Exception as error: return error\n"
            "greedy(lambda: sub_llm_batched([str(n) for n in range(12)]))\n"
            "greedy(lambda: predict_batched('a -> b', [str(n) for n in range(12)]))\n"
            "greedy(lambda: dspy.ChainOfThought('a -> b', max_tokens=10**7)(a='?'))\n"
            "await asyncio.gather(*(sub_llm.aio('?' * n) for n in range(1, 12)), return_exceptions=True)\n"
        )
        inner = route(
            (asks_for("code"), lambda r: Counted(str(turn(r)), 2_000, 60)), otherwise=books
        )
        turn = scripted(*[Action("", asks)] * 3, Action("", "SUBMIT('x')"))
        rlm, server = play(
            "q -> a",
            asks + "greedy(lambda: sub_rlm('q -> a', q=q))",
            *[asks] * 10,
            sub=inner,
            extracted={"a": "x"},
            max_llm_calls=10_000,
            max_iterations=4,
            prices=PRICES,
            **limits,
        )
        run = rlm(q="").run
        turns = [e for e in server.requests_to("sub") if isinstance(e.reply, Counted)]
        root = [e for e in server.requests_to("root") if e.reply]

        assert books.tokens > 3_000
        total = sum(e.reply.input_tokens + e.reply.output_tokens for e in turns)
        if "max_tokens" in limits:
            rest = sum(
                u.input_tokens + u.output_tokens for u in run.usage if u.model == "openai/root"
            )
            assert root
            assert total + rest <= limits["max_tokens"]
        else:
            cost = sum(e.reply.input_tokens * 10 + e.reply.output_tokens * 40 for e in turns) / 1e6
            assert cost <= limits["max_cost"]
            assert run.cost == pytest.approx(cost)


def test_a_batch_of_many_small_calls_is_within_a_small_budget(kept):
    """Reservations far above the actual use do not cause an honest call to be refused."""
    prompts = [f"Is {n} a prime?" for n in range(100)]
    models = {
        "root": scripted(Action("", f"SUBMIT(sub_llm_batched({prompts!r}))")),
        "gpt-4o-mini": lambda _: Counted("yes", 8, 1),
    }
    with PolicyServer(models) as server, dspy.context(lm=server.lm("root")):
        rlm = RLM(
            "q -> a: list",
            sub_lm=server.lm("gpt-4o-mini"),
            max_llm_calls=100,
            max_cost=0.05,
            prices={"root": (0, 0)},
            pool=kept,
        )
        assert rlm(q="").a == ["yes"] * 100
