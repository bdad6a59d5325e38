"""Lazy texts: the host's side against real strings, and the guest's side in a real sandbox."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cells import is_alive, output
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_runtime import (
    Directory,
    Failed,
    Limits,
    Submitted,
    TextChangedError,
    TextFile,
    TextStream,
    open_session,
)
from sandbox_runtime.texts.calls import TextCalls
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.lazy_text import LazyText
from sandbox_runtime.texts.search import Searcher

# Few letters, so that searches find matches; of every UTF-8 width, and with line ends.
LETTERS = st.text(alphabet="aab\n\r é€😀\ufffd", max_size=60)


def forever() -> Deadline:
    return Deadline()


def in_small_blocks(data: bytes) -> LazyText:
    """Creates a text with blocks of a few bytes, so that every operation crosses block borders."""
    text = TextStream([])
    source = text.source
    source._file.write(data)
    source.size, source.complete = len(data), True
    return LazyText("small", source, block_bytes=5)


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


class TestLikeAString:
    @settings(deadline=None, max_examples=200)
    @given(LETTERS, st.integers(0, 70), st.integers(0, 70))
    def test_ranges_equal_slices_of_the_text(self, content, start, stop):
        """Positions are characters, whatever they take in bytes."""
        text = in_small_blocks(content.encode())

        assert text.read(start, stop) == content[start:stop]
        assert text.length() == len(content)

    @settings(deadline=None, max_examples=200)
    @given(LETTERS, st.text("aab\né€\ufffd", max_size=3), st.integers(0, 40), st.integers(0, 70))
    def test_find_rfind_and_count_agree_with_str(self, content, needle, start, stop):
        """The results are those of `str` across blocks, within bounds, and for overlapping matches."""
        text = in_small_blocks(content.encode())

        for end in (None, stop):
            assert text.find(needle, start, end, forever()) == content.find(needle, start, end)
            assert text.rfind(needle, start, end, forever()) == content.rfind(needle, start, end)
            assert text.count(needle, start, end, forever()) == content.count(needle, start, end)

    @settings(deadline=None, max_examples=200)
    @given(LETTERS)
    def test_lines_are_those_between_line_feeds(self, content):
        """Every position has a line number, and every line a start."""
        index = in_small_blocks(content.encode()).index

        for at in range(len(content)):
            assert index.line_of_char(at, forever()) == content.count("\n", 0, at) + 1
        begins = [0, *(m.end() for m in re.finditer("\n", content))]
        for number, begin in enumerate(begins, 1):
            assert index.char_of_line(number, forever()) == begin
        assert index.char_of_line(len(begins) + 1, forever()) is None

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"a",
                    b"\n",
                    b"\xc3",
                    b"\xa9",
                    b"\xe2",
                    b"\x82",
                    b"\xac",
                    b"\xf0",
                    b"\x9f",
                    b"\xff",
                ]
            )
        ).map(b"".join)
    )
    def test_invalid_bytes_are_replaced_as_python_does(self, data):
        """Blocks end at character boundaries, so decoding them one by one equals decoding the whole."""
        text, whole = in_small_blocks(data), data.decode("utf-8", "replace")

        assert text.read(0, 1000) == whole
        assert text.length() == len(whole)
        for needle in ("a", "é", "\ufffd", "\ufffda"):
            assert text.find(needle, 1, None, forever()) == whole.find(needle, 1)

    @pytest.mark.parametrize("chars", [10, 100])
    def test_a_preview_is_the_beginning_and_the_end(self, chars):
        """A preview needs no counting of characters."""
        text = in_small_blocks(("é" * 80 + "end").encode())

        preview = text.preview(chars)

        assert preview == ("é" * 5 + "..." + "ééend" if chars == 10 else "é" * 80 + "end")


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
            assert time.monotonic() - started < 5
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
        threading.Timer(0.3, calls.cancel).start()

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
        """The search process ends when its stdin does, or at the latest by its watchdog."""
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
            "s.search(t.index, '(a+)+$', 0, Deadline(1.0, 'x'), [].append)\n"
        )
        host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        worker = int(host.stdout.readline())
        time.sleep(0.2)  # so that the pattern is running
        host.kill()
        host.wait()
        host.stdout.close()

        end = time.monotonic() + 10
        while is_alive(worker):
            assert time.monotonic() < end
            time.sleep(0.05)


class TestFiles:
    @pytest.mark.parametrize(
        ("data", "encoding", "text"),
        [
            ("\ufeffaé".encode(), None, "aé"),
            ("aé\n".encode("utf-16"), None, "aé\n"),
            ("aé\n".encode("utf-32"), None, "aé\n"),
            ("aé\n".encode("latin-1"), "latin-1", "aé\n"),
            ("aé\n".encode("utf-16-le"), "utf-16-le", "aé\n"),
            (b"a\xffb", None, "a\ufffdb"),
            (b"", None, ""),
        ],
    )
    def test_encodings(self, tmp_path, data, encoding, text):
        """The byte order mark or a name selects the encoding; invalid bytes are replaced."""
        file = tmp_path / "t.txt"
        file.write_bytes(data)

        assert TextFile(file, encoding=encoding).read(0, 100) == text

    @pytest.mark.parametrize("change", ["append", "truncate", "replace", "touch", "remove"])
    def test_a_changed_file_is_an_error_that_says_so(self, tmp_path, change):
        """A file that was written to, truncated, replaced or removed raises `TextChangedError`."""
        file = tmp_path / "t.txt"
        file.write_text("one\ntwo\n")
        text = TextFile(file)
        assert text.read(0, 3) == "one"

        if change == "append":
            file.write_text("one\ntwo\nthree\n")
        elif change == "truncate":
            os.truncate(file, 2)
        elif change == "replace":
            (tmp_path / "other").write_text("one\ntwo\n")
            (tmp_path / "other").replace(file)
        elif change == "touch":
            os.utime(file, ns=(1, 1))
        else:
            file.unlink()

        with pytest.raises(
            TextChangedError, match="is gone" if change == "remove" else "has changed"
        ):
            text.read(0, 3)

    def test_missing_paths_are_refused_at_once(self, tmp_path):
        """A missing file or folder raises when the input is created."""
        with pytest.raises(FileNotFoundError):
            TextFile(tmp_path / "none.txt")
        with pytest.raises(NotADirectoryError):
            Directory(tmp_path / "none")


class TestStreams:
    def test_pieces_are_read_once_and_only_as_far_as_needed(self):
        """The iterator is consumed once, only as far as cells read; its pieces are spooled."""
        read = []

        def pieces():
            for n in range(1000):
                read.append(n)
                yield f"line {n}\n" * 100

        text = TextStream(pieces())
        assert read == []
        assert text.read(0, 6) == "line 0"
        assert len(read) < 1000
        assert text.length() == sum(len(f"line {n}\n") for n in range(1000)) * 100
        assert len(read) == 1000
        assert text.read(0, 6) == "line 0"

    def test_a_failed_stream_raises_every_time(self):
        """An iterator's failure is never mistaken for the end of the text."""

        def pieces():
            yield "a"
            raise OSError("the line is dead")

        text = TextStream(pieces(), name="feed")
        with pytest.raises(OSError, match="the line is dead"):
            text.length()
        with pytest.raises(RuntimeError, match="feed failed after 1 bytes"):
            text.length()

    def test_only_bounded_text_is_accepted(self):
        """Bytes and texts beyond `most_bytes` are refused; a lone surrogate is replaced."""
        with pytest.raises(TypeError, match="a str can be an input as it is"):
            TextStream("abc")
        with pytest.raises(TypeError, match="yielded a bytes"):
            TextStream([b"a"]).length()
        with pytest.raises(ValueError, match="more than 10 bytes"):
            TextStream(("aaa" for _ in range(9)), most_bytes=10).length()
        assert TextStream(["a\ud800b"]).read(0, 9) == "a\ufffdb"

    def test_an_endless_stream_times_out(self):
        """The length of an endless stream raises `TimeoutError` at the deadline."""
        text = TextStream("a" * 1000 for _ in iter(int, 1))

        with pytest.raises(TimeoutError):
            text.length(Deadline(0.05, "x"))


@pytest.fixture
def project(tmp_path):
    """A folder with `.gitignore` files, links to the outside, binary and hidden files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("SECRET\n")
    root = tmp_path / "project"
    for path, content in {
        "README.md": "read me\n",
        "src/a.py": "import os\n# TODO one\n",
        "src/deep/b.py": "# TODO two\n",
        "src/deep/keep.log": "TODO kept\n",
        "src/deep/.gitignore": "!keep.log\n",
        "app.log": "TODO log\n",
        "build/out.txt": "TODO built\n",
        ".git/config": "TODO git\n",
        ".env": "TODO hidden\n",
        ".gitignore": "*.log\nbuild/\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    (root / "data.bin").write_bytes(b"TODO\0\0")
    (root / "link.txt").symlink_to(outside / "secret.txt")
    (root / "linked").symlink_to(outside)
    return root


class TestDirectories:
    def test_what_is_listed(self, project):
        """The list is Git's: no hidden or ignored files, and the nearest rules win. Links are left out too."""
        assert list(Directory(project).sizes()) == [
            "README.md",
            "data.bin",
            "src/a.py",
            "src/deep/b.py",
            "src/deep/keep.log",
        ]
        assert list(Directory(project, "src/**/*.py").sizes()) == ["src/a.py", "src/deep/b.py"]
        assert list(Directory(project, "*.py").sizes()) == ["src/a.py", "src/deep/b.py"]
        assert list(Directory(project, "src/*.py").sizes()) == ["src/a.py"]
        assert "app.log" in Directory(project, gitignore=False).sizes()

    @pytest.mark.parametrize(
        "path",
        [
            "../outside/secret.txt",
            "/etc/passwd",
            "link.txt",
            "linked/secret.txt",
            "",
            ".env",
            "src",
        ],
    )
    def test_nothing_else_can_be_read(self, project, path):
        """A path is looked up in the list and never becomes a path of the file system."""
        with pytest.raises(KeyError):
            Directory(project).file(path)

    def test_a_file_or_folder_that_became_a_link_is_not_followed(self, project, tmp_path):
        """A file or folder that was replaced by a link after listing raises an error."""
        folder = Directory(project)
        folder.sizes()
        (project / "README.md").unlink()
        (project / "README.md").symlink_to(tmp_path / "outside" / "secret.txt")
        (project / "src").rename(tmp_path / "elsewhere")
        (project / "src").symlink_to(tmp_path / "elsewhere")

        for path in ("README.md", "src/a.py"):
            with pytest.raises(OSError, match=r"not a regular file|Not a directory|symbolic links"):
                folder.file(path)

    @pytest.mark.parametrize("path", ["src", "src/a.py", "src/deep", "src/deep/b.py"])
    def test_entries_removed_during_the_listing_are_left_out(self, project, path, monkeypatch):
        """Concurrent changes in a folder must not end a run."""
        listed, real = list(Directory(project).sizes()), os.scandir
        gone, parent = project / path, (project / path).parent.stat()

        @contextlib.contextmanager
        def scandir(folder):
            with real(folder) as entries:
                listing = list(entries)
                here = os.stat(folder)  # noqa: PTH116 - a descriptor
                if os.path.samestat(here, parent) and gone.exists():
                    gone.unlink() if gone.is_file() else gone.rename(project.parent / "elsewhere")
                yield iter(listing)

        monkeypatch.setattr(os, "scandir", scandir)

        assert list(Directory(project).sizes()) == [
            other for other in listed if other != path and not other.startswith(f"{path}/")
        ]

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
    def test_an_unreadable_folder(self, project):
        """An unreadable subfolder is left out; an unreadable root is an error, since it may not be empty."""
        (project / "src").chmod(0)
        try:
            assert list(Directory(project).sizes()) == ["README.md", "data.bin"]
        finally:
            (project / "src").chmod(0o755)
        folder = Directory(project)
        project.chmod(0)
        try:
            with pytest.raises(PermissionError):
                folder.sizes()
        finally:
            project.chmod(0o755)

    def test_a_removed_folder(self, project):
        """A removed folder raises an error that does not reveal its path to the cell."""
        folder = Directory(project)
        project.rename(project.parent / "elsewhere")

        with pytest.raises(FileNotFoundError):
            folder.sizes()
        with pytest.raises(TextChangedError) as caught:
            TextCalls(Limits())(folder, "sizes", None)
        assert str(caught.value) == "project cannot be listed: No such file or directory."

    def test_stars_take_no_time(self, project):
        """Globs come from cells, so a hostile one must not take long."""
        calls = TextCalls(Limits())
        with pytest.raises(ValueError, match="2,999 characters"):
            calls(Directory(project), "sizes", "/".join(["**"] * 1000))
        started = time.monotonic()
        (project / ("a" * 200)).write_text("")
        assert calls(Directory(project), "sizes", "a*a*a*a*a*a*a*a*a*ab") == []
        assert time.monotonic() - started < 1


class TestCalls:
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


@pytest.fixture(scope="module")
def session():
    """One session for all cells of this module."""
    received = []
    with open_session(tools={"take": lambda value: received.append(value) or "taken"}) as one:
        one.received = received
        yield one


CONTENT = "".join(f"{n}: é line of {n % 7} words\r\n" for n in range(30_000))


@pytest.fixture
def text(session, tmp_path):
    """A file of 30,000 lines as `text`, and the same text as `plain`."""
    file = tmp_path / "log.txt"
    file.write_bytes(CONTENT.encode())
    text = TextFile(file)
    session.assign({"text": text, "plain": CONTENT})
    return text


def failure(session, code: str) -> str:
    result = session.run_cell(code)
    assert isinstance(result, Failed), result
    return f"{result.error_type}: {result.message}"


class TestCells:
    @pytest.mark.parametrize(
        "expression",
        [
            "len({})",
            "{}[5:25]",
            "{}[-30:]",
            "{}[-30:-10]",
            "{}[10:5]",
            "{}[3]",
            "{}[-3]",
            "{}[::-1000]",
            "{}[100:9000:777]",
            "{}[:]",
            "{}.find('29999')",
            "{}.find('6 words', 500, 900)",
            "{}.find('nowhere')",
            "{}.rfind('line')",
            "{}.rfind('line', 0, -9000)",
            "{}.index('500: ')",
            "{}.count('é line')",
            "'é line of 6' in {}, 'x' in {}",
            "{}.startswith('0: é'), {}.startswith(('x', '0')), {}.endswith('words\\r\\n')",
            "bool({}), str({})[:10], f'{{{}}}'[-9:]",
            "{}.splitlines()[1234]",
        ],
    )
    def test_it_behaves_like_a_str(self, session, text, expression):
        """An expression has the same result for a lazy text as for a plain one."""
        lazy, plain = expression.replace("{}", "text"), expression.replace("{}", "plain")
        lazy, plain = (e.replace("{{", "{").replace("}}", "}") for e in (lazy, plain))

        assert output(session, lazy) == output(session, plain)

    def test_lines(self, session, text):
        """Lines count from 1 and come without their ends; iteration yields all of them."""
        assert output(session, "text.line(1), text.line(30_000)") == (
            "('0: é line of 0 words', '29999: é line of 4 words')"
        )
        assert output(session, "text.lines(2, 3)") == (
            "['1: é line of 1 words', '2: é line of 2 words']"
        )
        assert output(session, "list(text) == plain.splitlines() == text.lines()") == "True"
        assert output(session, "at = text.line_start(77)\ntext.line_number(at), text[at:at+4]") == (
            "(77, '76: ')"
        )
        assert output(session, "''.join(text.chunks(100_000)) == plain") == "True"
        assert "count from 1" in failure(session, "text.line(0)")
        assert "no line 30001" in failure(session, "text.line(30_001)")

    def test_regular_expressions(self, session, text):
        """Matches are like those of `re`, found on the host."""
        assert (
            output(
                session,
                "m = text.search(r'^(?P<n>2\\d{3}): é', start=1000)\n"
                "m['n'], m.group(1), m.groupdict(), m.line_number, m.line, text[m.start():m.end()]",
            )
            == "('2000', '2000', {'n': '2000'}, 2001, '2000: é line of 5 words', '2000: é')"
        )
        assert output(session, "text.search('nowhere')") == ""
        assert (
            output(
                session,
                "import re\np = re.compile(r'(\\d+): É LINE of [12]', re.I)\n"
                "[m.span() for m in text.finditer(p)] == [m.span() for m in p.finditer(plain)]",
            )
            == "True"
        )
        assert output(session, "text.findall('é (line)', limit=3)") == (
            "['line', 'line', 'line']\n[the first 3; there may be more: raise limit, or go on after these]"
        )

    def test_grep(self, session, text):
        """Lines come with numbers and context, and no more of them than requested."""
        assert output(session, "print(text.grep('^(7|29999):', before=1, after=1))") == (
            "log.txt-7- 6: é line of 6 words\n"
            "log.txt:8: 7: é line of 0 words\n"
            "log.txt-9- 8: é line of 1 words\n"
            "log.txt-29999- 29998: é line of 3 words\n"
            "log.txt:30000: 29999: é line of 4 words"
        )
        assert output(
            session, "hits = text.grep('LINE', ignore_case=True)\nlen(hits), hits.more"
        ) == ("(100, True)")
        assert output(
            session, "h = hits[5]\nh.line_number, text[h.position:h.position + 4], h.path"
        ) == ("(6, 'line', 'log.txt')")

    def test_errors_name_the_supported_operations(self, session, text):
        """An unsupported operation raises an error that lists the supported ones."""
        message = failure(session, "text.upper()")
        assert message.startswith("AttributeError: <TextFile 'log.txt'")
        assert "text[a:b]" in message
        assert "cannot be searched for: missing )" in failure(session, "text.search('(a')")
        assert "expected string" in failure(session, "import re\nre.search('a', text)")
        assert "text.search(pattern)" in output(session, "help(text)")

    def test_too_much_at_once_is_refused_with_a_way_out(self, session, tmp_path):
        """One read returns at most ten million characters; the error suggests alternatives."""
        file = tmp_path / "large.txt"
        file.write_text("0123456789\n" * 1_000_000)
        session.assign("large", TextFile(file))

        for code in ("str(large)", "large[5:]", "large.lines()", "print(large)"):
            message = failure(session, code)
            assert message.startswith("ValueError")
            assert "10,000,000 characters" in message
            assert "for line in text" in message
        assert output(session, "len(large), large[-11:]") == "(11000000, '0123456789\\n')"

    def test_the_same_object_comes_back(self, session, text):
        """A lazy text passed to a tool or SUBMIT, even nested, is the host's own object."""
        session.received.clear()
        assert output(session, "take({'deep': [text]})") == "'taken'"
        result = session.run_cell("import copy\nSUBMIT([text, copy.deepcopy(text)])")

        assert session.received[0]["deep"][0] is text
        assert isinstance(result, Submitted)
        assert all(value is text for value in result.outputs["output"])

    def test_numbers_are_of_the_sessions_own_table(self, session, text):
        """A cell can forge a handle, but not one to a value that it was never sent."""
        message = failure(
            session,
            "from sandbox_runtime.guest.texts.lazy_text import LazyText\nLazyText(10**6, 'x', 'x')[0:5]",
        )
        assert "the handle is not valid in this session" in message
        for mode in ("batched([(text, 'length')])", "aio(text, 'length')"):
            message = failure(
                session,
                f"from sandbox_runtime.guest.texts.host_calls import HostConnection as way\nawait way.ask.{mode}",
            )
            assert message == "LookupError: texts answer one call at a time"

    def test_streams_and_directories(self, session, project):
        """A stream behaves like a lazy text, a directory like a mapping of lazy texts."""
        session.assign({"s": TextStream(f"row {n}\n" for n in range(500)), "d": Directory(project)})

        assert output(session, "s.line(7), s[:5], s.grep('row 49[89]$')[1].line") == (
            "('row 6', 'row 0', 'row 499')"
        )
        assert output(session, "len(d), d.paths('*.py'), 'app.log' in d") == (
            "(5, ['src/a.py', 'src/deep/b.py'], False)"
        )
        assert output(session, "d['src/a.py'].line(1), d['src/a.py'] == d['src/a.py']") == (
            "('import os', True)"
        )
        assert output(session, "d.grep('TODO')") == (
            "src/a.py:2: # TODO one\nsrc/deep/b.py:1: # TODO two\nsrc/deep/keep.log:1: TODO kept"
        )
        assert output(session, "d.search('TODO', 'src/deep/**').path") == "'src/deep/b.py'"
        assert output(session, "print(d.tree('*.py'))") == (
            "src/\n  a.py (21 bytes)\n  deep/\n    b.py (11 bytes)"
        )
        for path in ("../outside/secret.txt", "link.txt", "/etc/passwd"):
            assert failure(session, f"d[{path!r}]").startswith("KeyError")

    def test_a_changed_file_raises_in_the_cell(self, session, text, tmp_path):
        """A cell gets an error rather than new content in place of the old."""
        assert output(session, "text[:2]") == "'0:'"
        (tmp_path / "log.txt").write_text("new")

        assert "log.txt has changed since it became an input" in failure(session, "text[:2]")
        assert "has changed" in failure(session, "text.search('n')")

    def test_texts_survive_forks_and_crashes(self, opened, tmp_path):
        """Lazy texts work in forks and after a crash: they hold no state in the sandbox."""
        file = tmp_path / "a.txt"
        file.write_text("one\ntwo\n")
        session = opened(limits=Limits(cell_seconds=1, grace_seconds=0.5))
        session.assign("text", TextFile(file))
        assert output(session, "first = text.line(1)\nkept = [text]") == ""
        with session.fork() as fork:
            assert output(fork, "kept[0].line(2)") == "'two'"
        session.run_cell("sum(range(10**12))")

        assert session.restarts == 1
        assert output(session, "first, kept[0].line(2)") == "('one', 'two')"

    def test_searches_have_a_clock_of_their_own(self, opened, tmp_path):
        """A search does not count as cell time; on timeout, the error has the matches so far."""
        file = tmp_path / "trap.txt"
        file.write_text("x1\n" * 333 + ("y" * 999 + "\n") * 2000 + "a" * 5000 + "b\n")
        session = opened(limits=Limits(cell_seconds=1, search_seconds=2))
        session.assign("text", TextFile(file))

        result = session.run_cell(
            "try:\n    text.grep(r'(a+)+$|x1', limit=10_000)\n"
            "except TimeoutError as error:\n    print(len(error.found))\n    raise",
        )
        assert isinstance(result, Failed)
        assert result.error_type == "TimeoutError"
        assert "Limits.search_seconds" in result.message
        assert int(result.output) > 300


class TestSize:
    def test_a_text_larger_than_the_sandbox(self, opened, tmp_path):
        """A text of 300 MB is read, searched and iterated with 160 MB of memory."""
        file = tmp_path / "large.txt"
        with file.open("wb") as out:
            out.write(b"first line\n")
            out.truncate(300_000_000)
            out.seek(0, os.SEEK_END)
            out.write("\nthe needle is é here\n".encode())
        session = opened(limits=Limits(memory_bytes=160 * 1024 * 1024))
        session.assign("text", TextFile(file))

        assert output(session, "len(text), text[-22:-1]") == (
            "(300000022, '\\nthe needle is é here')"
        )
        assert output(
            session, "text.find('needle'), text.grep('needle is (.)')[0].line_number"
        ) == ("(300000005, 3)")
        assert output(
            session, "n = 0\nfor piece in text.chunks(5_000_000):\n    n += len(piece)\nn"
        ) == ("300000022")

    @pytest.mark.nightly
    @pytest.mark.timeout(900)
    def test_twenty_gigabytes_with_the_sandbox_under_300_megabytes(self, opened, tmp_path):
        """A sparse file of 20 GB, with real lines at both ends, stays within the memory limit.

        `TEXTS_FOLDER` names the folder of the file; the default is pytest's own.
        """
        file = Path(os.environ.get("TEXTS_FOLDER", tmp_path)) / "huge.txt"
        lines = "".join(f"{n}: é the quick brown fox, {n * 7919}\n" for n in range(1_000_000))
        with file.open("wb") as out:
            out.write(lines.encode())
            out.truncate(20_000_000_000)
            out.seek(0, os.SEEK_END)
            out.write(b"\n" + lines.encode() + "the needle is é here\n".encode())
        session = opened(limits=Limits(search_seconds=300, memory_bytes=256 * 1024 * 1024))
        try:
            session.assign("text", TextFile(file))
            peak = 0
            for code in (
                "len(text)",
                "text.find('needle')",
                "text.search(r'needle is (.)').span()",
                "text.grep(r'^999999: .*fox', limit=5)",
                "text[-22:], text[10_000_000_000:10_000_000_003]",
                "next(iter(text)), text.line(1_000_000)",
                "import itertools\nsum(map(len, itertools.islice(text.chunks(), 500)))",
            ):
                started = time.monotonic()
                result = output(session, code)
                seconds = time.monotonic() - started
                resident = _resident_bytes(session.pid)
                peak = max(peak, resident)
                sys.stdout.write(
                    f"{seconds:7.2f} s  {resident / 1e6:5.0f} MB  {code!r}: {result[:100]!r}\n"
                )
            assert peak < 300_000_000
            assert output(session, "text[text.find('needle is'):][:11]") == "'needle is é'"
        finally:
            file.unlink()


def _resident_bytes(pid: int) -> int:
    """Returns the peak memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
