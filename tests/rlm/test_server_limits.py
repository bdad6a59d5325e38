"""The number of calls at once: the setting, a server that allows fewer, and `Retry-After`."""

from __future__ import annotations

import contextvars
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspy_rlm
from dspy_rlm import RLM, SignatureError
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.limiting.gate import Gate, Gates
from dspy_rlm.limiting.limiter import (
    IDLE_SECONDS,
    LEARNED_SECONDS,
    LIMITERS,
    MOST_HELD_SECONDS,
    Limiter,
    Limiters,
)
from dspy_rlm.limiting.rate_window import ModelLimits, RateWindow
from dspy_rlm.lms.meter import Meter
from dspy_rlm.lms.metering import metered
from dspy_rlm.testing import Fault, PolicyServer


class Slots:
    """A player that records how many calls are in flight at once."""

    def __init__(self, together: int = 1) -> None:
        self._barrier = threading.Barrier(together)
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self, request) -> str:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            self._barrier.wait(60)
            return f"answer to {request.prompt}"
        finally:
            with self._lock:
                self._now -= 1


BATCH = "SUBMIT(sub_llm_batched([f'p{i}' for i in range(12)]))"


class TestMaxConcurrency:
    @pytest.mark.parametrize("setting", [3, {"openai/sub": 3}])
    def test_no_more_calls_are_in_flight_than_the_setting_says(self, play, setting):
        """`max_concurrency` bounds the calls of an LM at once, for all LMs or by model."""
        slots = Slots(together=3)  # as many are sent together, or the test would not end
        rlm, _ = play("q -> a: list", BATCH, sub=slots, max_concurrency=setting)

        assert rlm(q="").a == [f"answer to p{i}" for i in range(12)]
        assert slots.most == 3

    def test_names_of_sub_lms_have_limits_of_their_own(self, play):
        """A limit by name holds for the sub-LM of that name, and for calls by other functions too."""
        slots = Slots()
        rlm, server = play("q -> a: list", "SUBMIT(sub_llm.batched(list('abcd')))", sub=slots)
        rlm.sub_lm = {"small": server.lm("sub")}
        rlm.max_concurrency = {"small": 1}

        assert len(rlm(q="").a) == 4
        assert slots.most == 1

    @pytest.mark.parametrize("setting", [0, -1, True, 2.5, "3", {"a": 0}])
    def test_what_is_no_number_is_refused_by_the_constructor(self, setting):
        """A value that is no whole number above 0 is refused before a run."""
        with pytest.raises(SignatureError, match="max_concurrency must be a whole number"):
            RLM("q -> a", max_concurrency=setting)


class TestRefusals:
    @pytest.mark.parametrize("slots", [1, 2])
    def test_a_server_with_fewer_slots_answers_all_prompts(self, play, slots):
        """Prompts that a server refuses beside others are sent again with fewer at once, without `num_retries`."""
        free = threading.Semaphore(slots)
        ends = threading.Event()
        seen: Counter[str] = Counter()

        def limited(request) -> bool:
            """Returns whether the request is refused, as a key with a limit of parallel requests is."""
            seen[request.prompt] += 1
            return not free.acquire(blocking=False)

        def answer(request) -> str:
            ends.wait(0.05)
            free.release()
            return f"answer to {request.prompt}"

        rlm, server = play("q -> a: list", BATCH, sub=answer)
        full = Fault(
            status=429, message="Max parallel request limit reached", times=None, only=limited
        )
        server.fail("sub", full)
        result = rlm(q="")

        assert result.a == [f"answer to p{i}" for i in range(12)]
        assert result.run.llm_calls == 12

    @pytest.mark.parametrize("says", [1e12, 86_400.0])
    def test_a_call_does_not_wait_for_hours(self, says):
        """Whatever `num_retries` is: the error of the server is that of the call, not one of a clock."""
        ledger = Ledger(Budget())
        with PolicyServer({"m": lambda _: "x"}) as server:
            server.fail("m", Fault(status=429, message="Slow", retry_after_seconds=says))
            lm = metered(server.lm("m", num_retries=3), Meter(ledger, "a", 0))
            with pytest.raises(dspy.LMRateLimitError, match="Slow"):
                lm("?")

        assert len(server.requests) == 1

    def test_a_refusal_for_other_reasons_is_not_repeated(self, play):
        """An LM without retries has a prompt that is refused alone sent once."""
        rlm, server = play("q -> a: list", "SUBMIT(sub_llm_batched(['x']))", sub=lambda _: "x")
        server.fail("sub", Fault(status=429, message="Slow down", times=None))

        assert rlm(q="").a == [
            "[ERROR] LMRateLimitError: [openai/sub] Slow down. Wait, or lower max_concurrency."
        ]
        assert len(server.requests_to("sub")) == 1


class TestLimiter:
    """Limits of a server for all runs of the process, learned from its refusals."""

    def test_only_as_many_are_sent_as_the_server_took(self):
        """Each refused call lowers the limit to the calls that are in flight beside it."""
        limiter = Limiter()
        permits = [limiter.enter() for _ in range(16)]
        for permit in permits[2:]:
            assert permit.refused(None)
            permit.leave()
        late = limiter.enter()

        assert limiter.room == 2
        assert not late.granted.done()
        permits[0].leave()
        assert late.granted.done()

    def test_the_limit_grows_with_answers(self):
        """Rounds of answers raise the limit by one call each, up to the one that is set."""
        limiter = Limiter(lambda: ModelLimits(concurrency=3))
        first, second = limiter.enter(), limiter.enter()
        second.refused(None)
        second.leave()
        assert limiter.room == 1
        for _ in range(40):
            first.answered()

        assert limiter.room == 3

    def test_a_server_that_is_gone_leaves_no_limit(self):
        """A failed connection forgets how many calls at once were taken, and admits those that wait; not when to ask again."""
        now = [0.0]
        limiter = Limiter(clock=lambda: now[0])
        permits = [limiter.enter() for _ in range(3)]
        for permit in permits[1:]:
            permit.refused(30.0)
            permit.leave()
        waiting = limiter.enter()
        assert (limiter.room, waiting.granted.done()) == (1, False)
        permits[0].unreachable()

        assert limiter.room is None
        assert waiting.granted.done()
        assert waiting.seconds_held_back() == 30.0

    def test_what_was_learned_ends_with_a_minute_without_a_call(self):
        """A local server may have been restarted with more slots meanwhile; a call in flight is no silence."""
        now = [0.0]
        limiter = Limiter(clock=lambda: now[0])
        first, second = limiter.enter(), limiter.enter()
        second.refused(None)
        second.leave()
        now[0] = 2 * LEARNED_SECONDS
        limiter.enter().leave()
        assert limiter.room == 1
        first.leave()
        now[0] += LEARNED_SECONDS
        limiter.enter()

        assert limiter.room is None

    def test_a_new_server_at_an_address_has_no_limits_of_the_last(self):
        """`forget` reaches each model at the address, and no other address."""
        limiters = Limiters(clock=lambda: 0.0)
        lms = [dspy.LM(f"openai/{name}", api_base="http://a") for name in "xy"]
        lms.append(dspy.LM("openai/x", api_base="http://b"))
        for lm in lms:
            _, refused = limiters.of(lm).enter(), limiters.of(lm).enter()
            refused.refused(30.0)
            refused.leave()
        limiters.forget("http://a")

        assert [limiters.of(lm).room for lm in lms] == [None, None, 1]
        assert [limiters.of(lm).enter().seconds_held_back() for lm in lms] == [0, 0, 30.0]

    def test_a_restarted_server_gets_as_many_calls_as_a_new_one(self, play):
        """A policy server at the port of one with fewer slots is asked as if it were the first there."""
        refuse = Fault(status=429, message="Max parallel request limit reached", times=3)
        with PolicyServer({"sub": lambda _: "x"}) as one:
            one.fail("sub", refuse)
            lm = one.lm("sub")
            play("q -> a: list", "SUBMIT(sub_llm_batched(list('abcd')))", sub_lm=lm)[0](q="")
            assert LIMITERS.of(lm).room is not None
        with PolicyServer({"sub": lambda _: "x"}, port=int(urlsplit(one.base_url).port)) as again:
            assert LIMITERS.of(again.lm("sub")).room is None

    def test_a_server_that_says_when_is_left_alone_until_then(self):
        """All calls of the model wait for the `Retry-After` of one."""
        now = [0.0]
        limiter = Limiter(clock=lambda: now[0])
        permit = limiter.enter()
        assert not permit.refused(30.0)  # alone
        permit.leave()
        now[0] = 10.0

        assert limiter.enter().seconds_held_back() == 20.0

    @pytest.mark.parametrize("says", [1e12, 1e300, float("inf"), 86_400.0])
    def test_a_server_that_says_a_time_without_end(self, says):
        """The calls of other runs wait for a minute; then one asks again."""
        limiter = Limiter(clock=lambda: 0.0)
        permit = limiter.enter()
        permit.refused(says)
        permit.leave()

        assert limiter.enter().seconds_held_back() == MOST_HELD_SECONDS

    def test_calls_are_sent_in_the_order_of_their_arrival(self):
        """Of several runs, the one that came first is first; a turn of a root run precedes the sub-calls that wait."""
        limiter = Limiter(lambda: ModelLimits(concurrency=1))
        running = limiter.enter()
        of_one, of_other = limiter.enter(), limiter.enter()
        turn, later_turn = limiter.enter(first=True), limiter.enter(first=True)
        order = []
        for done in (running, turn, later_turn, of_one):
            done.leave()
            (sent,) = [
                permit
                for permit in (turn, later_turn, of_one, of_other)
                if permit.granted.done() and permit not in order and not permit.granted.cancelled()
            ]
            order.append(sent)

        assert order == [turn, later_turn, of_one, of_other]

    def test_a_call_that_leaves_the_queue_takes_no_place(self):
        """A cancelled call is forgotten, whether it waits, is in flight, or waits for its minute."""
        now = [0.0]
        limits = ModelLimits(concurrency=2, requests_per_minute=1)
        limiter = Limiter(lambda: limits, clock=lambda: now[0])
        first, second, third = (limiter.enter() for _ in range(3))
        assert first.seconds_held_back() == 0
        assert second.seconds_held_back() > 0
        second.leave()
        second.wait()
        assert third.granted.done()
        now[0] = 60.0

        assert third.seconds_held_back() == 0  # not the place after the second

    def test_what_a_cache_answers_is_not_counted(self):
        """A call that a cache answered leaves its place in the minute to the next."""
        limiter = Limiter(lambda: ModelLimits(requests_per_minute=1), clock=lambda: 0.0)
        first, second = limiter.enter(), limiter.enter()
        first.seconds_held_back()
        assert second.seconds_held_back() > 0
        first.used((0, 0), sent=False)

        assert second.seconds_held_back() == 0

    def test_tokens_are_those_that_were_used(self):
        """A request counts with its estimate until its tokens are known."""
        limiter = Limiter(lambda: ModelLimits(tokens_per_minute=1_000), clock=lambda: 0.0)
        first, second = limiter.enter(400), limiter.enter(400)
        assert first.seconds_held_back() == 0
        assert second.seconds_held_back() > 0  # 400 and a usual reply, twice
        first.used((300, 20), sent=True)

        assert second.seconds_held_back() == 0

    def test_models_that_are_no_longer_called_are_dropped(self):
        """A process that calls ever new models does not grow; one that is in use, or was just now, is kept."""
        now = [0.0]
        limiters = Limiters(clock=lambda: now[0])
        busy = limiters.of(dspy.LM("openai/busy"))
        busy.enter()
        for number in range(20):
            now[0] += 2 * IDLE_SECONDS
            limiters.of(dspy.LM(f"openai/{number}"))

        assert len(limiters) == 2
        assert limiters.of(dspy.LM("openai/busy")) is busy


class TestRateWindow:
    """The times at which requests are sent, by limits per minute."""

    @staticmethod
    def times(limits: ModelLimits, requests: list[tuple[float, int]]) -> list[float]:
        """The times at which requests that arrive at these times, with these tokens, are sent."""
        window, now = RateWindow(), 0.0
        slots = []
        for at, tokens in requests:
            now = max(now, at)
            slot = window.add(at, tokens)
            while (seconds := window.wait(slot, now, limits)) > 0:
                now += seconds
            slots.append(slot)
        return [slot.at for slot in slots]

    def test_requests_of_any_minute(self):
        """In any 60 seconds, at most as many requests are sent as the limit says."""
        sent = self.times(
            ModelLimits(requests_per_minute=3), [(0, 1), (10, 1), (50, 1)] + [(51, 1)] * 4
        )

        assert sent == [0, 10, 50, 60, 70, 110, 120]

    def test_tokens_of_any_minute(self):
        """In any 60 seconds, at most as many tokens are sent; a request that is larger than the limit is sent alone."""
        sent = self.times(
            ModelLimits(tokens_per_minute=100), [(0, 60), (0, 60), (0, 40), (0, 500), (0, 1)]
        )

        assert sent == [0, 60, 60, 120, 180]

    @given(
        limits=st.builds(
            ModelLimits,
            requests_per_minute=st.none() | st.integers(1, 5),
            tokens_per_minute=st.none() | st.integers(1, 300),
        ),
        requests=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 300)), max_size=30),
    )
    def test_no_minute_has_more_than_the_limits(self, limits, requests):
        """Whatever arrives when, no 60 seconds have more requests or tokens than the limits, and none waits forever."""
        requests = sorted(requests, key=lambda pair: pair[0])
        sent = self.times(limits, requests)

        assert sent == sorted(sent)
        for at in sent:
            window = [
                tokens for t, (_, tokens) in zip(sent, requests, strict=True) if at - 60 < t <= at
            ]
            if limits.requests_per_minute is not None:
                assert len(window) <= limits.requests_per_minute
            if limits.tokens_per_minute is not None and len(window) > 1:
                assert sum(window) <= limits.tokens_per_minute


class TestConfigure:
    """`dspy_rlm.configure(limits_per_model=...)`."""

    @pytest.fixture(autouse=True)
    def restored(self):
        """Removes the limits after each test."""
        yield
        dspy_rlm.configure(limits_per_model=None)

    def test_all_runs_share_a_models_limit(self, play):
        """Two runs at the same time, whose root and sub-LM are one model, have as many calls in flight as it allows."""
        slots = Slots()
        dspy_rlm.configure(limits_per_model={"openai/sub": {"concurrency": 2}})
        rlm, _ = play("q -> a: list", BATCH, sub=slots)
        with ThreadPoolExecutor(2) as threads:
            runs = [
                threads.submit(contextvars.copy_context().run, lambda: rlm(q="")) for _ in range(2)
            ]
            answers = [run.result().a for run in runs]

        assert answers == [[f"answer to p{i}" for i in range(12)]] * 2
        assert slots.most <= 2

    def test_one_slot_is_enough_for_a_run(self, play):
        """The root and its sub-calls with one model that allows one call at a time do not wait for each other."""
        rlm, _ = play("q -> a: list", BATCH, sub=lambda request: f"answer to {request.prompt}")
        dspy_rlm.configure(
            limits_per_model={
                "openai/root": ModelLimits(concurrency=1),
                "openai/sub": ModelLimits(concurrency=1),
            }
        )

        assert len(rlm(q="").a) == 12

    @pytest.mark.parametrize(
        "limits",
        [
            {"x": 3},
            {"x": {"calls": 3}},
            {"x": {"concurrency": 0}},
            {"x": {"tokens_per_minute": 2.5}},
        ],
    )
    def test_what_is_no_limit_is_refused(self, limits):
        """A value that is no limit is named, and changes nothing."""
        with pytest.raises(SignatureError, match=r"limits_per_model\['x'\]"):
            dspy_rlm.configure(limits_per_model=limits)


class TestGate:
    def test_a_call_that_leaves_the_queue_takes_no_place(self):
        """A cancelled call is forgotten, whether it waits or is in flight."""
        gate = Gate(1)
        first, second, third = gate.enter(), gate.enter(), gate.enter()
        second.leave()
        second.leave()
        second.wait()
        first.leave()

        assert third.granted.done()

    def test_runs_at_the_same_time_share_a_limit_that_was_set(self):
        """A limit is that of a server, however many runs call it; the default is that of a run."""
        lm, key = dspy.LM("openai/shared"), {"openai/shared": 2}

        assert Gates(key).of(lm) is not Gates({"openai/shared": 3}).of(lm)
        one, other = Gates(key), Gates(2)
        assert one.of(lm) is other.of(lm)
        assert Gates().of(lm) is not Gates().of(lm)

    def test_equal_models_at_one_address_share_a_gate(self):
        """Copies of an LM are one server; the same model elsewhere is another."""
        gates = Gates({"openai/x": 2})
        one, other = (
            dspy.LM("openai/x", api_base="http://a"),
            dspy.LM("openai/x", api_base="http://b"),
        )

        assert gates.of(one) is gates.of(one.copy())
        assert gates.of(one) is not gates.of(other)
        assert (gates.of(one).most, gates.of(dspy.LM("openai/y")).most, gates.most) == (2, 16, 16)
