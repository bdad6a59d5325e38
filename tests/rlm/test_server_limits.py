"""The number of calls at once: the setting, a server that allows fewer, and `Retry-After`."""

from __future__ import annotations

import threading
from collections import Counter

import dspy
import pytest

from dspy_rlm import RLM, SignatureError
from dspy_rlm.lms.gate import Gate, Gates
from dspy_rlm.testing import Fault


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

    def test_a_refusal_for_other_reasons_is_not_repeated(self, play):
        """An LM without retries has a prompt that is refused alone sent once."""
        rlm, server = play("q -> a: list", "SUBMIT(sub_llm_batched(['x']))", sub=lambda _: "x")
        server.fail("sub", Fault(status=429, message="Slow down", times=None))

        assert rlm(q="").a == [
            "[ERROR] LMRateLimitError: [openai/sub] Slow down. Wait, or lower max_concurrency."
        ]
        assert len(server.requests_to("sub")) == 1


class TestGate:
    def test_only_as_many_are_sent_as_the_server_took(self):
        """Each refused call lowers the limit to the calls that are in flight beside it."""
        gate = Gate(16)
        entries = [gate.enter() for _ in range(16)]
        for entry in entries[2:]:
            assert entry.refused(None)
            entry.leave()
        late = gate.enter()

        assert gate.room == 2
        assert not late.granted.done()
        entries[0].leave()
        assert late.granted.done()

    def test_the_limit_grows_with_answers(self):
        """Rounds of answers raise the limit by one call each, up to the setting."""
        gate = Gate(3)
        first, second = gate.enter(), gate.enter()
        second.refused(None)
        second.leave()
        assert gate.room == 1
        for _ in range(40):
            first.answered()

        assert gate.room == 3

    def test_a_server_that_says_when_is_left_alone_until_then(self):
        """All calls of the LM wait for the `Retry-After` of one."""
        now = [0.0]
        gate = Gate(4, clock=lambda: now[0])
        entry = gate.enter()
        assert not entry.refused(30.0)  # alone
        entry.leave()
        now[0] = 10.0

        assert gate.enter().seconds_held_back() == 20.0

    def test_a_call_that_leaves_the_queue_takes_no_place(self):
        """A cancelled call is forgotten, whether it waits or is in flight."""
        gate = Gate(1)
        first, second, third = gate.enter(), gate.enter(), gate.enter()
        second.leave()
        second.leave()
        second.wait()
        first.leave()

        assert third.granted.done()

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
