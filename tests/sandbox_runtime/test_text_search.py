"""Regular expressions in lazy texts: results as of `re`, in a process that can be killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time

import pytest
from cells import is_alive
from hypothesis import given, settings
from hypothesis import strategies as st
from small_texts import LETTERS, forever, in_small_blocks

from sandbox_runtime import (
    Limits,
    TextFile,
    TextStream,
)
from sandbox_runtime.texts.calls import TextCalls
from sandbox_runtime.texts.search import Searcher


@pytest.fixture(scope="module")
def searcher():
    """A searcher with one process for all searches of this module."""
    one = Searcher()
    yield one
    one.close()


def search(searcher, *arguments, **bounds):
    """Returns the matches of a search."""
    hits = []
    searcher.search(*arguments, hits.append, **bounds)
    return hits


class TestSearch:
    @settings(deadline=None, max_examples=100)
    @given(
        LETTERS,
        st.sampled_from(
            ["a+", "^a", "b$", "a\\s+a", "é|€", "(a)(b)?", "\\ba", "a*", "(?<=a)b", "😀"]
        ),
        st.integers(0, 20),
    )
    def test_matches_are_those_of_re(self, searcher, content, pattern, start):
        """Spans, groups and lines are those of `re`; `^` and `$` match at every line."""
        text, start = in_small_blocks(content.encode()), min(start, len(content))
        hits = search(searcher, text.index, pattern, 0, forever(), start=start, limit=1000)
        real = list(re.compile(pattern, re.MULTILINE).finditer(content, start))

        assert [tuple(hit["spans"][0]) for hit in hits] == [match.span() for match in real]
        assert [hit["groups"][1:] for hit in hits] == [list(match.groups()) for match in real]
        assert [hit["line"] for hit in hits] == [
            content.count("\n", 0, match.start()) + 1 for match in real
        ]

    @settings(deadline=None, max_examples=100)
    @given(
        LETTERS,
        st.sampled_from(
            [
                "a",
                "aa",
                "^$",
                "a.*b",
                "[^b]+b",
                "é",
                "b$",
                "[ab]{2,3}",
                "(a|é)+ ?",
                "^(?i:A|É)",
                "\\ba*b",
            ]
        ),
    )
    def test_a_grep_finds_the_first_match_of_each_line(self, searcher, content, pattern):
        """A line excludes its line end, which may be CR LF."""
        text = in_small_blocks(content.encode())
        hits = search(searcher, text.index, pattern, 0, forever(), lines=True, limit=1000)
        lines = content.split("\n")[: None if not content.endswith("\n") else -1] if content else []
        expected = [
            (number, line)
            for number, line in enumerate((line.removesuffix("\r") for line in lines), 1)
            if re.search(pattern, line)
        ]

        assert [(hit["line"], hit["text"]) for hit in hits] == expected

    def test_matches_are_found_across_blocks_and_in_endless_lines(self, searcher, tmp_path):
        """A line of 20 MB is searched in pieces; the line numbers after it are right."""
        file = tmp_path / "long.txt"
        file.write_text(
            "x" * 10_000_000 + "needle 1" + "é" * 5_000_000 + "\nneedle 2\n" + "y\n" * 3
        )
        text = TextFile(file)

        for lines in (False, True):
            hits = search(searcher, text.index, r"needle \d", 0, forever(), lines=lines, limit=9)
            assert [hit["spans"][0][0] for hit in hits] == [10_000_000, 15_000_009]
            assert [hit["line"] for hit in hits] == [1, 2]
            assert "needle 1" in hits[0]["text"]
            assert len(hits[0]["text"]) < 1100

    def test_a_pattern_that_never_ends_is_stopped(self, tmp_path):
        """The search stops at its deadline and returns the matches so far; the next search works."""
        file = tmp_path / "trap.txt"
        file.write_text("x1\n" + "a" * 5000 + "b\n")
        calls = TextCalls(Limits(search_seconds=0.5))
        try:
            started = time.monotonic()
            answer = calls(TextFile(file), "search", "(a+)+$|x1", 0, 0, None, 5)
            assert time.monotonic() - started < 60  # without the deadline, years
            assert "Limits.search_seconds" in answer["stopped"]
            assert calls(TextFile(file), "search", "x1", 0, 0, None, 5)["hits"]
        finally:
            calls.close()

    def test_a_pattern_that_needs_much_memory_is_refused(self, searcher, tmp_path):
        """The search process has little memory, and its death does not harm the host."""
        file = tmp_path / "a.txt"
        file.write_text("a" * 1000)

        with pytest.raises(ValueError, match="pattern cannot be searched for"):
            search(searcher, TextFile(file).index, "(" * 9000 + ")" * 9000, 0, forever())
        assert search(searcher, TextFile(file).index, "a", 0, forever())

    def test_an_interrupt_ends_a_search(self, tmp_path):
        """A running search can be cancelled from another thread."""
        file = tmp_path / "trap.txt"
        file.write_text("a" * 5000 + "b")
        calls = TextCalls(Limits())

        def cancel() -> None:
            while not calls.running:
                time.sleep(0.001)
            for deadline in calls.running:
                deadline.cancel()

        threading.Thread(target=cancel, daemon=True).start()

        with pytest.raises(InterruptedError):
            calls(TextFile(file), "search", "(a+)+$", 0, 0, None, 1)
        calls.close()

    def test_a_process_that_dies_during_a_search(self):
        """The search fails with a clear error and keeps its matches; the next search works."""
        searcher = Searcher()

        def pieces():
            yield "one needle\n" + "x\n" * 1_500_000
            searcher._process.kill()
            searcher._process.wait()
            yield "another needle\n"

        text, hits = TextStream(pieces()), []
        try:
            with pytest.raises(ValueError, match="ended without an answer"):
                searcher.search(text.index, "needle", 0, forever(), hits.append, limit=9)
            assert [hit["line"] for hit in hits] == [1]
            assert len(search(searcher, text.index, "needle", 0, forever(), limit=9)) == 2
        finally:
            searcher.close()

    def test_no_process_starts_after_close(self):
        """After `close` neither a running search nor a new one starts a process."""
        searcher = Searcher()

        def pieces():
            yield "x\n" * 1_500_000
            searcher.close()
            yield "needle\n"

        text = TextStream(pieces())
        for _ in range(2):
            with pytest.raises(ValueError, match="ended without an answer"):
                search(searcher, text.index, "needle", 0, forever())
        assert searcher._process is None

    def test_no_match_is_lost_beyond_one_answer(self, tmp_path):
        """A truncated answer says that there is more, so the next search continues after it."""
        file = tmp_path / "a.txt"
        file.write_text(("a" * 10_000 + "b") * 100)
        text, pattern = TextFile(file), "(" * 20 + "a{10000}" + ")" * 20
        calls, begins, answers, start = TextCalls(Limits()), [], 0, 0
        try:
            while start is not None:
                answer = calls(text, "search", pattern, 0, start, None, 1000)
                begins += [hit["spans"][0][0] for hit in answer["hits"]]
                start = begins[-1] + 1 if answer["more"] else None
                answers += 1
        finally:
            calls.close()

        assert answers > 1
        assert begins == [10_001 * number for number in range(100)]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="looks at processes as POSIX has them")
    def test_nothing_is_left_when_the_host_is_killed(self, tmp_path):
        """The search process ends when its stdin does, also while a pattern runs; elsewhere at the latest by its watchdog."""
        seconds = 600.0 if sys.platform == "linux" else 1.0
        file = tmp_path / "trap.txt"
        file.write_text("a" * 5000 + "b")
        program = (
            "import sys, threading, time\n"
            "from sandbox_runtime import TextFile\n"
            "from sandbox_runtime.texts.deadline import Deadline\n"
            "from sandbox_runtime.texts.search import Searcher\n"
            "s = Searcher()\n"
            f"t = TextFile({str(file)!r})\n"
            "s.search(t.index, 'b', 0, Deadline(), [].append)\n"
            "print(s._process.pid, flush=True)\n"
            f"s.search(t.index, '(a+)+$', 0, Deadline({seconds}, 'x'), [].append)\n"
        )
        host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        worker = int(host.stdout.readline())
        time.sleep(0.2)  # so that the pattern is running
        host.kill()
        host.wait()
        host.stdout.close()

        end = time.monotonic() + 60
        while is_alive(worker):
            assert time.monotonic() < end
            time.sleep(0.05)
