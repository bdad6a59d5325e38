"""Every call of a text has one deadline and one cancel, and an answer of bounded size."""

from __future__ import annotations

import threading
import time

import pytest

from sandbox_runtime import Directory, Limits, TextFile, TextStream
from sandbox_runtime.texts import calls as text_calls
from sandbox_runtime.texts.calls import MAX_CONTEXT_LINES, MAX_HITS, TextCalls
from sandbox_runtime.texts.lazy_text import last_place
from sandbox_runtime.texts.search import MAX_FOUND_CHARS
from sandbox_runtime.texts.search_worker import cost_of

# What each operation is asked for on a text that has no end, or on a folder.
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

# The work of one call on the host beyond its deadline, in seconds of the processor: that of a block.
MARGIN = 1.5


def endless() -> TextStream:
    """A text that goes on as long as it is read."""

    def pieces():
        while True:
            yield "some line\n" * 1000

    return TextStream(pieces())


def outcome(call, *arguments):
    """What ended a call: the name of an exception, or what its answer says."""
    try:
        told = call(*arguments)
    except Exception as error:  # noqa: BLE001 - the name is what the test looks at
        return type(error).__name__
    return "stopped" if isinstance(told, dict) and told["stopped"] else "ended"


def test_all_operations_are_in_these_tables():
    """A new one must be asked here as well."""
    assert set(ENDLESS) == set(text_calls._OF_TEXTS)
    assert set(IN_FOLDER) == set(text_calls._OF_DIRECTORIES)


class TestDeadline:
    @pytest.mark.parametrize("operation", ENDLESS)
    def test_it_ends_every_call(self, operation):
        """Within its time and the work of one block; a search tells what it has."""
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
        """From another thread, as when a cell is interrupted; then nothing works on."""
        calls, ended = TextCalls(Limits()), []
        work = threading.Thread(
            target=lambda: ended.append(outcome(calls, endless(), operation, *ENDLESS[operation]))
        )
        work.start()
        while not calls._running and work.is_alive():
            time.sleep(0.001)
        calls.cancel()
        work.join(20)
        calls.close()

        assert not work.is_alive()
        assert ended == ["InterruptedError"]

    @pytest.mark.parametrize("operation", [*ENDLESS, *IN_FOLDER])
    def test_nothing_begins_once_it_is_closed(self, operation, tmp_path):
        """A call that comes in while the session closes must not outlive it."""
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
        """Is waited for no longer than the call's own time."""
        folder = Directory(tmp_path)
        calls = TextCalls(Limits(search_seconds=0.2))

        with folder._lock:
            ended = outcome(calls, folder, operation, *IN_FOLDER[operation])

        assert ended in ("TimeoutError", "stopped")

    @pytest.mark.parametrize("operation", ENDLESS)
    def test_a_text_that_another_session_is_busy_with(self, operation):
        """Is waited for no longer than the call's own time, too."""
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
    """Lines around a match: as many as 100 before and after each of 10,000."""

    def test_they_cost_no_more_than_the_lines_that_are_shown(self, tmp_path):
        """In a block of 131,072 lines each of 200 lines was looked for from the block's beginning."""
        file = tmp_path / "a.txt"
        file.write_text("a\n" * 131_072)
        calls = TextCalls(Limits(search_seconds=60))
        started = time.thread_time()
        try:
            told = calls(TextFile(file), "grep", "a", 0, 260_000, 100, 100, 500)
        finally:
            calls.close()

        assert len(told["hits"]) == 500
        assert [len(lines) for lines in told["hits"][0]["around"]] == [100, 100]
        assert time.thread_time() - started < 5

    def test_the_deadline_holds_for_them(self, tmp_path):
        """What has its context by then is the answer."""
        file = tmp_path / "a.txt"
        file.write_text("\n".join("x" * (n % 3 * 900) + "a" for n in range(30_000)))
        calls = TextCalls(Limits(search_seconds=0.2))
        started = time.thread_time()
        try:
            told = calls(
                TextFile(file), "grep", "a", 0, 0, MAX_CONTEXT_LINES, MAX_CONTEXT_LINES, MAX_HITS
            )
        finally:
            calls.close()

        assert "Limits.search_seconds" in told["stopped"] or told["more"]
        assert all("around" in hit for hit in told["hits"])
        assert time.thread_time() - started < 0.2 + MARGIN

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\n" * 3])
    @pytest.mark.parametrize("around", [(0, 1), (1, 0), (3, 2), (100, 100)])
    def test_they_are_the_lines_of_the_text(self, tmp_path, end, around):
        """Each as it is, or its first 1,000 characters; also long ones side by side."""
        lines = [f"{n}" + "é" * (2000 if n % 4 == 0 else n) for n in range(40)]
        file = tmp_path / "a.txt"
        file.write_bytes(end.join(lines).encode())
        text = file.read_bytes().decode().split("\n")
        shown = [t.removesuffix("\r") if len(t) <= 1000 else t[:1000] + "[...]" for t in text]
        calls, (before, after) = TextCalls(Limits()), around
        try:
            told = calls(TextFile(file), "grep", r"^\d", 0, 0, before, after, 100)
        finally:
            calls.close()

        assert len(told["hits"]) == 40
        for hit in told["hits"]:
            at = hit["line"] - 1
            assert hit["around"] == [
                shown[max(0, at - before) : at],
                shown[at + 1 : at + 1 + after],
            ]


class TestCost:
    """What one call may cost the host, whatever is in the text."""

    def test_a_start_in_bytes_that_are_no_text(self, tmp_path):
        """Every match before it was found and thrown away, each by decoding the block once more."""
        file = tmp_path / "a.bin"
        file.write_bytes(b"\xff" + b"a" * 250_000 + b"\xe2\x82" * 50)
        calls, text = TextCalls(Limits(search_seconds=60)), TextFile(file)
        started = time.thread_time()

        assert calls(text, "find", "a", 200_000, None) == 200_000
        assert calls(text, "find", "a", 250_001, None) == -1

        assert time.thread_time() - started < 1

    def test_a_needle_that_nearly_fits_everywhere(self, tmp_path):
        """`str.rfind` compares all of it at every place: hours, in one step that nothing can stop."""
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
        """Short needles and long ones."""
        text = "abaab" * 100 + "b" + "abaab" * 20
        for at in range(0, len(text) - length, 7):
            needle = text[at : at + length]
            assert last_place(text, needle) == text.rfind(needle)
        assert last_place(text, "c" * length) == -1

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
    def test_groups_count_in_what_a_search_gives(self, tmp_path, pattern):
        """Places and names of groups cost like text; an answer that is full says that there is more."""
        file = tmp_path / "a.txt"
        file.write_text(("a" * 60_000 + "\n") * 40)
        calls = TextCalls(Limits())
        try:
            told = calls(TextFile(file), "search", pattern, 0, 0, None, MAX_HITS)
        finally:
            calls.close()

        assert told["hits"]
        most = max(map(cost_of, told["hits"]))
        assert sum(map(cost_of, told["hits"])) <= MAX_FOUND_CHARS + most
        assert most < 1_200_000
        assert told["more"]

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
        """However long that takes, this process does next to nothing, and the next search works."""
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
