"""The quota of a job: requests at even distances, and a cap in dollars that no order of calls exceeds."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_rlm import JobStoppedError, Rate, SignatureError
from dspy_rlm.limiting.job_quota import JobQuota
from dspy_rlm.limiting.quota import UnpricedError


def sent_at(quota, clock, count, model="m", tokens=0):
    """Returns the times at which so many calls may be sent that all come now."""
    futures = [quota.take(model, tokens, 0.0) for _ in range(count)]
    times = {}
    while len(times) < count:
        for number, future in enumerate(futures):
            if future.done() and number not in times:
                times[number] = round(clock[0], 6)
        clock[0] += 0.001
        quota._grant()
    return [times[number] for number in range(count)]


@pytest.fixture
def clock():
    """A clock that only the test moves."""
    return [0.0]


class TestRates:
    def test_requests_are_spaced_evenly(self, clock):
        """Servers count in shorter intervals than the minute that they state: a burst would be refused."""
        quota = JobQuota({"m": Rate(rpm=6000)}, clock=lambda: clock[0])

        times = sent_at(quota, clock, 5)

        assert times == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04], abs=0.002)

    def test_tokens_take_time_too(self, clock):
        """A call of half a minute's tokens holds the next one back for half a minute."""
        quota = JobQuota({"m": Rate(tpm=60_000_000)}, clock=lambda: clock[0])

        assert sent_at(quota, clock, 3, tokens=10_000) == pytest.approx([0, 0.01, 0.02], abs=0.002)

    def test_actual_tokens_replace_expected_ones(self, clock):
        """A call that took less lets the next one go earlier."""
        quota = JobQuota({"m": Rate(tpm=60)}, clock=lambda: clock[0])
        lease = quota.take("m", 100, 0.0).result(0)
        after = quota.take("m", 1, 0.0)
        assert not after.done()

        quota.settle(lease, tokens=0, cost=0.0)

        after.result(60)

    def test_an_answer_of_a_cache_takes_no_time(self, clock):
        """Nothing was sent, so the place goes to the next call."""
        quota = JobQuota({"m": Rate(rpm=1)}, clock=lambda: clock[0])
        for _ in range(5):
            lease = quota.take("m", 0, 0.0).result(0)
            quota.settle(lease, tokens=None, cost=0.0, sent=False)

    def test_models_do_not_wait_for_each_other(self, clock):
        """A rate is that of one model; one without a rate is free."""
        quota = JobQuota({"m": Rate(rpm=1)}, clock=lambda: clock[0])
        quota.take("m", 0, 0.0).result(0)

        assert not quota.take("m", 0, 0.0).done()
        assert quota.take("other", 0, 0.0).done()

    def test_turns_of_root_runs_go_first(self, clock):
        """Sub-calls wait for them, not the reverse."""
        quota = JobQuota({"m": Rate(rpm=60_000)}, clock=lambda: clock[0])
        quota.take("m", 0, 0.0).result(0)
        sub_call, turn = quota.take("m", 0, 0.0), quota.take("m", 0, 0.0, first=True)

        clock[0] = 0.0015
        quota._grant()

        assert turn.done()
        assert not sub_call.done()

    def test_real_time_passes(self):
        """A thread grants calls at their times."""
        quota = JobQuota({"m": Rate(rpm=60_000)})

        for future in [quota.take("m", 0, 0.0) for _ in range(20)]:
            future.result(60)

    @pytest.mark.parametrize("rate", [Rate(rpm=0), Rate(tpm=-1), Rate(rpm=True), 5])
    def test_what_is_no_rate_is_refused(self, rate):
        """Before the first row."""
        with pytest.raises(SignatureError, match="rates"):
            JobQuota({"m": rate})


class TestMoney:
    def test_a_call_waits_for_those_in_flight(self):
        """Their bounds are reserved until they are settled at what they took."""
        quota = JobQuota(max_cost=1.0)
        first = quota.take("m", 0, 0.6).result(0)
        second = quota.take("m", 0, 0.6)
        assert not second.done()

        quota.settle(first, tokens=1, cost=0.1)

        second.result(0)
        assert quota.spent == 0.1
        assert quota.reserved == 0.6

    def test_what_never_fits_is_refused_and_ends_the_job(self):
        """All later calls are refused too, so that each run ends at its next call."""
        refusals = []
        quota = JobQuota(max_cost=1.0, spent=0.9)
        quota.on_refusal = lambda: refusals.append(1)

        for cost in (0.2, 0.01):
            with pytest.raises(JobStoppedError, match=r"max_cost=\$1"):
                quota.take("m", 0, cost).result(0)

        assert refusals == [1]
        assert quota.spent == 0.9

    def test_money_of_earlier_processes_counts(self):
        """The cap is that of the job, not of a call of it."""
        with pytest.raises(JobStoppedError):
            JobQuota(max_cost=1.0, spent=1.0).take("m", 0, 0.1).result(0)

    def test_a_call_of_unknown_cost_counts_at_its_bound(self):
        """It may have cost that much."""
        quota = JobQuota(max_cost=1.0)
        quota.settle(quota.take("m", 0, 0.6).result(0), tokens=None, cost=None)

        assert quota.spent == 0.6
        assert not quota.is_exact

    def test_calls_without_a_bound_are_sent_one_at_a_time(self):
        """Each says what it has cost before the next one is sent; calls with a bound go beside it."""
        quota = JobQuota(max_cost=1.0)
        first, second = quota.take("m", 0, None), quota.take("other", 0, None)
        assert first.done()
        assert not second.done()
        assert quota.take("priced", 0, 0.1).done()

        quota.settle(first.result(), tokens=1, cost=0.2)

        assert second.done()
        assert quota.spent == 0.2

    def test_without_a_cap_no_bound_is_needed(self):
        """Nothing waits, and the sum is that of the known costs."""
        quota = JobQuota()
        first, second = quota.take("m", 0, None), quota.take("m", 0, None)
        quota.settle(first.result(0), tokens=1, cost=None)
        quota.settle(second.result(0), tokens=1, cost=0.2)

        assert quota.take("m", 0, None).done()
        assert (quota.spent, quota.is_exact) == (0.2, False)

    def test_a_call_without_a_bound_needs_room_for_the_dearest_one(self):
        """There is no better bound than what such calls have cost."""
        quota = JobQuota(max_cost=1.0)
        for _ in range(3):
            quota.settle(quota.take("m", 0, None).result(0), tokens=1, cost=0.3)

        with pytest.raises(JobStoppedError, match=r"max_cost=\$1"):
            quota.take("m", 0, None).result(0)

        assert quota.spent == pytest.approx(0.9)

    def test_a_call_without_cost_and_bound_ends_the_job(self):
        """It must not count as nothing: no other call is sent, and the reason is not that the money is used up."""
        quota, refusals = JobQuota(max_cost=1.0), []
        quota.on_refusal = lambda: refusals.append(1)
        lease, waiting = quota.take("m", 0, None).result(0), quota.take("m", 0, None)
        quota.settle(lease, tokens=None, cost=None)

        for refused in (waiting, quota.take("m", 0, None), quota.take("priced", 0, 0.1)):
            with pytest.raises(UnpricedError, match=r"prices=\{'m'"):
                refused.result(0)

        assert refusals == []
        assert not quota.is_exact

    def test_a_call_that_was_not_sent_says_nothing(self):
        """A run that has ended gives its lease back, and a cache costs nothing."""
        quota = JobQuota(max_cost=1.0)
        quota.settle(quota.take("m", 0, None).result(0), tokens=None, cost=None, sent=False)

        assert quota.take("m", 0, None).done()

    def test_leases_of_a_dead_worker_are_settled(self):
        """Otherwise its money would be reserved forever."""
        quota = JobQuota(max_cost=1.0)
        quota.take("m", 0, 0.3, holder="a").result(0)
        quota.take("m", 0, 0.4, holder="b").result(0)

        quota.forget("a")

        assert (quota.spent, quota.reserved) == (0.3, 0.4)

    def test_calls_of_a_dead_worker_that_wait_are_refused(self):
        """Nobody would settle them, so their money would be reserved forever, and the job would wait for it."""
        quota = JobQuota(max_cost=1.0)
        lease = quota.take("m", 0, 0.8, holder="a").result(0)
        waiting, other = (quota.take("m", 0, 0.8, holder=name) for name in "ba")

        quota.forget("b")
        quota.settle(lease, tokens=1, cost=0.1)

        with pytest.raises(JobStoppedError, match="has died"):
            waiting.result(0)
        assert other.done()
        assert (quota.spent, quota.reserved, quota.is_closed) == (0.1, 0.8, False)

    def test_a_call_of_a_dead_worker_that_arrives_later_is_refused(self):
        """Its request was under way when it died."""
        quota = JobQuota(max_cost=1.0)
        quota.forget("a")

        with pytest.raises(JobStoppedError, match="has died"):
            quota.take("m", 0, 0.8, holder="a").result(0)

        assert quota.take("m", 0, 0.8, holder="b").done()

    def test_others_go_on_when_the_first_in_the_queue_dies(self):
        """A large call that waited held them back."""
        quota = JobQuota(max_cost=1.0)
        quota.take("m", 0, 0.5, holder="a").result(0)
        quota.take("m", 0, 0.8, holder="b")
        small = quota.take("m", 0, 0.1, holder="a")
        assert not small.done()

        quota.forget("b")

        assert small.done()

    def test_a_call_waits_for_credit(self):
        """It is refused only if it does not fit into the cap, and says what it waits for."""
        quota = JobQuota(max_cost=1.0, spent=0.1)
        quota.allow(0.2)
        waiting = [quota.take("m", 0, 0.3), quota.take("other", 0, 0.4)]
        assert not any(one.done() for one in waiting)
        assert quota.wanted == pytest.approx(0.7)
        assert not quota.is_closed

        quota.allow(0.5)

        assert [one.done() for one in waiting] == [True, False]
        with pytest.raises(JobStoppedError, match="max_cost"):
            JobQuota(max_cost=1.0).take("m", 0, 2.0).result(0)

    def test_a_call_that_waits_for_the_money_of_others_wants_no_credit(self):
        """More of it would not help."""
        quota = JobQuota(max_cost=1.0)
        quota.take("m", 0, 0.9).result(0)
        quota.take("m", 0, 0.9)

        assert quota.wanted == 0.0

    def test_settling_twice_counts_once(self):
        """A worker may be forgotten after its last answer."""
        quota = JobQuota(max_cost=1.0)
        lease = quota.take("m", 0, 0.3).result(0)
        quota.settle(lease, tokens=1, cost=0.1)
        quota.settle(lease, tokens=1, cost=0.1)

        assert quota.spent == 0.1

    def test_a_withdrawn_call_reserves_nothing(self):
        """A run that ends leaves its place in the queue."""
        quota = JobQuota(max_cost=1.0)
        first = quota.take("m", 0, 0.9).result(0)
        second = quota.take("m", 0, 0.9)
        assert second.cancel()

        quota.settle(first, tokens=1, cost=0.05)

        assert quota.reserved == 0.0
        quota.take("m", 0, 0.9).result(0)

    @pytest.mark.parametrize("max_cost", [0, -1.0])
    def test_a_cap_is_positive(self, max_cost):
        """A job that may cost nothing is a mistake."""
        with pytest.raises(SignatureError, match="max_cost must be a positive number"):
            JobQuota(max_cost=max_cost)

    @given(
        st.lists(st.tuples(st.floats(0.0, 0.5), st.floats(0.0, 1.0)), max_size=40), st.integers()
    )
    def test_no_order_of_calls_exceeds_the_cap(self, calls, seed):
        """Whatever the bounds are, and in whatever order the answers come."""
        quota, order, running = JobQuota(max_cost=1.0), random.Random(seed), []
        for bound, share in calls:
            future = quota.take("m", 0, bound)
            if future.done() and future.exception() is None:
                running.append((future.result(), bound * share))
            if running and order.random() < 0.5:
                lease, cost = running.pop(order.randrange(len(running)))
                quota.settle(lease, tokens=0, cost=cost)
            assert quota.spent + quota.reserved <= 1.0 + 1e-9

    def test_threads_share_a_cap(self):
        """Runs settle from many threads."""
        quota, ended = JobQuota(max_cost=1.0), []

        def work():
            for _ in range(50):
                lease = quota.take("m", 0, 0.05).result(60)
                quota.settle(lease, tokens=0, cost=0.001)
            ended.append(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert len(ended) == 8
        assert quota.spent == pytest.approx(0.4)
