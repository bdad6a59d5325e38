"""The live view as HTML: everything escaped, no script, and a prediction that notebooks show."""

from __future__ import annotations

from html.parser import HTMLParser

import live_events as live
import pytest

from dspy_rlm.dspy_bridge.prediction import RLMPrediction
from dspy_rlm.events import StepTaken
from dspy_rlm.live.page import MAX_STEPS, live_page, page_of_prediction
from dspy_rlm.reports.report import RunReport, Step

HOSTILE = (
    "</pre></div><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202etxet\x1b[31m\x00"
)

TAGS = {"div", "b", "span", "details", "summary", "pre"}
ATTRIBUTES = {"class", "style", "open", "role", "aria-valuenow", "aria-valuemin", "aria-valuemax"}


class Checked(HTMLParser):
    """Reads a fragment, and keeps what it is built from."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.styles = ""
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.styles += " ".join(str(value) for name, value in attrs if name == "style")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def hostile_page(*, over: bool) -> str:
    """Returns the page of a run in which every text is hostile."""
    run = live.running(live.view(), HOSTILE)
    run.title = HOSTILE
    run.steps[0].reasoning = HOSTILE
    site = run.call(HOSTILE, 4, 1, 100.0, is_tool=False)
    if site is not None:
        site.failed, site.error = 1, HOSTILE
    child = live.view(2, 1)
    child.title = HOSTILE
    run.add_sub_run(child)
    run.steps[0].note = HOSTILE
    if over:
        run.take(StepTaken(1, Step("", HOSTILE, HOSTILE), 0), 101.0)
        live.ended(run)
        run.outputs = {HOSTILE: HOSTILE}
    return live_page(run, 104.0)


class TestPage:
    @pytest.mark.parametrize("over", [False, True])
    def test_hostile_text_is_text(self, over):
        """No text of a model becomes a tag, an attribute or a style, and no invisible character is left in it."""
        page = hostile_page(over=over)
        checked = Checked(page)

        assert set(checked.tags) <= TAGS
        assert checked.attributes <= ATTRIBUTES
        assert "alert" not in checked.styles
        assert "url(" not in checked.styles
        assert r"<script>alert(1)</script><img src=x onerror=alert(2)>" in checked.text
        assert r"\u202etxet\x1b[31m\x00" in checked.text
        assert page.replace("\n", "").isprintable()

    def test_a_running_batch(self):
        """While a run goes on: the line that runs, the bar of the batch, the budget and the times."""
        run = live.running(live.view(max_cost=1.0), "a = 1\nb = sub_llm_batched(xs)")
        run.progress(run.call("sub_llm_batched", 40, 2, 100.0, is_tool=False), 10, 40)
        page = live_page(run, 104.0)
        text = Checked(page).text

        assert "▶ b = sub_llm_batched(xs)" in text
        assert "10 of 40, 4.0 s" in text
        assert 'aria-valuenow="25"' in page
        assert "time by part: root 0.0 s · sandbox 4.0 s" in text

    def test_colours_of_the_page(self):
        """It has no background and no text colour of its own but accents, so it is readable in both themes."""
        styles = Checked(hostile_page(over=True)).styles

        assert "background:#fff" not in styles
        assert "color:#000" not in styles
        assert "color:black" not in styles

    def test_many_steps(self):
        """A run of a thousand turns has a page of bounded size."""
        run = live.view()
        for number in range(1, 1_001):
            for event in live.turn(number, "print(1)", "x" * 100_000):
                run.take(event, 100.0)
        page = live_page(live.ended(run), 104.0)

        assert page.count("<details") == MAX_STEPS
        assert "800 earlier iterations" in page
        assert len(page) < 3_000_000


class TestPrediction:
    def test_a_prediction_in_a_notebook(self):
        """The outputs come first, then the end of the run, whose steps are folded."""
        report = RunReport(
            "submitted", "SUBMIT", (Step("Why", "SUBMIT(answer=1)", "SUBMIT: answer"),), 2, 3.0
        )
        prediction = RLMPrediction.of_run({"answer": "the <b>job</b>", "n": [1]}, "", report)
        page = prediction._repr_html_()
        text = Checked(page).text

        assert text.startswith(
            "answerthe <b>job</b>n[1]Submitted, 1 iteration, 2 sub-LM calls, 3.0 s"
        )
        assert "trajectory" not in text
        assert "<details open" not in page

    def test_a_prediction_without_a_run(self):
        """A prediction that a program has built has its fields."""
        assert "answerx" in Checked(RLMPrediction(answer="x")._repr_html_()).text
        assert Checked(page_of_prediction({}, None)).text == ""
