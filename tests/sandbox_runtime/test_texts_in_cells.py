"""Lazy texts and directories in the cells of a real sandbox."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest
from cells import output

from sandbox_runtime import (
    Directory,
    Failed,
    Limits,
    Submitted,
    TextFile,
    TextStream,
    open_session,
)


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


class TestLikeAStr:
    """A text takes part in expressions as a str does, and never answers wrongly in silence."""

    def test_it_equals_the_same_characters(self, session, text):
        """A text compares by its characters: with the same str, a longer one, a shorter one and another."""
        code = "text == plain, plain == text, text == plain + 'x', text != plain[:-1], text == 5"

        assert output(session, code) == "(True, True, False, True, False)"

    def test_it_is_added_to_a_str(self, session, tmp_path):
        """Prompts are often made of parts: a text can be one on either side."""
        (tmp_path / "a.py").write_text("x = 1\n")
        session.assign("code", Directory(tmp_path))

        assert output(session, "'Judge: ' + code['a.py'] + '!'") == repr("Judge: x = 1\n!")

    def test_a_missing_method_names_the_way_to_a_str(self, session, text):
        """The error for a method of str says how to get one."""
        assert "A short text as a whole is str(text)" in failure(session, "text.strip()")


class TestThreads:
    """Threads of a cell read texts and directories as the cell itself does."""

    @pytest.mark.parametrize(
        "code",
        [
            "list(pool.map(lambda at: {}[at : at + 9], range(5)))",
            "list(pool.map(lambda word: {}.count(word), ['3 words', 'é']))",
            "pool.submit(lambda: len({})).result()",
            "await asyncio.to_thread(lambda: {}[-9:])",
        ],
    )
    def test_a_text(self, session, text, code):
        """A thread and its cell read the same text."""
        begin = "import asyncio\nfrom concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(4)\n"

        of_text, of_plain = (
            output(session, begin + code.format(name)) for name in ("text", "plain")
        )

        assert of_text == of_plain

    def test_results_are_used_like_lists(self, session, tmp_path):
        """Chunks and the texts of a directory have positions and lengths; matches say how to get a list."""
        for number in range(3):
            (tmp_path / f"f{number}.txt").write_text(f"file {number}")
        session.assign("folder", Directory(tmp_path))

        cells = {
            "[str(one) for one in folder.values()[1:]]": "['file 1', 'file 2']",
            "len(folder.items()), folder.items()[-1][0]": "(3, 'f2.txt')",
            "[path for path, _ in folder.items()]": "['f0.txt', 'f1.txt', 'f2.txt']",
            "len(folder['f0.txt'].chunks(4)), folder['f0.txt'].chunks(4)[-1]": "(2, ' 0')",
            "folder['f0.txt'].chunks(4)": "['file', ' 0']",
            "[m.group() for m in list(folder['f0.txt'].finditer('[ie]'))]": "['i', 'e']",
        }
        assert {cell: output(session, cell) for cell in cells} == cells
        failed = session.run_cell("folder['f0.txt'].finditer('i')[0]")
        assert failed.message == (
            "finditer() returns an iterator, which has no [i]: use list(finditer(...))"
        )

    def test_a_directory_beside_calls(self, session, tmp_path):
        """Files are read in threads whose host calls are in flight at once, and the results are in order."""
        for number in range(6):
            (tmp_path / f"f{number}.txt").write_text(f"file {number}")
        session.assign("folder", Directory(tmp_path))
        session.received.clear()

        cell = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool:
    print(list(pool.map(lambda path: (take(folder[path][:6]), len(folder[path])), sorted(folder))))
"""
        assert output(session, cell) == repr([("taken", 6)] * 6)
        assert sorted(session.received) == [f"file {number}" for number in range(6)]


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
        ).startswith("(100, True)\n")
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
        # A file with zeros is searched too, as a log with a block of them is.
        assert output(session, "d.grep('TODO')").endswith(
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

    @pytest.mark.nightly  # the parts have tests of their own
    def test_texts_survive_forks_and_crashes(self, opened, tmp_path):
        """Lazy texts work in forks and after a crash: they hold no state in the sandbox."""
        file = tmp_path / "a.txt"
        file.write_text("one\ntwo\n")
        session = opened(limits=Limits(cell_seconds=0.8, grace_seconds=0.3))
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
        session = opened(limits=Limits(cell_seconds=0.8, search_seconds=1))
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
    @pytest.mark.nightly
    def test_a_text_larger_than_the_sandbox(self, opened, tmp_path):
        """A text of 200 MB is read, searched and iterated with 160 MB of memory."""
        file = tmp_path / "large.txt"
        with file.open("wb") as out:
            out.write(b"first line\n")
            out.truncate(200_000_000)
            out.seek(0, os.SEEK_END)
            out.write("\nthe needle is é here\n".encode())
        session = opened(limits=Limits(memory_bytes=160 * 1024 * 1024))
        session.assign("text", TextFile(file))

        assert output(session, "len(text), text[-22:-1]") == (
            "(200000022, '\\nthe needle is é here')"
        )
        assert output(
            session, "text.find('needle'), text.grep('needle is (.)')[0].line_number"
        ) == ("(200000005, 3)")
        assert output(
            session, "n = 0\nfor piece in text.chunks(5_000_000):\n    n += len(piece)\nn"
        ) == ("200000022")

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


class TestIncompleteSearches:
    """A search that is not complete says so in the output of its cell, however the cell uses the result."""

    def test_a_grep_that_stopped_at_its_limit(self, session, text):
        """A count from the hits would be wrong, so the note names the ways to the right one."""
        assert output(session, "len(text.grep('line'))") == (
            "100\n\n[grep stopped at its limit of 100 hits: there may be more; raise limit=, or use "
            "text.count(s)]"
        )

    def test_equal_searches_have_one_note(self, session, text):
        """A loop over many searches gives one line with their number."""
        warnings = output(session, "for _ in range(5): text.grep('line', limit=3)")

        assert warnings.strip() == (
            "[grep stopped at its limit of 3 hits (5 times): there may be more; raise limit=, or use "
            "text.count(s)]"
        )

    def test_findall_and_directories(self, session, tmp_path):
        """All searches for many matches have notes; a search for the first match has none."""
        (tmp_path / "a.txt").write_text("one two three\nfour five\n")
        session.assign({"d": Directory(tmp_path), "t": TextFile(tmp_path / "a.txt")})

        warnings = output(
            session, "t.findall('[a-z]+', limit=4), d.grep('o', limit=1); d.search('o')"
        )

        assert "[findall stopped at its limit of 4 matches: there may be more;" in warnings
        assert "[grep stopped at its limit of 1 hits: there may be more; raise limit=]" in warnings

    def test_a_result_that_is_printed_says_it_itself(self, session, text):
        """One statement is enough: the printed result has its own."""
        assert "[grep stopped" not in output(session, "print(text.grep('line'))")
        assert "[grep stopped" in output(session, "print(str(text.grep('line'))[:50])")

    def test_complete_searches_and_later_cells_have_no_note(self, session, text):
        """A note belongs to the cell of its search."""
        output(session, "hits = text.grep('line')")

        assert output(session, "len(hits), text.search('line').start() > 0") == "(100, True)"
        assert output(session, "len(text.grep('^12: '))") == "1"

    def test_lines_that_are_cut(self, session, tmp_path):
        """A hit holds a part of a long line, and the note says how to read on."""
        (tmp_path / "long.txt").write_text("a" * 3000 + "needle" + "b" * 3000)
        session.assign({"t": TextFile(tmp_path / "long.txt")})

        warnings = output(session, "hit, = t.grep('needle'); t[hit.position:hit.position + 8]")

        assert warnings.splitlines()[0] == "'needlebb'"
        assert (
            "[grep cut lines of more than 1,000 characters: hit.line is the part around" in warnings
        )

    def test_files_that_are_passed_over(self, session, tmp_path):
        """Files that are no texts are named, also if nobody prints the result."""
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
        (tmp_path / "b.txt").write_text("needle\n")
        session.assign({"d": Directory(tmp_path)})

        assert output(session, "len(d.grep('needle'))").strip() == (
            "1\n\n[grep passed over files: a.png: a PNG image]"
        )

    @pytest.mark.parametrize(
        "replaced",
        [
            "5",
            "{(1, 2, 3): 4}",
            "{('a', 'b', 'c'): 'd'}",
            "{'x': 1}",
            "type('D', (dict,), {'items': 7})()",
        ],
    )
    def test_a_cell_that_replaces_the_notes(self, session, text, replaced):
        """Whatever a cell puts in their place, the cell ends as it would have."""
        code = "from sandbox_runtime.guest.cell_notes import CellNotes as N\n"

        assert "7" in output(session, f"{code}N.noted = {replaced}\n7")
        assert "[grep stopped" in output(session, "len(text.grep('line'))")

    def test_many_different_notes_are_bounded(self, session, text):
        """A cell with very many searches gets a few notes."""
        warnings = output(session, "for n in range(1, 50): text.grep('line', limit=n)")

        assert warnings.count("[grep stopped") == 8


class TestHits:
    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("hit.text", "AttributeError: a GrepHit has no 'text'. It has hit.line (the text"),
            ("hit['text']", "KeyError: \"a GrepHit has no 'text'. It has hit.line"),
            ("number, line = hit", "TypeError: a GrepHit is no tuple. It has hit.line"),
            ("text.search('line').text", "AttributeError: a match has no 'text'. It has group()"),
        ],
    )
    def test_a_wrong_name_lists_the_right_ones(self, session, text, code, error):
        """A guess costs one turn: the error names everything that a hit has."""
        assert failure(session, f"hit = text.grep('line')[0]\n{code}").startswith(error)

    def test_fields_by_name(self, session, text):
        """`hit["line"]` is `hit.line`, as with the results of predict."""
        assert output(session, "h = text.grep('line', limit=1)[0]; h['line'] == h.line").startswith(
            "True\n"
        )

    def test_hits_can_be_copied(self, session, text):
        """Hits are plain objects for copy and pickle."""
        code = "import copy, pickle\nhits = text.grep('^5: ')\n"
        code += "copy.deepcopy(hits)[0].line, pickle.loads(pickle.dumps(hits))[0].line_number"

        assert output(session, code) == "('5: é line of 5 words', 6)"
