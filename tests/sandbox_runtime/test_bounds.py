"""Bounds that hold whatever a cell does to its own side of them."""

from __future__ import annotations

import threading

import pytest

from sandbox_runtime import Completed, Failed, Limits, Submitted, open_session

VALUE_BYTES = 1_000_000


@pytest.fixture
def small():
    """A session that lets out a megabyte at a time, with a tool."""
    with open_session(
        Limits(frame_bytes=VALUE_BYTES), tools={"size": len}, outputs={"text": "str"}
    ) as session:
        session.run_cell("kept = 1")
        yield session


class TestLargeValues:
    """One that is too large fails where it is sent. It does not cost the session."""

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize(
        ("code", "label"),
        [
            ("SUBMIT('x' * 2_000_000)", "SUBMIT() values"),
            ("SUBMIT(['é' * 600_000])", "SUBMIT() values"),
            ("size('x' * 2_000_000)", "size() arguments"),
            ("size(b'x' * 2_000_000)", "size() arguments"),
            ("await size.aio(['x'] * 600_000)", "size.aio() arguments"),
            ("size.batched(['x' * 600_000] * 2)", "size.batched() arguments"),
        ],
    )
    def test_is_refused_with_the_numbers(self, small, code, label):
        """And the next cell finds everything as it was."""
        result = small.run_cell(code)

        assert isinstance(result, Failed)
        assert result.error_type == "ValueError", result
        assert result.message.startswith(f"{label} take ")
        assert "more than the 1,000,000 that one value may have" in result.message
        assert small.run_cell("kept") == Completed("1\n")
        assert small.restarts == 0

    def test_the_largest_that_fits(self, small):
        """The limit is the value's own; what travels around it does not count."""
        text = "x" * (VALUE_BYTES - 1000)

        assert small.run_cell(f"size({text!r})") == Completed(f"{len(text)}\n")
        assert small.run_cell(f"SUBMIT({text!r})") == Submitted({"text": text}, "")


def test_a_cell_that_pretends_to_wait():
    """The clock stands while a cell waits for the host; the system's own tells that this one does not."""
    over = threading.Event()
    limits = Limits(cell_seconds=0.3, grace_seconds=0.3)
    with open_session(limits, tools={"slow": lambda: over.wait(100)}) as session:
        session.assign("kept", 1)
        result = session.run_cell(
            "import asyncio\n"
            "from sandbox_runtime.guest import entry\n"
            "call = asyncio.ensure_future(slow.aio())\n"
            "await asyncio.sleep(0.05)\n"
            "while True:\n"
            "    entry._host._worker.setIdle(True)\n"
        )
        over.set()

        assert isinstance(result, Failed)
        assert result.error_type == "CellTimeoutError"
        assert session.run_cell("kept") == Completed("1\n")
