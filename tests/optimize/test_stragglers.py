"""DSPy starts an item again that takes long; inside `no_stragglers` it does not."""

from __future__ import annotations

import pytest
from dspy.utils.parallelizer import ParallelExecutor

from dspy_rlm.optimize import no_stragglers


def timeout():
    return ParallelExecutor(num_threads=2).timeout


def test_nothing_is_started_twice_inside():
    """The time limit is off inside, nested or not, and on again after."""
    usual = timeout()
    with no_stragglers():
        with no_stragglers():
            assert timeout() == 0
        assert timeout() == 0
    assert timeout() == usual > 0


def test_it_ends_with_an_error_too():
    """A failed compilation leaves DSPy's timeout restored."""
    with pytest.raises(ZeroDivisionError), no_stragglers():
        raise ZeroDivisionError
    assert timeout() > 0
