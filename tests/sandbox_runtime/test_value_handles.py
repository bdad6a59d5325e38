"""Handles: valid only after the whole value has crossed, with numbers that cannot be guessed."""

from __future__ import annotations

import threading

import pytest
from value_samples import (
    Plain,
)

from sandbox_runtime.errors import ValueCrossingError
from sandbox_runtime.values.encoder import ValueCodec
from sandbox_runtime.values.type_rules import HandleType


class TestHandles:
    """A handle is valid only if it reached the sandbox, and one value has one handle."""

    def test_a_value_that_did_not_cross(self):
        """A value that cannot cross leaves no handle to any of its parts."""
        value_codec = ValueCodec([HandleType(Plain)])
        with pytest.raises(ValueCrossingError):
            value_codec.encode([Plain(), threading.Lock()], "v")

        assert not value_codec._handles._values

    def test_numbers_cannot_be_guessed(self):
        """Numbers are random, not sequential, and exact as JSON numbers."""
        value_codec = ValueCodec([HandleType(Plain)])
        value_codec.encode([Plain() for _ in range(100)], "v")

        numbers = sorted(value_codec._handles._values)

        assert len(numbers) == 100
        assert numbers[0] > 2**40
        assert numbers[-1] < 2**53

    def test_one_object_has_one_number(self):
        """An object keeps its number in values that cross at different times."""
        value_codec, plain = ValueCodec([HandleType(Plain)]), Plain()
        for _ in range(3):
            value_codec.encode([plain, plain], "v")

        assert len(value_codec._handles._values) == 1
