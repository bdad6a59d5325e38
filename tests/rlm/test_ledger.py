"""The ledger: what a run may spend is set aside before it is spent, so that no limit is passed."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_rlm.budget.admission import ROOM_FOR_A_REPLY, CallPlan
from dspy_rlm.budget.budget import Budget, Price
from dspy_rlm.budget.ledger import Ledger, Spent
from dspy_rlm.budget.token_bounds import Prompt
from dspy_rlm.errors import BudgetExceededError, PriceUnknownError
from dspy_rlm.reports.report import Call

CHEAP = Price(1e-6, 4e-6)


def wanted(size=0, *, reply=10, price=None, **facts):
    """Builds a request to the model `lm`, with a prompt of this size and a bound of the reply's tokens."""
    prompt = Prompt(("x" * size,)) if size else Prompt(())
    return CallPlan(
        facts.pop("model", "lm"), prompt, reply_tokens=reply, price=lambda _tokens: price, **facts
    )


def call(kind="sub_llm", **facts):
    """Builds a call of the model `lm`."""
    return Call(kind, facts.pop("model", "lm"), 0, **facts)


def spent(**facts):
    """Builds the record of a call's actual use."""
    return Spent(call(**facts))


class TestCalls:
    def test_a_refused_charge_spends_nothing(self):
        """A batch that does not fit is refused whole, so a smaller one may still run."""
        ledger = Ledger(Budget(max_llm_calls=3))

        with pytest.raises(BudgetExceededError) as caught:
            ledger.charge_llm_calls(4)

        assert caught.value.limit == "max_llm_calls"
        ledger.charge_llm_calls(3)
        assert ledger.llm_calls_left == 0

    def test_many_threads_cannot_overspend(self):
        """Reserving is atomic: of a hundred concurrent requests, ten get a call."""
        ledger = Ledger(Budget(max_llm_calls=10))

        def ask(_: int) -> bool:
            try:
                ledger.charge_llm_calls(1)
            except BudgetExceededError:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(ask, range(100))) == 10

    def test_calls_given_back_can_be_made(self):
        """A cache hit, which is charged before it is known to be one, is refunded."""
        ledger = Ledger(Budget(max_llm_calls=1))
        ledger.charge_llm_calls(1)
        ledger.give_back_llm_calls(1)

        ledger.charge_llm_calls(1)

    @pytest.mark.parametrize("budget", [Budget(max_tokens=10), Budget(max_cost=0.5)])
    def test_a_sandbox_needs_something_left(self, budget):
        """A sandbox is refused when no token or cent is left."""
        ledger = Ledger(budget)
        took = {"input_tokens": 5, "output_tokens": 5, "cost": 0.5}
        ledger.settle(ledger.reserve(wanted(1, reply=1, price=Price(0, 0))), spent(**took))

        with pytest.raises(BudgetExceededError):
            ledger.check_room()


class TestRoom:
    def test_what_fits_only_alone_waits(self):
        """Of two calls that fit only one at a time, the second waits until the first is settled for less."""
        ledger = Ledger(Budget(max_tokens=100))
        first = ledger.reserve(wanted(50))
        second = ledger.reserve(wanted(50))
        assert not second.granted.done()

        ledger.settle(first, spent(input_tokens=20, output_tokens=10))
        assert second.granted.done()
        second.wait()

    def test_what_can_never_fit_is_refused_at_once(self):
        """A request larger than the unspent budget is refused at once, without waiting for calls in flight."""
        ledger = Ledger(Budget(max_tokens=100))
        first = ledger.reserve(wanted(50))

        with pytest.raises(BudgetExceededError, match=r"100 of 100 tokens left \(max_tokens\)"):
            ledger.reserve(wanted(91))
        ledger.settle(first, spent(input_tokens=20, output_tokens=10))
        with pytest.raises(BudgetExceededError, match=r"70 of 100 tokens left \(max_tokens\)"):
            ledger.reserve(wanted(61))

    def test_one_that_waits_is_refused_once_it_cannot_fit(self):
        """A waiting call is refused once the earlier ones have spent its budget."""
        ledger = Ledger(Budget(max_tokens=100))
        first = ledger.reserve(wanted(50))
        second = ledger.reserve(wanted(50))
        ledger.settle(first, spent(input_tokens=50, output_tokens=10))

        with pytest.raises(BudgetExceededError):
            second.wait()

    def test_nobody_overtakes_one_that_waits_for_room(self):
        """Small calls cannot overtake a waiting large one, which would starve it."""
        ledger = Ledger(Budget(max_tokens=100))
        first = ledger.reserve(wanted(50))
        large, small = ledger.reserve(wanted(70)), ledger.reserve(wanted(5))
        assert not small.granted.done()

        ledger.settle(first, spent(input_tokens=1, output_tokens=1))
        assert large.granted.done()
        assert small.granted.done()

    @pytest.mark.parametrize("leave", ["leave", "leave_the_line"])
    def test_a_place_that_is_left_lets_others_in(self, leave):
        """Leaving the queue lets others in; it is idempotent, and allowed after a refusal."""
        ledger = Ledger(Budget(max_tokens=100))
        first = ledger.reserve(wanted(60))
        large, small = ledger.reserve(wanted(80)), ledger.reserve(wanted(5))
        getattr(large, leave)()
        getattr(large, leave)()
        large.wait()

        assert small.granted.done()
        first.leave()
        ledger.reserve(wanted(70)).wait()

    def test_giving_back_is_done_once(self):
        """Releasing after settling, or settling twice, changes nothing."""
        ledger = Ledger(Budget(max_tokens=100))
        place = ledger.reserve(wanted(60))
        took = spent(input_tokens=30, output_tokens=5)
        ledger.settle(place, took)
        ledger.settle(place, took)
        place.leave()

        assert ledger.left()["tokens"] == 65
        assert len(ledger.sub_calls()) == 1

    def test_an_event_loop_waits_without_blocking(self):
        """A cancelled waiter has left the queue, and nothing is reserved for it."""
        ledger = Ledger(Budget(max_tokens=100))

        async def main():
            first = ledger.reserve(wanted(60))
            second, third = ledger.reserve(wanted(60)), ledger.reserve(wanted(60))
            waits = [asyncio.ensure_future(place.soon()) for place in (second, third)]
            await asyncio.sleep(0)
            waits[0].cancel()
            await asyncio.gather(waits[0], return_exceptions=True)
            second.leave()
            ledger.settle(first, spent(input_tokens=10, output_tokens=10))
            await waits[1]
            third.leave()
            refused = ledger.reserve(wanted(69))
            blocked = ledger.reserve(wanted(60))
            ledger.settle(refused, spent(input_tokens=40, output_tokens=10))
            with pytest.raises(BudgetExceededError):
                await blocked.soon()

        asyncio.run(main())
        gc.collect()  # an exception that nobody took would be told of now
        assert ledger.left()["tokens"] == 30

    def test_a_long_reply_is_let_have_what_is_left(self):
        """A single call may use the whole remaining budget; concurrent ones a share that suffices for most replies."""
        ledger = Ledger(Budget(max_tokens=300_000))
        one = ledger.reserve(wanted(reply=1_000_000))
        many = [ledger.reserve(wanted(reply=1_000_000)) for _ in range(15)]

        assert one.cuts
        assert ROOM_FOR_A_REPLY <= one.reply_tokens < 300_000 / 16
        assert all(place.granted.done() for place in many)
        assert all(place.reply_tokens >= ROOM_FOR_A_REPLY for place in many)
        assert Ledger(Budget(max_tokens=5000)).reserve(wanted(reply=10**6)).reply_tokens == 3906

    def test_a_reply_that_fits_is_not_cut(self):
        """If the reply fits, the request is unchanged, and so is its cache entry."""
        place = Ledger(Budget(max_tokens=10_000_000)).reserve(wanted(100, reply=16_000))

        assert not place.cuts

    def test_all_candidates_count(self):
        """Each candidate is counted as a separate request with the whole prompt."""
        ledger = Ledger(Budget(max_tokens=400))
        with pytest.raises(BudgetExceededError):
            ledger.reserve(wanted(100, reply=10, candidates=4))
        ledger.reserve(wanted(100, reply=10, candidates=3)).wait()


class TestMoney:
    def test_the_price_of_a_reply_counts_as_if_it_were_long(self):
        """The price of a reply is estimated for a long one, since its length is unknown beforehand."""
        ledger = Ledger(Budget(max_cost=1.0))
        first = ledger.reserve(wanted(500_000, reply=8_000, price=CHEAP))
        second = ledger.reserve(wanted(500_000, reply=8_000, price=CHEAP))
        assert first.amount.cost == pytest.approx(0.532, rel=1e-3)
        assert not second.granted.done()

        ledger.settle(first, spent(input_tokens=125_000, output_tokens=10, cost=0.12504))
        assert ledger.left()["cost"] == pytest.approx(0.87496)
        assert second.granted.done()

    def test_one_call_at_a_time_until_a_price_is_known(self):
        """While prices are unknown, one call runs at a time over all such models, so at most one exceeds the budget."""
        ledger = Ledger(Budget(max_cost=0.5))
        places = [ledger.reserve(wanted(40, model=f"m{n % 3}")) for n in range(16)]
        priced = ledger.reserve(wanted(40, model="priced", price=CHEAP))
        assert [place.granted.done() for place in places] == [True] + [False] * 15
        assert priced.granted.done()

        ledger.settle(places[0], spent(model="m0", input_tokens=10, output_tokens=10, cost=5.0))
        for place in places[1:]:
            with pytest.raises(BudgetExceededError) as caught:
                place.wait()
            assert caught.value.limit == "max_cost"
        assert ledger.cost_at_most() < 5.001

    def test_a_price_that_is_known_lets_the_others_go(self):
        """Once the price is known, all calls that fit run at once."""
        ledger = Ledger(Budget(max_cost=100))
        places = [ledger.reserve(wanted(40, reply=100)) for _ in range(16)]
        ledger.settle(places[0], spent(input_tokens=10, output_tokens=10, cost=0.01))

        assert all(place.granted.done() for place in places)

    def test_a_call_bounds_the_next_one_by_both_its_counts(self):
        """A call bounds both prices: its whole cost may be due to one token of its reply or of its prompt."""
        ledger = Ledger(Budget(max_cost=100))
        took = spent(input_tokens=100, output_tokens=10, cost=0.1)
        ledger.settle(ledger.reserve(wanted(100)), took)
        place = ledger.reserve(wanted(50, reply=40))

        assert place.amount.cost == pytest.approx(0.4)

    def test_a_learned_bound_that_is_too_high_does_not_end_a_run(self):
        """Calls whose usual cost fits continue one at a time, so only one can cost more than that."""
        ledger = Ledger(Budget(max_cost=0.05))
        took = spent(input_tokens=5, output_tokens=1, cost=0.01)
        ledger.settle(ledger.reserve(wanted(20, reply=None)), took)
        places = [ledger.reserve(wanted(20, reply=None)) for _ in range(5)]
        sent = 0
        while now := [p for p in places if p.granted.done() and not p.granted.exception()]:
            assert len(now) == 1
            ledger.settle(now[0], took)
            places.remove(now[0])
            sent += 1

        assert sent == 4
        with pytest.raises(BudgetExceededError):
            places[0].wait()

    def test_a_learned_price_lets_many_go_at_once(self):
        """With a learned price a reply may be a few times as long as earlier ones; a truncated one is retried."""
        ledger = Ledger(Budget(max_cost=10))
        took = spent(input_tokens=5, output_tokens=1, cost=0.01)
        ledger.settle(ledger.reserve(wanted(20, reply=None)), took)
        places = [ledger.reserve(wanted(20, reply=None)) for _ in range(16)]

        assert all(place.granted.done() for place in places)
        assert all(place.cuts and place.prompt.is_priced for place in places)

    def test_a_price_that_rises_is_believed(self):
        """If a call costs more than its bound, later bounds grow accordingly, since a price table can be outdated."""
        ledger = Ledger(Budget(max_cost=10))
        first = ledger.reserve(wanted(1000, reply=100, price=CHEAP))
        ledger.settle(first, spent(input_tokens=500, output_tokens=100, cost=0.0018))
        second = ledger.reserve(wanted(1000, reply=100, price=CHEAP))

        assert second.amount.cost == pytest.approx(2 * CHEAP.of(500, 100), rel=0.01)

    def test_an_unknown_price_keeps_no_limit(self):
        """An unknown price is None, not 0, and a limit in dollars refuses calls that it cannot count."""
        ledger = Ledger(Budget(max_cost=1))
        ledger.settle(ledger.reserve(wanted(1)), spent(cost=None, input_tokens=1, output_tokens=1))

        assert ledger.cost() is None
        assert ledger.cost_at_most() is None
        assert ledger.usage()[0].cost is None
        with pytest.raises(PriceUnknownError, match="The price of 'lm' is not known"):
            ledger.reserve(wanted(1))

    def test_a_lost_call_without_a_price_is_the_last(self):
        """A lost call without a price may have cost anything, so no other call is allowed."""
        ledger = Ledger(Budget(max_cost=1))
        ledger.settle(ledger.reserve(wanted(1)), Spent(call(error="lost"), answered=False))

        with pytest.raises(PriceUnknownError):
            ledger.reserve(wanted(1))
        ledger.reserve(wanted(1, model="priced", price=CHEAP)).wait()

    def test_what_is_cached_is_free(self):
        """Cache hits are counted separately and change neither tokens nor cost."""
        ledger = Ledger(Budget(max_tokens=1000))
        took = spent(cached=True, cost=0.0, input_tokens=0, output_tokens=0)
        ledger.settle(ledger.reserve(wanted(5)), took)

        usage = ledger.usage()[0]
        assert (usage.calls, usage.cached, usage.cost) == (0, 1, 0.0)
        assert ledger.left()["tokens"] == 1000

    def test_what_nobody_waited_for_counts_at_its_bound(self):
        """An abandoned call counts at its upper bound: its server may still answer and charge for it."""
        ledger = Ledger(Budget(max_tokens=1000, max_cost=1))
        place = ledger.reserve(wanted(100, reply=50, price=Price(0.001, 0.002)))
        ledger.settle(place, Spent(call(error="abandoned"), answered=False))

        assert ledger.left()["tokens"] == 1000 - place.amount.tokens <= 850
        assert ledger.cost() is None
        assert ledger.cost_at_most() == pytest.approx(place.amount.cost)

    def test_what_is_under_way_is_in_the_report(self):
        """Calls in flight are in the report, with None, never 0, for unknown amounts."""
        ledger = Ledger(Budget(max_cost=10))
        ledger.settle(
            ledger.reserve(wanted(10, price=CHEAP)),
            spent(input_tokens=10, output_tokens=5, cost=0.001),
        )
        places = [ledger.reserve(wanted(10, reply=250_000, price=CHEAP)) for _ in range(3)]
        bound = sum(place.amount.cost for place in places)

        assert ledger.cost() is None
        assert ledger.cost_at_most() == pytest.approx(0.001 + bound)
        assert [c.cost for c in ledger.sub_calls()] == [0.001]
        assert [c.cost for c in ledger.under_way()] == [None, None, None]
        assert "Not answered yet" in ledger.under_way()[-1].error
        assert (ledger.usage()[0].calls, ledger.usage()[0].input_tokens) == (4, None)

    def test_an_lm_without_usage_is_counted_by_its_bytes(self):
        """Without reported usage, the bytes of prompt and reply are counted."""
        ledger = Ledger(Budget(max_tokens=1000))
        ledger.settle(ledger.reserve(wanted(100, reply=50)), Spent(call(), reply_bytes=20))

        assert 870 <= ledger.left()["tokens"] <= 880


class TestTurns:
    def test_a_turn_is_left_for_the_extraction(self):
        """A run stops while the budget still covers the extraction."""
        ledger = Ledger(Budget(max_tokens=140))
        for used in (40, 80):
            assert ledger.exhausted(0) == ""
            turn = Spent(call("action", input_tokens=30, output_tokens=10), reply_bytes=10)
            ledger.settle(ledger.reserve(wanted(30, final=True)), turn)
            assert ledger.left()["tokens"] == 140 - used

        assert ledger.exhausted(0) == "max_tokens"
        with pytest.raises(BudgetExceededError):
            ledger.reserve(wanted(30))
        with pytest.raises(BudgetExceededError):
            ledger.reserve(wanted(30, final=True, depth=1))
        ledger.reserve(wanted(30, final=True)).wait()

    def test_the_extraction_keeps_the_limit_too(self):
        """The reserve for the extraction is an estimate; the limit on it is exact."""
        ledger = Ledger(Budget(max_tokens=130))

        with pytest.raises(BudgetExceededError):
            ledger.reserve(wanted(130, final=True))

    def test_time_runs_out(self):
        """The time limit uses the clock of the root run."""
        now = 0.0
        ledger = Ledger(Budget(max_seconds=10), clock=lambda: now)
        assert ledger.exhausted(0) == ""
        now = 11.0

        assert ledger.exhausted(0) == "max_seconds"
        assert ledger.left()["seconds"] == 0
        now = 4.0
        assert ledger.left()["seconds"] == 5  # one of ten is held back for the extraction
        now = 11.0
        with pytest.raises(BudgetExceededError):
            ledger.reserve(wanted(1, depth=1))


def scripted(seed, calls):
    """Random prices, counts and endings of calls stay within the bounds."""
    dice = random.Random(seed)
    prices = {f"m{n}": Price(dice.uniform(0, 1e-3), dice.uniform(0, 1e-3)) for n in range(3)}
    price_tellers = {name for name in prices if dice.random() < 0.7}
    for _ in range(calls):
        model = dice.choice(sorted(prices))
        size, most = dice.randrange(1, 2000), dice.choice([None, 1, 50, 5000, 10**6])
        fate = dice.choice(["answered"] * 5 + ["cached", "failed", "lost", "cancelled", "silent"])
        at = dice.random(), dice.random()
        want = CallPlan(
            model,
            Prompt(("x" * size,)),
            reply_tokens=most,
            candidates=dice.choice([1, 1, 1, 3]),
            price=lambda _n, p=prices[model], has_price=model in price_tellers: (
                p if has_price else None
            ),
        )
        yield want, prices[model], fate, at


class TestNeverPassed:
    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 2**32),
        threads=st.integers(1, 16),
        max_cost=st.one_of(st.none(), st.floats(0.001, 20)),
        max_tokens=st.one_of(st.none(), st.integers(100, 10**6)),
    )
    def test_whatever_calls_do(self, seed, threads, max_cost, max_tokens):
        """With random models, sizes, endings and interleavings, the actual spending stays within both limits.

        One call of a model whose price was not known may be dearer. Nothing is left open in the end.
        """
        ledger = Ledger(Budget(max_cost=max_cost, max_tokens=max_tokens))
        lock = threading.Lock()
        real = {"tokens": 0, "cost": 0.0, "unknown": 0.0}

        def send(script):
            want, price, fate, (part_in, part_out) = script
            try:
                place = ledger.reserve(want)
                if fate == "cancelled" and part_in < 0.5:
                    place.leave_the_line()
                place.wait()
            except BudgetExceededError:
                return
            if place.granted.cancelled() or fate == "cancelled":
                place.leave()
                return
            most = place.reply_tokens if place.reply_tokens is not None else 1000
            tokens_in = int(want.prompt.bytes * part_in) * want.candidates
            tokens_out = int(most * part_out) * want.candidates
            if fate in ("cached", "failed"):
                facts = {"input_tokens": 0, "output_tokens": 0, "cost": 0.0}
                done = Spent(
                    call(**facts, model=want.model, cached=fate == "cached"), fate == "cached"
                )
            else:
                cost = price.of(tokens_in, tokens_out)
                with lock:
                    real["tokens"] += tokens_in + tokens_out
                    real["cost"] += cost
                    if not place.prompt.is_priced:
                        real["unknown"] = max(real["unknown"], cost)
                facts = {"input_tokens": tokens_in, "output_tokens": tokens_out, "cost": cost}
                if fate == "lost":
                    done = Spent(call(model=want.model), answered=False)
                elif fate == "silent":  # its reply has the bytes that its tokens have at least
                    charge = {"cost": cost, "model": want.model}
                    done = Spent(call(**charge), reply_bytes=tokens_out)
                else:
                    done = Spent(call(**facts, model=want.model))
            ledger.settle(place, done)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(send, scripted(seed, 60)))

        slack = 1 + 1e-9
        if max_tokens is not None:
            assert real["tokens"] <= max_tokens
        if max_cost is not None:
            assert real["cost"] <= max_cost * slack + real["unknown"]
        assert not ledger._queue.in_flight
        assert not ledger._queue.waiting

    def test_honest_calls_are_neither_refused_nor_serialised(self):
        """With a known price sixteen calls run concurrently, though each bound is eight times the actual use."""
        ledger = Ledger(Budget(max_cost=1.0))
        barrier = threading.Barrier(16, timeout=60)

        def send(_):
            place = ledger.reserve(wanted(4000, reply=16_000, price=Price(1.5e-7, 6e-7)))
            place.wait()
            barrier.wait()
            ledger.settle(place, spent(input_tokens=1000, output_tokens=300, cost=0.00033))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(send, range(16)))
        assert len(ledger.sub_calls()) == 16
