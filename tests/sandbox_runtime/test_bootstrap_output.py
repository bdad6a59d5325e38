"""The part of a cell that the driver shows: its output and its last value, abridged."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime.guest.output import Output, _texts, abridge

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGALRM"), reason="the driver is made for POSIX"
)


class TestOutput:
    """A cell's output is what it printed, in order, and then the value of its last expression."""

    def test_prints_and_the_last_value(self, cells):
        """The output has what the cell prints, then its last value, as in a notebook."""
        assert cells.output("print('a')\nprint('b')\n1 + 1") == "a\nb\n2\n"

    def test_only_the_last_statement_shows_its_value(self, cells):
        """And only if it is an expression."""
        assert cells.output("1\n2\nx = 3") == ""

    def test_none_is_not_shown(self, cells):
        """A last value of None is not shown, because most calls return it."""
        assert cells.output("None") == ""

    def test_stdout_and_stderr_share_one_order(self, cells):
        """The LM reads one text."""
        code = "import sys\nprint('a')\nprint('b', file=sys.stderr)\nsys.stdout.write('c'); None"

        assert cells.output(code) == "a\nb\nc"

    def test_output_is_kept_when_the_cell_raises(self, cells):
        """Output before an exception is kept: it often explains the exception."""
        assert cells.run("print('so far')\n1 / 0")["output"] == "so far\n"

    def test_bytes_are_shown_as_text(self, cells):
        """`sys.stdout.buffer` works; what is not UTF-8 is written out."""
        assert cells.output(r"import sys; n = sys.stdout.buffer.write(b'a\xff')") == "a\\xff"

    def test_only_text_can_be_written(self, cells):
        """The stream is a text stream like any other."""
        message = "TypeError: write() argument must be str, not int"

        assert cells.error("import sys; sys.stdout.write(3)") == message

    def test_lone_surrogates_are_written_out(self, cells):
        """No encoding can carry them."""
        assert cells.output(r"print('\ud800')") == "\\ud800\n"

    def test_raw_writes_are_added_at_the_end(self, cells):
        """Text that went to the file descriptors comes after what Python printed."""
        cells.host.raw = "raw\n"

        assert cells.output("print('a')") == "a\nraw\n"

    def test_a_replaced_stdout_is_only_replaced_for_its_cell(self, cells):
        """The next cell prints as ever."""
        cells.run("import sys, io\nsys.stdout = io.StringIO()\nprint('lost')")

        assert cells.output("print('found')") == "found\n"

    def test_redirecting_works(self, cells):
        """`contextlib.redirect_stdout` receives the text, and the output does not."""
        code = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()) as text:
    print("a")
text.getvalue()
"""

        assert cells.output(code) == "'a\\n'\n"

    def test_an_empty_cell(self, cells):
        """Nothing to do is no error."""
        assert cells.output("") == ""
        assert cells.output("# nothing") == ""

    def test_the_head_is_told_while_the_cell_runs(self, open_cells):
        """If the process dies, the host has heard the beginning."""
        cells = open_cells(output_chars=100)

        cells.run("print('x' * 1000)")

        assert "".join(cells.host.emitted) == "x" * 50


BURST = "for n in range(2_000): print(n, 'x' * 20)\n"
PRINTED = "".join(f"{n} {'x' * 20}\n" for n in range(2_000))


@pytest.fixture
def roomy(open_cells):
    """Cells whose whole output is returned."""
    return open_cells(output_chars=1_000_000)


class TestBlocks:
    """A cell that prints many times within a moment is heard in blocks; nobody can tell, but by the time it takes."""

    def test_everything_is_there_in_order(self, roomy):
        """Text, bytes, both streams, and the last value keep their order after a burst."""
        code = (
            f"import sys\n{BURST}"
            "sys.stdout.buffer.write(b'bytes\\n')\nprint('é', file=sys.stderr)\n'value'"
        )

        assert roomy.output(code) == f"{PRINTED}bytes\né\n'value'\n"

    def test_few_lines_do_not_wait(self, roomy):
        """The process may die at any time, and then the host shows what the cell has printed."""
        seen = []
        roomy.register({"look": lambda: seen.append(roomy.driver.output.render())}, None)

        roomy.output("print('a')\nlook()\nprint('b')\nlook()")

        assert seen == ["a\n", "a\nb\n"]

    def test_nothing_waits_for_a_tool(self, roomy):
        """A tool may take hours."""
        seen = []
        roomy.register({"look": lambda: seen.append(roomy.driver.output.render())}, None)

        roomy.output(f"{BURST}look()")

        assert seen == [PRINTED]

    def test_what_a_failed_cell_has_printed(self, roomy):
        """An exception loses nothing of it."""
        end = roomy.run(f"{BURST}1 / 0")

        assert (end["outcome"], end["output"]) == ("failed", PRINTED)

    def test_what_a_submitting_cell_has_printed(self, roomy):
        """Neither does SUBMIT."""
        assert roomy.run(f"{BURST}SUBMIT(1)")["output"] == PRINTED

    def test_a_stream_that_an_earlier_cell_has_kept(self, roomy):
        """As `logging` does: its text belongs to the cell that writes it, at once."""
        roomy.output(f"import sys\nkept = sys.stdout\n{BURST}")

        code = "for n in range(2_000): kept.write('k'); print('p', end='')"
        assert roomy.output(code) == "kp" * 2_000

    def test_a_pause_ends_it(self, roomy):
        """Text does not wait for a block that takes long to fill."""
        code = f"import sys, time\n{BURST}\nfor n in range(3):\n    time.sleep(0.03); sys.stdout.flush(); print('x')\nlook()"
        seen = []
        roomy.register({"look": lambda: seen.append(sys_stdout_collects(roomy))}, None)

        assert roomy.output(code) == PRINTED + "x\n" * 3
        assert seen == [False]

    @pytest.mark.parametrize(
        "code",
        [
            "sys.stdout.close()",
            "sys.stdout.reconfigure(encoding='utf-16', line_buffering=True)",
            "try:\n    sys.stdout.detach()\nexcept io.UnsupportedOperation: pass",
            "with sys.stdout: pass",
        ],
    )
    def test_it_stays_usable(self, roomy, code):
        """Closing, detaching or encoding what cells print has no effect."""
        assert roomy.output(f"import io, sys\nprint('a')\n{code}\nprint('b')") == "a\nb\n"

    @pytest.mark.parametrize(
        "attack",
        [
            "io.TextIOWrapper.close(sys.stdout)",
            "io.TextIOWrapper.detach(sys.stdout)",
            "io.TextIOWrapper.buffer.__get__(sys.stdout).write = lambda data: 1 / 0",
            "sys.stdout.__class__ = type('Other', (type(sys.stdout),), {'flush': None, 'closed': None})",
            "io.TextIOWrapper.reconfigure(sys.stdout, encoding='utf-16', write_through=True)",
            "sys.stdout._CHUNK_SIZE = 2**30",
            "type(sys.stdout).collect = property(lambda self: 1 / 0)",
            "type(sys.stdout).__init__ = None",
        ],
    )
    def test_a_broken_stream_costs_its_cell_alone(self, roomy, attack):
        """The cell ends, whatever it has printed, and the next one prints as ever."""
        roomy.run(f"import io, sys\n{BURST}{attack}\nprint('more')")

        assert roomy.output("print('next')") == "next\n"

    def test_long_texts_are_decoded_piece_by_piece(self, roomy):
        """No character is cut in two, wherever a piece ends."""
        text = "aé€🙂" * 600_000

        roomy.run("print('a')")
        assert "".join(_texts(text.encode())) == text
        assert "".join(_texts(b"\xff\xfe" * 5)) == "\\xff\\xfe" * 5


def sys_stdout_collects(cells):
    """Tells whether the stream of the running cell collects text."""
    return cells.driver.collects


class TestAbridging:
    """Output is bounded: its head, its tail, and how much was left out."""

    def test_short_output_is_whole(self, open_cells):
        """Up to the limit nothing is lost."""
        assert open_cells(output_chars=100).output("print('x' * 99)") == "x" * 99 + "\n"

    def test_long_output(self, open_cells):
        """Half of the limit from the beginning, half from the end."""
        cells = open_cells(output_chars=20)

        assert cells.output("print('a' * 1000 + 'b' * 1000, end='')") == (
            "aaaaaaaaaa\n... (1,980 characters omitted) ...\nbbbbbbbbbb"
        )

    def test_many_small_prints(self, open_cells):
        """The count is exact however the text was cut into pieces."""
        cells = open_cells(output_chars=20)

        assert cells.output("for n in range(100_000): print(n % 10, end='')") == (
            "0123456789\n... (99,980 characters omitted) ...\n0123456789"
        )

    def test_a_huge_text_as_last_value(self, open_cells):
        """Its head and tail are shown without copying the rest."""
        cells = open_cells(output_chars=20)

        assert cells.output("'a' * 10**6") == (
            "'aaaaaaaaa\n... (999,983 characters omitted) ...\naaaaaaaa'\n"
        )

    def test_a_long_message(self, open_cells):
        """Messages and tracebacks are bounded, too."""
        end = open_cells(output_chars=20).run("raise ValueError('m' * 10**6)")

        assert len(end["message"]) < 1100
        assert len(end["traceback"]) < 1100

    @given(st.lists(st.text("abc\n", max_size=50), max_size=30), st.integers(1, 60))
    def test_head_tail_and_count(self, pieces, limit):
        """For any pieces and limit: nothing is lost uncounted."""
        output = Output(limit, lambda text: None)
        for piece in pieces:
            output.write(piece)
        whole, half = "".join(pieces), max(limit // 2, 1)

        if len(whole) <= 2 * half:
            assert output.render() == whole
        else:
            left = len(whole) - 2 * half
            middle = f"\n... ({left:,} characters omitted) ...\n"
            assert output.render() == whole[:half] + middle + whole[-half:]

    @given(st.text(max_size=100), st.integers(2, 60))
    def test_abridge(self, text, limit):
        """The same rule for a text that is there already."""
        half = limit // 2
        middle = f"\n... ({len(text) - 2 * half:,} characters omitted) ...\n"
        expected = text if len(text) <= limit else text[:half] + middle + text[-half:]

        assert abridge(text, limit) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda output: output.write("x"),
        lambda output: output.omit(1),
        lambda output: setattr(output, "_emit", print),
        lambda output: setattr(output, "_half", 10**9),
        lambda output: setattr(output, "_head", ["x"]),
        lambda output: setattr(output, "_tail", ()),
        lambda output: setattr(output, "render", lambda: "x"),
        lambda output: setattr(output, "_omitted", True),
        lambda output: setattr(output, "_sent_at", None),
    ],
)
def test_an_output_that_a_cell_has_changed_is_not_new(change):
    """Plants of an earlier cell in it would be in the next cell's output."""
    emitted = []
    emit = emitted.append
    output = Output(100, emit)
    assert output.is_new(100, emit)
    assert not output.is_new(98, emit)

    change(output)

    assert not output.is_new(100, emit)
