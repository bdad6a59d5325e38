"""The limits of a session's memory and of its values."""

from __future__ import annotations

import pytest
from session_cells import (
    MEBIBYTE,
    TOOLS,
    echo,
    failure,
    output,
)

from sandbox_runtime import (
    Failed,
    Limits,
    ValueCrossingError,
)


@pytest.fixture
def small(opened):
    """A session with little memory for one test: memory filled by other tests could be fragmented."""
    return opened(limits=Limits(memory_bytes=128 * MEBIBYTE), tools=TOOLS)


class TestMemory:
    """Beyond `memory_bytes` Python raises MemoryError, and the session continues."""

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize(
        "code",
        [
            "x = bytearray(10**9)",
            "x = []\nwhile True: x.append(bytearray(10**6))",
            "x = []\nwhile True: x.append(object())",
            "x = None\nwhile True: x = [x]",
            "x = {}\nwhile True: x[len(x)] = str(len(x))",
            "x = 'x'\nwhile True: x += x",
            "x = 1\nwhile True: x <<= 10**7",
        ],
    )
    def test_a_cell_that_allocates_for_ever(self, small, code):
        """Large or small allocations end in an exception, and the variables stay."""
        small.run_cell("kept = 1")

        assert failure(small, code).error_type in ("MemoryError", "OverflowError")
        assert output(small, "kept, echo(2)") == "(1, 2)\n"

    def test_memory_can_be_had_again(self, small):
        """Memory is available again after the cell's values are freed."""
        failure(small, "x = []\nwhile True: x.append(bytearray(10**6))")

        assert output(small, "del x\nlen(bytearray(40 * 10**6))") == "40000000\n"

    def test_a_variable_larger_than_the_memory(self, small):
        """It is refused before it is sent, with the limit's name."""
        with pytest.raises(ValueCrossingError, match=r"x takes 200,000,000 bytes.*memory_bytes"):
            small.assign("x", bytes(200_000_000))
        assert output(small, "1") == "1\n"

    def test_a_variable_that_does_not_fit(self, small):
        """The sandbox refuses it and keeps running."""
        with pytest.raises(ValueCrossingError, match="could not take x: MemoryError"):
            small.assign("x", bytes(120 * 10**6))
        assert output(small, "1") == "1\n"

    def test_a_value_that_is_too_large(self, opened):
        """A value beyond `frame_bytes` is refused; the cell sees the name of the limit."""
        session = opened(limits=Limits(frame_bytes=10**6), tools={"echo": echo})
        session.assign("given", 1)

        result = session.run_cell("echo('x' * 2_000_000)")

        assert isinstance(result, Failed)
        assert not result.state_lost
        assert (
            "more than the 1,000,000 that one value may have (Limits.frame_bytes)" in result.message
        )
        assert session.restarts == 0
        assert output(session, "given") == "1\n"
