"""Every call on a text has one deadline, can be cancelled, and returns an answer of bounded size."""

from __future__ import annotations

import threading
import time

import pytest

from sandbox_runtime import Directory, Limits, TextFile, TextStream
from sandbox_runtime.texts import calls as text_calls
from sandbox_runtime.texts.arguments import MAX_CONTEXT_LINES, MAX_HITS
from sandbox_runtime.texts.calls import TextCalls
from sandbox_runtime.texts.lazy_text import last_place
from sandbox_runtime.texts.search import MAX_FOUND_CHARS
from sandbox_runtime.texts.search_worker import cost_of

# The arguments of each operation on an endless text, or on a folder.
FAR = 2**60
ENDLESS = {
    "length": (),
    "read": (FAR, FAR + 10),
    "lines": (FAR, None),
    "line_of": (FAR,),
    "char_of": (FAR,),
    "find": ("absent", 0, None),
    "rfind": ("absent", 0, None),
    "count": ("absent", 0, None),
    "search": ("absent", 0, 0, None, 1),
    "grep": ("absent", 0, 0, 1, 1, 1),
}
IN_FOLDER = {
    "sizes": (None,),
    "file": ("a.txt",),
    "grep": ("(x+)+$", 0, None, 1, 1, 1),
}

# CPU seconds that one call may take beyond its deadline: the work of a block.
MARGIN = 1.5


def endless() -> TextStream:
    """Creates a text without an end."""

    def pieces():
        while True:
            yield "some line\n" * 1000

    return TextStream(pieces())


def outcome(call, *arguments):
    """Returns how a call ended: the name of its exception, or the state in its answer."""
    try:
        answer = call(*arguments)
    except Exception as error:  # noqa: BLE001 - the test checks the name
        return type(error).__name__
    return "stopped" if isinstance(answer, dict) and answer["stopped"] else "ended"


def test_the_tables_list_all_operations():
    """A new operation must be added to these tables."""
    assert set(ENDLESS) == set(text_calls._OF_TEXTS)
    assert set(IN_FOLDER) == set(text_calls._OF_DIRECTORIES)


class TestDeadline:
    @pytest.mark.sampled(4)
    @pytest.mark.parametrize("operation", ENDLESS)
    def test_it_ends_every_call(self, operation):
        """A call ends at its deadline plus the work of one block; a search returns its matches so far."""
        calls = TextCalls(Limits(search_seconds=0.3))
        started = time.thread_time()
        try:
            ended = outcome(calls, endless(), operation, *ENDLESS[operation])
        finally:
            calls.close()

        assert ended == ("stopped" if operation in ("search", "grep") else "TimeoutError")
        assert time.thread_time() - started < 0.3 + MARGIN

    @pytest.mark.parametrize("operation", ENDLESS)
    def test_a_cancel_ends_every_call(self, operation):
        """A cancellation from another thread, as at an interrupt, ends the work."""
        calls, ended = TextCalls(Limits()), []
        work = threading.Thread(
            target=lambda: ended.append(outcome(calls, endless(), operation, *ENDLESS[operation]))
        )
        work.start()
        while not calls._running and work.is_alive():
            time.sleep(0.001)
        for deadline in calls.running:
            deadline.cancel()
        work.join(60)
        calls.close()

        assert not work.is_alive()
        assert ended == ["InterruptedError"]

    @pytest.mark.parametrize("operation", [*ENDLESS, *IN_FOLDER])
    def test_nothing_begins_once_it_is_closed(self, operation, tmp_path):
        """A call that arrives while the session closes must not outlive it."""
        (tmp_path / "a.txt").write_text("text\n")
        calls = TextCalls(Limits())
        calls.close()

        if operation in ENDLESS:
            assert outcome(calls, endless(), operation, *ENDLESS[operation]) == "InterruptedError"
        if operation in IN_FOLDER:
            folder = Directory(tmp_path)
            assert outcome(calls, folder, operation, *IN_FOLDER[operation]) == "InterruptedError"

    @pytest.mark.parametrize("operation", IN_FOLDER)
    def test_a_folder_that_another_session_is_busy_with(self, operation, tmp_path):
        """A call waits for a folder's lock no longer than its own deadline."""
        folder = Directory(tmp_path)
        calls = TextCalls(Limits(search_seconds=0.2))

        with folder._lock:
            ended = outcome(calls, folder, operation, *IN_FOLDER[operation])

        assert ended in ("TimeoutError", "stopped")

    @pytest.mark.parametrize("operation", ENDLESS)
    def test_a_text_that_another_session_is_busy_with(self, operation):
        """A call waits for a text's lock no longer than its own deadline."""
        text = endless()
        calls = TextCalls(Limits(search_seconds=0.2))
        held, free = threading.Event(), threading.Event()

        def hold():
            with text.index._lock:
                held.set()
                free.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        ended = outcome(calls, text, operation, *ENDLESS[operation])
        free.set()
        holder.join()
        calls.close()

        assert ended in ("TimeoutError", "stopped")


class TestContext:
    """Context of a match: up to 100 lines before and after each of 10,000."""

    def test_context_costs_no_more_than_its_lines(self, tmp_path):
        """Each of 200 lines was once searched from the beginning of its block of 131,072 lines."""
        file = tmp_path / "a.txt"
        file.write_text("a\n" * 131_072)
        calls = TextCalls(Limits(search_seconds=60))
        started = time.thread_time()
        try:
            answer = calls(TextFile(file), "grep", "a", 0, 260_000, 100, 100, 500)
        finally:
            calls.close()

        assert len(answer["hits"]) == 500
        assert [len(lines) for lines in answer["hits"][0]["around"]] == [100, 100]
        assert time.thread_time() - started < 5

    def test_context_is_bounded_by_the_deadline(self, tmp_path):
        """At the deadline, the answer holds the matches whose context is complete."""
        file = tmp_path / "a.txt"
        file.write_text("\n".join("x" * (n % 3 * 900) + "a" for n in range(30_000)))
        calls = TextCalls(Limits(search_seconds=0.2))
        started = time.thread_time()
        try:
            answer = calls(
                TextFile(file), "grep", "a", 0, 0, MAX_CONTEXT_LINES, MAX_CONTEXT_LINES, MAX_HITS
            )
        finally:
            calls.close()

        assert "Limits.search_seconds" in answer["stopped"] or answer["more"]
        assert all("around" in hit for hit in answer["hits"])
        assert time.thread_time() - started < 0.2 + MARGIN

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\n" * 3])
    @pytest.mark.parametrize("around", [(0, 1), (1, 0), (3, 2), (100, 100)])
    def test_context_lines_are_lines_of_the_text(self, tmp_path, end, around):
        """Context lines are complete, or truncated to 1,000 characters, also adjacent long ones."""
        lines = [f"{n}" + "é" * (2000 if n % 4 == 0 else n) for n in range(40)]
        file = tmp_path / "a.txt"
        file.write_bytes(end.join(lines).encode())
        text = file.read_bytes().decode().split("\n")
        expected = [t.removesuffix("\r") if len(t) <= 1000 else t[:1000] + "[...]" for t in text]
        calls, (before, after) = TextCalls(Limits()), around
        try:
            answer = calls(TextFile(file), "grep", r"^\d", 0, 0, before, after, 100)
        finally:
            calls.close()

        assert len(answer["hits"]) == 40
        for hit in answer["hits"]:
            at = hit["line"] - 1
            assert hit["around"] == [
                expected[max(0, at - before) : at],
                expected[at + 1 : at + 1 + after],
            ]


class TestCost:
    """The cost of one call to the host is bounded for any text."""

    def test_a_start_in_bytes_that_are_no_text(self, tmp_path):
        """Once, every match before the start was found and dropped, each by decoding the block again."""
        file = tmp_path / "a.bin"
        file.write_bytes(b"\xff" + b"a" * 250_000 + b"\xe2\x82" * 50)
        calls, text = TextCalls(Limits(search_seconds=60)), TextFile(file)
        started = time.thread_time()

        assert calls(text, "find", "a", 200_000, None) == 200_000
        assert calls(text, "find", "a", 250_001, None) == -1

        assert time.thread_time() - started < 1

    def test_a_needle_that_nearly_fits_everywhere(self, tmp_path):
        """`str.rfind` would compare it at every position, for hours, and cannot be interrupted."""
        file = tmp_path / "a.txt"
        file.write_text("a" * 2_000_000)
        calls = TextCalls(Limits(search_seconds=60))
        started = time.thread_time()
        for needle in ("a" + "b" + "a" * 400_000, "b" + "a" * 400_000, "a" * 400_000 + "b"):
            for operation in ("find", "rfind"):
                assert calls(TextFile(file), operation, needle, 0, None) == -1
            assert calls(TextFile(file), "count", needle, 0, None) == 0

        assert time.thread_time() - started < 5

    @pytest.mark.parametrize("length", [1, 31, 32, 33, 40, 200])
    def test_the_last_place_is_that_of_rfind(self, length):
        """`last_place` equals `str.rfind` for short needles and long ones."""
        text = "abaab" * 100 + "b" + "abaab" * 20
        for at in range(0, len(text) - length, 7):
            needle = text[at : at + length]
            assert last_place(text, needle) == text.rfind(needle)
        assert last_place(text, "c" * length) == -1

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize(
        "pattern",
        [
            "()" * 1919 + "a",
            "(" * 90 + "a" + ")" * 90,
            "".join(f"(?P<n{'x' * 8}{n}>)" for n in range(900)) + "a",
            "(" * 40 + "a{60000}" + ")" * 40,
        ],
        ids=["groups", "nested", "names", "long"],
    )
    def test_groups_count_towards_the_cost_of_an_answer(self, tmp_path, pattern):
        """Spans and group names cost like text; a full answer says that there is more."""
        file = tmp_path / "a.txt"
        file.write_text(("a" * 60_000 + "\n") * 40)
        calls = TextCalls(Limits())
        try:
            answer = calls(TextFile(file), "search", pattern, 0, 0, None, MAX_HITS)
        finally:
            calls.close()

        assert answer["hits"]
        most = max(map(cost_of, answer["hits"]))
        assert sum(map(cost_of, answer["hits"])) <= MAX_FOUND_CHARS + most
        assert most < 1_200_000
        assert answer["more"]

    @pytest.mark.parametrize(
        "pattern",
        [
            "(?:" * 500 + "a" + "{0,9})" * 500,
            "((a{1,1000}){1,1000}){1,1000}",
            "(?i)" + "[\U00010000-\U0010ffff]" * 400,
            "(?:" * 6000 + ")" * 6000,
            "x" * 20_000,
            "|".join(f"(a{n})" for n in range(2500)),
            "[" * 20_000,
            "(a|a)*" * 3000 + "$",
            "(?=" * 300 + "a*" + ")" * 300 + "b",
        ],
        ids=range(9),
    )
    def test_patterns_are_compiled_in_the_process_that_may_be_killed(self, tmp_path, pattern):
        """Compiling a hostile pattern costs the host next to nothing, and the next search works."""
        file = tmp_path / "a.txt"
        file.write_text("a" * 5000 + "\n")
        calls = TextCalls(Limits(search_seconds=1))
        started = time.thread_time()
        try:
            ended = outcome(calls, TextFile(file), "search", pattern, 0, 0, None, 10)
            assert ended in ("ended", "stopped", "ValueError")
            assert time.thread_time() - started < MARGIN
            assert calls(TextFile(file), "search", "a+", 0, 0, None, 10)["hits"]
        finally:
            calls.close()


class TestArguments:
    @pytest.mark.parametrize(
        ("operation", "arguments"),
        [
            ("read", [0, 10**9]),
            ("read", [-1, 1]),
            ("read", ["0", 1]),
            ("read", [True, 1]),
            ("read", [2**80, 2**80]),
            ("find", [b"x", 0, None]),
            ("find", ["x" * 2_000_000, 0, None]),
            ("search", ["x", 4096, 0, None, 1]),
            ("search", ["x" * 30_000, 0, 0, None, 1]),
            ("search", ["x", 0, 0, None, 10**9]),
            ("search", ["x"]),
            ("grep", ["x", 0, 0, 10**6, 0, 1]),
            ("lines", [0, 1]),
            ("_length", []),
            ("__class__", []),
            ("close", []),
            (["read"], [0, 1]),
        ],
    )
    def test_wrong_arguments_are_refused(self, operation, arguments):
        """Types, ranges and sizes are checked before the call does any work."""
        calls = TextCalls(Limits())
        with pytest.raises((TypeError, ValueError, LookupError)):
            calls(TextStream(["abc"]), operation, *arguments)

    def test_other_handles_are_refused(self):
        """Handles of other values have no such operations."""
        with pytest.raises(LookupError):
            TextCalls(Limits())(object(), "read", 0, 1)
