"""Limits: the bounds of a session, validated at construction."""

from __future__ import annotations

import dataclasses
import math

import pytest

from sandbox_runtime import Limits

FIELDS = [field.name for field in dataclasses.fields(Limits) if field.type != "bool"]
COUNTS = ["concurrent_calls", "memory_bytes", "output_chars", "frame_bytes"]


class TestLimits:
    """A frozen value that cannot be invalid."""

    def test_the_defaults_are_sound(self):
        """All limits have valid defaults."""
        assert Limits().cell_seconds == 60.0

    def test_limits_do_not_change(self):
        """A session's bounds are what they were when it was opened."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            Limits().cell_seconds = 1  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (field, value)
            for field in FIELDS
            for value in (0, -1, math.nan, math.inf, None, "60", True)
            if (field, value) != ("call_seconds", None)
        ],
    )
    def test_every_bound_is_a_positive_number(self, field, value):
        """No number means "no limit" by accident; the error names the field."""
        with pytest.raises(ValueError, match=rf"Limits\.{field} must be a .* number, not"):
            Limits(**{field: value})

    @pytest.mark.parametrize("value", [0, 1, None, "yes"])
    def test_a_requirement_is_a_yes_or_a_no(self, value):
        """`require_wall` accepts only True and False."""
        with pytest.raises(ValueError, match=r"Limits\.require_wall must be True or False, not"):
            Limits(require_wall=value)

    @pytest.mark.parametrize("field", COUNTS)
    def test_counts_are_whole(self, field):
        """Half a byte or character would only fail later, inside the sandbox."""
        with pytest.raises(
            ValueError, match=rf"Limits\.{field} must be a whole number, not 300000000\.0"
        ):
            Limits(**{field: 3e8})

    @pytest.mark.parametrize("field", [name for name in FIELDS if name not in COUNTS])
    def test_times_may_be_fractions(self, field):
        """Seconds are floats, and whole seconds are fine."""
        assert getattr(Limits(**{field: 0.5}), field) == 0.5
        assert getattr(Limits(**{field: 3}), field) == 3

    @pytest.mark.parametrize("size", [1, 128 * 2**20 - 1, 2**32 + 1])
    def test_memory_is_what_the_interpreter_can_use(self, size):
        """Too little for Python itself, or more than 32 bits address: the message says the range."""
        with pytest.raises(ValueError, match="from 134,217,728 to 4,294,967,296"):
            Limits(memory_bytes=size)

    @pytest.mark.parametrize("size", [128 * 2**20, 2**32])
    def test_the_ends_of_the_range_are_in_it(self, size):
        """Both ends of the range are valid."""
        assert Limits(memory_bytes=size).memory_bytes == size
