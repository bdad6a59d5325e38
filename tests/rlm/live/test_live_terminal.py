"""The live view on a terminal: what a person sees, behind a real pseudo-terminal and a terminal emulator."""

from __future__ import annotations

import sys
import threading
import unicodedata
from collections.abc import Iterator

import live_events as live
import pytest

from dspy_rlm.events import RunEnded, StepTaken
from dspy_rlm.live.choosing import display_for
from dspy_rlm.live.painter import Above, Painter, measured
from dspy_rlm.live.plain import PlainDisplay
from dspy_rlm.live.refreshing import MOST_A_SECOND, Refresher, pause
from dspy_rlm.live.state import RunView
from dspy_rlm.reports.report import Step

pytest.importorskip("rich")
pytest.importorskip("pyte")
if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals", allow_module_level=True)

from screens import Screen, screen

from dspy_rlm.live.rich_tree import RichTree
from dspy_rlm.live.terminal import TerminalDisplay
from dspy_rlm.live.tree import Tree

HOSTILE = (
    "\u202eevil\u202c \x9b31m 漢字\x1b[2J\x1b]52;c;aGVsbG8=\x07\x1b]8;;http://evil\x07link\x1b]8;;\x07"
    "\x90q\x9c \u2066iso\u2069 \u200bzero \r\b\x00\x07 漢字かな 👩‍👩‍👧 e\u0301"
)


@pytest.fixture
def terminal() -> Iterator[Screen]:
    """Yields a terminal of 100 columns and 30 rows."""
    with screen() as opened:
        yield opened


class Shown:
    """A tree on a terminal, refreshed when the test says so."""

    def __init__(self, terminal: Screen, run: RunView) -> None:
        self.display = TerminalDisplay(terminal.stream)
        self.clock = live.Clock()
        self.tree = Tree(run, self.display, self.clock)
        self.run = run
        self.tree.begin()

    def refresh(self) -> None:
        """Draws the present state."""
        self.display._refresh()


def batch(run: RunView, done: int = 12, failed: int = 2) -> RunView:
    """Returns the run with a batch in its second line."""
    live.running(run, "prompts = [...]\nanswers = sub_llm_batched(prompts)\nprint(answers)")
    site = run.call("sub_llm_batched", 40, 2, 100.0, is_tool=False)
    run.progress(site, done, 40)
    if site is not None:
        site.failed, site.error = failed, "LMServerError: no\nmore"
    return run


class TestTree:
    def test_a_running_batch(self, terminal):
        """The line that runs is marked; below the code stand the batch, the budget, and the time by part."""
        shown = Shown(terminal, batch(live.view(max_cost=0.5)))
        shown.clock.now = 104.0
        shown.refresh()
        lines = terminal.lines()

        assert lines[0] == "RLM log -> answer  log 80 characters"
        assert lines[1].startswith("├─ ▶ [1] Look.")
        assert lines[2] == "│    1 prompts = [...]"
        assert lines[3] == "│  ▶ 2 answers = sub_llm_batched(prompts)"
        assert "sub_llm_batched ━━━━━━━" in lines[5]
        assert "12 of 40, 2 failed, 4.0 s  LMServerError: no more" in lines[5]
        assert lines[6].endswith("running code, sub_llm_batched")
        assert "turns ━─────── 1 of 20" in lines[7]
        assert "$0.00 of $0.50" in "".join(lines[7:])
        assert "root 0.0 s   sandbox 4.0 s   sub-LMs 0.0 s   waiting 0.0 s" in lines[-1]

    def test_the_result_stays(self, terminal):
        """After the end all steps stand there, with code, output and answer; the cursor is below them."""
        run = live.view()
        for number in range(1, 41):
            for event in live.turn(number, f"print({number})", f"output {number}"):
                run.take(event, 100.0 + number)
        shown = Shown(terminal, run)
        shown.refresh()
        live.ended(run)
        shown.tree.end()
        everything = terminal.everything()

        for number in range(1, 41):
            assert any(line == f"│    output {number}" for line in everything)
        assert "├─ answer = the job" in everything
        assert any(line.startswith("╰─ ✓ Submitted, 40 iterations") for line in everything)
        assert sum("RLM log -> answer" in line for line in everything) == 1
        row, column, hidden = terminal.cursor
        assert (column, hidden) == (0, False)
        assert row == len(terminal.lines())

    def test_earlier_steps_are_folded_to_fit(self, terminal):
        """With more steps than rows, the running one is whole, and the first ones are a number."""
        run = live.view(max_iterations=60)
        for number in range(1, 41):
            for event in live.turn(number, f"print({number})", "1"):
                run.take(event, 100.0 + number)
        live.running(run, "print('now')", number=41, now=150.0)
        shown = Shown(terminal, run)
        shown.refresh()
        lines = terminal.lines()

        assert len(lines) == 29
        assert lines[0].startswith("RLM")
        assert lines[1] == "├─ … 20 earlier iterations"
        assert "print('now')" in "\n".join(lines)
        assert terminal.everything() == lines

    def test_hostile_text_is_harmless(self, terminal):
        """Escape sequences, C1 and bidi controls of the code, its output and errors are spelled out."""
        run = live.running(live.view(), f"x = '''{HOSTILE}'''")
        run.steps[0].reasoning = HOSTILE
        site = run.call(HOSTILE, 3, 1, 100.0, is_tool=False)
        if site is not None:
            site.failed, site.error = 1, HOSTILE
        shown = Shown(terminal, run)
        shown.refresh()
        run.take(StepTaken(1, Step("", "x", HOSTILE * 3), 0), 101.0)
        shown.refresh()
        run.take(RunEnded(live.report(), {"answer": HOSTILE}), 102.0)
        shown.tree.end()
        text = "\n".join(terminal.everything())

        assert r"\x1b[2J\x1b]52;c;aGVsbG8=\x07" in text
        assert r"\x9b31m" in text
        assert r"\u202eevil" in text
        assert "漢" in text
        sent = terminal.raw.decode()
        assert "\x1b]" not in sent
        allowed = {"\x1b", "\r", "\n"}
        assert not {c for c in sent if unicodedata.category(c) in ("Cc", "Cf")} - allowed
        assert {code[-1] for code in _codes(sent)} <= set("mAKJ")

    @pytest.mark.parametrize("columns", [100, 41, 12, 3])
    def test_no_line_is_wider_than_the_terminal(self, columns):
        """Wide characters count twice, and a line of a million characters is cut; nothing wraps."""
        run = batch(live.view(max_cost=1.0))
        for text in ("漢" * 1_000_000, "x" * 1_000_000, "👩‍👩‍👧" * 500):
            run.steps[0].code = f"{text}\n{text}"
            run.steps[0].reasoning = text
            lines = RichTree().live(run, 104.0, columns, 20)
            run.steps[0].code = "f()"
            assert max(line.cell_len for line in lines) <= columns

    def test_a_tree_of_ascii(self):
        """A stream that has no other characters gets a tree of ASCII."""
        run = batch(live.view())
        lines = [line.plain for line in RichTree(ascii_only=True).live(run, 104.0, 80, 20)]

        assert "\n".join(lines).isascii()
        assert lines[1].startswith("|- > [1]")

    def test_a_long_code_keeps_its_running_line_in_sight(self):
        """Of three hundred lines, those around the one that runs are shown."""
        run = live.running(live.view(), "\n".join(f"x{at} = {at}" for at in range(1, 301)))
        run.steps[0].line = 200
        lines = [line.plain for line in RichTree().live(run, 104.0, 80, 24)]

        assert any(line.startswith("│  ▶ 200 x200") for line in lines)
        assert any("(286 more lines of code)" in line for line in lines)

    @pytest.mark.parametrize("rows", [1, 2, 3, 5])
    def test_few_rows(self, rows):
        """A terminal of a few rows has the name of the run and as much as fits."""
        assert len(RichTree().live(batch(live.view()), 104.0, 80, rows)) == rows

    def test_no_color(self, terminal, monkeypatch):
        """With NO_COLOR the tree is the same, without colours."""
        monkeypatch.setenv("NO_COLOR", "1")
        shown = Shown(terminal, batch(live.view()))
        shown.refresh()

        assert "▶ [1] Look." in "\n".join(terminal.lines())
        colours = [code for code in _codes(terminal.raw.decode()) if code.endswith("m")]
        assert all(part in ("0", "1", "2", "") for c in colours for part in c[2:-1].split(";"))


class TestResizing:
    def test_wider_and_narrower(self, terminal):
        """The tree is drawn again for the new size, from its own first row."""
        terminal.stream.write("before\r\n")
        shown = Shown(terminal, batch(live.view()))
        shown.refresh()
        terminal.resize(130, 40)
        shown.refresh()

        lines = terminal.lines()
        assert lines[0] == "before"
        assert sum("RLM log" in line for line in lines) == 1

        terminal.resize(50, 20)
        shown.refresh()
        assert sum("RLM log" in line for line in terminal.lines()) == 1
        assert max(map(len, terminal.lines())) < 50

    def test_rows_that_wrap_are_counted(self):
        """A terminal that is made narrower wraps the rows: so many are gone back."""
        with screen(100, 30) as terminal:
            painter = Painter(terminal.stream)
            painter.paint(measured(["x" * 90, "y" * 10], ["x" * 90, "y" * 10]))
            terminal.lines()
            terminal.resize(30, 30)
            terminal.raw.clear()
            painter.paint(measured(["z"], ["z"]))
            terminal.lines()

            assert terminal.raw.startswith(b"\r\x1b[4A")


class TestOtherPrints:
    def test_prints_stand_above_the_tree(self, terminal, monkeypatch):
        """Other code may print while a run is shown: its lines scroll away above."""
        monkeypatch.setattr(sys, "stdout", terminal.stream)
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        shown = Shown(terminal, batch(live.view()))
        shown.refresh()
        sys.stdout.write("a print of a tool\n")
        sys.stdout.write("part")
        sys.stderr.write(" by part\n")
        sys.stdout.write(" of a line\n")
        sys.stdout.flush()
        shown.refresh()
        lines = terminal.lines()

        assert lines[:3] == ["a print of a tool", " by part", "part of a line"]
        assert lines[3].startswith("RLM log")
        shown.tree.end()
        assert sys.stdout is terminal.stream
        assert sys.stderr is terminal.stream

    def test_a_question_without_a_line_break_is_seen(self, terminal):
        """A tool that asks with `input()` flushes its question."""
        painter = Painter(terminal.stream)
        painter.paint(measured(["tree"], ["tree"]))
        proxy = Above(terminal.stream, painter)
        proxy.write("Send it? ")
        proxy.flush()

        assert terminal.lines() == ["Send it?", "tree"]

    def test_a_progress_bar_is_one_line(self, terminal):
        """A bar that is drawn over itself would be a line for each step: only its end is printed."""
        painter = Painter(terminal.stream)
        painter.paint(measured(["tree"], ["tree"]))
        proxy = Above(terminal.stream, painter)
        for done in range(100):
            proxy.write(f"\r{done} of 100")
            proxy.flush()
        assert terminal.lines() == ["tree"]
        proxy.write("\n")

        assert terminal.lines() == ["99 of 100", "tree"]


class TestSeveralRuns:
    def test_trees_share_the_rows(self, terminal):
        """Runs of several threads stand one below the other; one that is over is printed above the rest."""
        display = TerminalDisplay(terminal.stream)
        clock = live.Clock()
        trees = []
        for name in ("first", "second"):
            run = batch(live.view())
            run.title = name
            trees.append(Tree(run, display, clock))
            trees[-1].begin()
        display._refresh()
        lines = terminal.lines()
        assert [line for line in lines if line.startswith("RLM")] == [
            "RLM first  log 80 characters",
            "RLM second  log 80 characters",
        ]

        live.ended(trees[1].root)
        trees[1].end()
        display._refresh()
        lines = terminal.everything()
        first, second = (
            next(at for at, line in enumerate(lines) if line.startswith(f"RLM {name}"))
            for name in ("first", "second")
        )
        assert second < first
        assert any("├─ answer = the job" in line for line in lines[second:first])
        live.ended(trees[0].root)
        trees[0].end()
        assert sum("answer = the job" in line for line in terminal.everything()) == 2

    def test_more_runs_than_rows(self, terminal):
        """Of twenty runs at once, those that fit are shown, and the number of the others."""
        display = TerminalDisplay(terminal.stream)
        trees = [Tree(batch(live.view()), display, live.Clock()) for _ in range(20)]
        for tree in trees:
            tree.begin()
        display._refresh()

        assert len(terminal.lines()) <= 29
        assert terminal.lines()[-1] == "and 16 more runs"
        for tree in trees:
            live.ended(tree.root)
            tree.end()
        assert sum("╰─ ✓ Submitted" in line for line in terminal.everything()) == 20

    def test_threads_at_once(self, terminal):
        """Events and prints of many threads leave whole lines."""
        display = TerminalDisplay(terminal.stream)

        def work(name: int) -> None:
            run = live.view()
            run.title = f"thread {name}"
            tree = Tree(run, display)
            tree.begin()
            for number in range(1, 6):
                for event in live.turn(number, f"print({number})", "1"):
                    with tree.changing() as now:
                        run.take(event, now)
                display._refresh()
            live.ended(run)
            tree.end()

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = terminal.everything()

        for name in range(8):
            assert any(line.startswith(f"RLM thread {name}") for line in text)
        assert sum("╰─ ✓ Submitted" in line for line in text) == 8
        assert display._painter is None


class TestChoosing:
    def test_a_terminal_that_draws(self, terminal, monkeypatch):
        """A terminal has the tree, unless it cannot move its cursor; a closed one, and none, have lines."""
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        monkeypatch.setenv("TERM", "xterm")
        assert isinstance(display_for(True), TerminalDisplay)
        assert isinstance(display_for("plain"), PlainDisplay)
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(display_for(True), PlainDisplay)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", None)
        assert isinstance(display_for(True), PlainDisplay)

    def test_without_rich(self, terminal, monkeypatch):
        """On a terminal without rich, there are lines."""
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setitem(sys.modules, "rich", None)

        assert isinstance(display_for(True), PlainDisplay)

    def test_all_runs_share_the_terminal(self, terminal, monkeypatch):
        """A second run finds the display of the first, also while that stands for stderr."""
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        monkeypatch.setenv("TERM", "xterm")
        first = display_for(True)
        tree = Tree(batch(live.view()), first)
        tree.begin()

        assert isinstance(sys.stderr, Above)
        assert display_for(True) is first
        tree.end()


class TestRefreshing:
    def test_refreshes_are_rare_and_cheap(self):
        """At most eight a second; and a slow one is followed by a long pause, so all stay below 1 % of a core."""
        assert pause(0.0) == 1 / MOST_A_SECOND
        assert pause(0.003) == pytest.approx(1.0)
        assert pause(5.0) == 2.0

    def test_an_error_ends_the_refreshes(self):
        """A view that cannot be drawn is not drawn again and again."""
        errors: list[Exception] = []
        caught = threading.Event()

        def fail(error: Exception) -> None:
            errors.append(error)
            caught.set()

        def refresh() -> None:
            raise OSError("no terminal")

        refresher = Refresher(refresh, fail)
        refresher.start()
        assert caught.wait(60)
        refresher.wait()

        assert [str(error) for error in errors] == ["no terminal"]

    def test_a_broken_view_is_said_once(self, terminal, caplog, monkeypatch):
        """A view that fails is off, says so in the log, and leaves the terminal as it was."""
        monkeypatch.setattr(sys, "stderr", terminal.stream)
        shown = Shown(terminal, batch(live.view()))
        shown.run.steps[0].sites[0].count = "many"  # type: ignore[assignment]
        shown.display._fail(ValueError("broken"))
        shown.tree.fail(ValueError("again"))
        with shown.tree.changing():
            raise ValueError("a third time")

        said = [r.message for r in caplog.records if "live view" in r.message]
        assert said == [
            "The live view has failed and is off; the run continues. ValueError: broken"
        ]
        assert sys.stderr is terminal.stream

    def test_a_terminal_that_is_gone(self, caplog):
        """A closed window ends the view, and not the run."""
        opened = Screen()
        shown = Shown(opened, batch(live.view()))
        opened.stream.close()
        shown.tree.end()

        assert shown.tree.failed.wait(60)
        assert "The live view has failed" in caplog.text
        opened.stream = open(opened.follower, "w", closefd=False)  # noqa: SIM115
        opened.close()


def _codes(sent: str) -> list[str]:
    """Returns the escape sequences in what was sent."""
    codes, at = [], sent.find("\x1b[")
    while at >= 0:
        end = at + 2
        while sent[end] in "0123456789;?":
            end += 1
        codes.append(sent[at : end + 1])
        at = sent.find("\x1b[", end)
    return codes
