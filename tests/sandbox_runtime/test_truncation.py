"""Text for an LM or a terminal is always encodable."""

from __future__ import annotations

from hypothesis import given
from value_samples import (
    anything,
)

from sandbox_runtime.truncation import printable


class TestPrintable:
    """`printable` makes any text encodable."""

    @given(anything)
    def test_lone_surrogates_are_written_out(self, text):
        """Lone surrogates become escapes; all other characters stay."""
        result = printable(text)

        result.encode()
        assert result == text or "\\ud" in result
