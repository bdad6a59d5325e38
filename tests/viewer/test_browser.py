"""The page in a real browser: what it shows, where links and keys lead, and what hostile text cannot do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browsed_runs import built, hostile, rich, write_page
from viewed_runs import Lines

from dspy_rlm.cli.recorded.view import Journals
from dspy_rlm.journal.file import try_lock
from dspy_rlm.viewer.live import Following, LiveServer

MARKUP = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)><svg/onload=alert(1)>"
    "<a href='javascript:alert(1)'>x</a><base href=//evil.example><iframe src=https://evil.example>"
    '" onfocus=alert(1) autofocus x="\' ${alert(1)} {{alert(1)}} __proto__ '
)
DECEIT = "\u202etxt.exe\u202c a\0b \x1b[31mred\x1b[0m \u200b\ufeff \x07\x9b \u2066x\u2069"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with something for each view."""
    folder = tmp_path_factory.mktemp("page")
    return write_page(folder / "run.html", rich(folder / "run.jsonl"))


def text_of(page: Any, selector: str) -> str:
    """Returns the text of the first element, with single spaces."""
    return " ".join(page.locator(selector).first.inner_text().split())


class TestViews:
    """Each view shows what the journal has."""

    def test_the_tree_has_runs_and_steps_and_the_overview_the_outcome(
        self, opened: Any, page_file: Path
    ):
        """A page opens at its run: steps and sub-runs at the side; question, answer and warnings in the middle."""
        page = opened(page_file).go()
        tree = page.locator("[role=treeitem]").all_inner_texts()

        assert [row.split("\n")[1] for row in tree] == [
            "Run", "Step 1", "Step 2", "Step 3", "Sub-run 1", "Step 1", "Step 4", "Step 5",
        ]  # fmt: skip
        assert "When did the valve leak?" in text_of(page, ".view")
        assert "At noon." in text_of(page, ".output")
        assert "429" not in text_of(page, ".warnings")
        assert page.locator(".warning a").count() > 0
        assert page.locator("#outline").count() == 0

    def test_a_failed_step_has_its_line_marked_and_its_output_beside_it(
        self, opened: Any, page_file: Path
    ):
        """The line that failed has the error under it, and the changes since the last cell are a click away."""
        page = opened(page_file).go("r0-s2")

        assert text_of(page, ".line.failed .line-text") == "print(hits[9])"
        assert text_of(page, ".line-error").endswith("IndexError: list index out of range")
        assert "IndexError" in text_of(page, ".output-panel .panel-body > div .block")
        page.get_by_role("button", name="Changes since step 1").click()
        page.locator(".diff .line.added").first.wait_for()
        assert page.locator(".diff .line.added").count() == 3
        assert page.locator(".diff .line.removed").count() == 3

    def test_what_the_root_saw_is_told_from_all_that_was_printed(
        self, opened: Any, page_file: Path
    ):
        """A shortened output says so; the rest is marked as not seen."""
        page = opened(page_file).go("r0-s4")

        assert "of 5,292 characters" in text_of(page, ".output-panel .note")
        assert "page 150:" not in text_of(page, ".output-panel")
        page.get_by_role("button", name="Full output", exact=True).click()
        page.get_by_role("button", name=re.compile("Show .* more lines")).click()
        assert page.locator(".output-panel .line").count() >= 200
        page.get_by_role("button", name="Difference").click()
        assert page.locator(".seen-diff .line.removed").count() > 0
        assert "omitted" in text_of(page, ".seen-diff .line.added")

    def test_a_prompt_shows_what_is_new_in_it(self, opened: Any, page_file: Path):
        """The prompt of a step is the difference to the one before, or whole; the reply is below it."""
        page = opened(page_file).go("r0-s3/prompt")

        assert "Turn 3" in text_of(page, ".message .line.added >> nth=-1")
        page.get_by_role("button", name="Whole prompt").click()
        assert page.locator(".message .line.added").count() == 0
        assert "Step 2 failed." in text_of(page, ".message")
        assert "code 3" in text_of(page, ".message.role-assistant")

    def test_the_grid_of_calls_tells_statuses_apart_and_shows_a_call(
        self, opened: Any, page_file: Path
    ):
        """Calls can be filtered and grouped; a click shows the prompt and the answer, and its link leads back to it."""
        page = opened(page_file).go("r0/calls")
        rows = page.locator(".grid-rows [role=row]")
        filters = page.locator(".filter").all_inner_texts()

        assert {"failed1", "cut1", "empty1"} <= {"".join(name.split()) for name in filters}
        page.get_by_role("button", name="group equal prompts").click()
        assert "×2" in rows.first.inner_text()
        rows.filter(has_text="cut").first.click()
        assert "It is like" in text_of(page, ".detail .role-assistant")
        assert "Page three" in text_of(page, ".detail .role-user")
        page.locator(".detail h2 a").click()
        page.wait_for_url(re.compile("#c\\d+$"))
        assert "It is like" in text_of(page, ".detail .role-assistant")
        page.locator(".detail a", has_text="step 1").click()
        assert text_of(page, "h1") == "Step 1"

    def test_coverage_is_a_map_and_an_output_knows_where_it_is_from(
        self, opened: Any, page_file: Path
    ):
        """A quote leads to its place in the input, where it is marked; the part that no LM was shown is empty."""
        page = opened(page_file).go("r0/outputs")

        assert "the valve leaked" in text_of(page, ".quote-item mark")
        assert {"step 1", "step 5"} <= set(
            page.locator(".lineage").first.locator("a").all_inner_texts()
        )
        page.locator(".quote-item a").first.click()
        assert page.locator(".input-text mark").inner_text() == "the valve leaked"
        assert page.locator(".map-row").nth(2).locator(".seen").count() == 0
        assert "0 %" in text_of(page, ".map-row >> nth=2")
        assert page.locator(".map-row").nth(1).locator("rect.quote").count() == 1

    def test_every_view_has_its_content(self, opened: Any, page_file: Path):
        """Timeline, budget, variables, setup and the steps in a row are there."""
        view = opened(page_file)
        expected = {
            "r0/timeline": "sub_llm_batched ×6",
            "r0/budget": "of 10",
            "r0/variables": "prompts",
            "r0/setup": "pages: str, question: str -> answer: str, quotes: str",
            "r0/steps": "IndexError",
            "r0-s1/calls": "sub_llm_batched",
            "r1": "deep",
            "c99": "When did the valve leak?",
        }
        for fragment, text in expected.items():
            page = view.go(fragment)
            assert text in text_of(page, ".view"), fragment

    def test_two_runs_are_shown_side_by_side(self, opened: Any, tmp_path: Path):
        """A page of two journals compares their figures, outputs and steps."""
        other = tmp_path / "other.jsonl"
        paths = [rich(tmp_path / "run.jsonl"), rich(other)]
        other.write_text(other.read_text().replace("At noon.", "At night."))
        page = opened(write_page(tmp_path / "two.html", *paths)).go("compare")

        assert {"At noon.", "At night."} <= set(page.locator(".pair-side").all_inner_texts())
        assert page.locator("[role=treeitem]", has_text="Other run").count() == 1
        page.get_by_role("button", name="Changes of the code").click()
        page.locator(".pairs-of-steps .line.removed").first.wait_for()

    def test_without_scripts_the_run_is_there_in_words(self, browser: Any, page_file: Path):
        """A browser that runs no script shows the outline."""
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(page_file.as_uri())
        shown = page.locator("#outline").is_visible(), page.locator("#app").is_visible()
        text = page.locator("#outline").inner_text()
        context.close()

        assert shown == (True, False)
        assert "At noon." in text


class TestKeys:
    """All can be done with the keyboard."""

    def test_keys_move_switch_and_search(self, opened: Any, page_file: Path):
        """`j` and `k` walk the tree, digits open tabs, `n` finds failures, `/` searches, `?` helps, `t` is light and dark."""
        page = opened(page_file, color_scheme="light").go()
        press = page.keyboard.press

        press("j")
        press("j")
        assert text_of(page, "h1") == "Step 2"
        press("2")
        assert page.url.endswith("#r0-s2/prompt")
        press("u")
        press("n")
        assert page.url.endswith("#r0-s2")
        press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        press("?")
        assert page.locator(".help-dialog").is_visible()
        press("Escape")
        press("/")
        page.keyboard.type("YES, at  noon")
        page.get_by_text("matches").wait_for()
        press("Enter")
        assert re.search("#c\\d+$", page.url) or "s1" in page.url
        assert "Yes, at noon." in text_of(page, ".main")

    def test_the_timeline_is_zoomed_by_keys(self, opened: Any, page_file: Path):
        """`+` shows a part of the time, `>` the next, and `0` the whole again."""
        page = opened(page_file).go("r0/timeline")
        ticks = page.locator(".axis .tick")
        whole = ticks.all_inner_texts()
        page.locator(".waterfall-rows").focus()
        seen = []
        for key in ("+", ">", "0"):
            page.keyboard.press(key)
            seen.append(ticks.all_inner_texts())

        assert whole not in seen[:2]
        assert seen[0] != seen[1]
        assert seen[2] == whole

    def test_the_tree_and_the_grid_have_their_own_arrows(self, opened: Any, page_file: Path):
        """Arrows move the focus, fold and unfold; Enter opens."""
        page = opened(page_file).go()
        page.locator("[role=treeitem]").first.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowRight", "Enter"):
            page.keyboard.press(key)

        assert text_of(page, "h1") == "Step 3"
        page.locator("[role=treeitem]", has_text="Step 3").focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator("[role=treeitem]").count() == 6

        page = opened(page_file).go("r0/calls")
        page.locator(".grid-rows [role=row]").first.focus()
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        assert "answer" in text_of(page, ".detail")
        page.keyboard.press("Escape")
        assert page.locator(".detail").count() == 0


class TestHostile:
    """Text of a model is text: it runs nothing, loads nothing, and hides nothing."""

    def test_no_view_runs_or_loads_what_a_model_wrote(self, opened: Any, tmp_path: Path):
        """No dialog, no request, no console message, no element of its own, whatever stands in the journal."""
        text = MARKUP + DECEIT
        view = opened(write_page(tmp_path / "page.html", hostile(tmp_path / "run.jsonl", text)))
        page = view.go()
        for fragment in (
            "r0", "r0/steps", "r0/timeline", "r0/calls", "r0/inputs", "r0/outputs", "r0/variables", "r0/budget",
            "r0/setup", "r0-s1", "r0-s2", "r0-s1/prompt", "r0-s1/calls", "c0", "c2", "t0", "w0",
        ):  # fmt: skip
            page = view.go(fragment)
            assert page.locator("img, iframe, object, embed, form, base").count() == 0
            assert page.locator("#app script, #app style, #app link, #app meta").count() == 0
            hrefs = page.eval_on_selector_all(
                "a", "links => links.map(a => a.getAttribute('href'))"
            )
            assert [href for href in hrefs if not href.startswith("#")] == []

    def test_what_would_deceive_is_visible(self, opened: Any, tmp_path: Path):
        """Characters that reorder or hide text, control characters and terminal codes are marks; a huge line is cut."""
        text = f"{DECEIT} {'x' * 50_000}"
        view = opened(write_page(tmp_path / "page.html", hostile(tmp_path / "run.jsonl", text)))
        page = view.go("r0-s1")
        marks = set(page.locator(".output-panel .unsafe").all_inner_texts())

        assert {"U+202E", "U+202C", "NUL", "ESC[31m", "U+200B", "U+FEFF", "U+0007"} <= marks
        assert "\u202e" not in page.locator("#app").inner_text()
        assert "more characters" in text_of(page, ".output-panel .more-chars")


@pytest.mark.nightly  # waits for a run in steps
def test_a_live_page_follows_the_run(opened: Any, tmp_path: Path):
    """A new step appears by itself, and who reads the newest one is led to it; at its end the page says so."""
    lines = Lines(tmp_path / "run.jsonl")
    lines.run()
    lines.step(1, "x = 1", "one")
    with lines.path.open("rb") as held:
        assert try_lock(held.fileno())
        server = LiveServer(Following(Journals([lines.path], live=True), rest=0.0), built())
        try:
            page = opened(server.url).go("r0-s1")
            page.locator(".header-live", has_text="live").wait_for()
            lines.step(2, "y = 2", "two " * 100)
            page.locator("h1", has_text="Step 2").wait_for()
            assert "two two" in text_of(page, ".output-panel")
            lines.end(outputs={"answer": "red"})
            held.close()
            page.locator(".header-live", has_text="the run has ended").wait_for()
            assert text_of(page, ".header .pill") == "submitted"
        finally:
            server.close()


def test_axe_finds_nothing_in_the_main_views(opened: Any, page_file: Path):
    """The rules of axe-core hold where people spend their time; the nightly tests have all views."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    view = opened(page_file)
    for fragment in ("r0", "r0-s2", "c2"):
        assert violations(axe, view.go(fragment)) == []


def violations(axe: Any, page: Any) -> list[str]:
    """Returns what axe-core finds, as `rule: element`."""
    return [
        f"{found['id']}: {node['html'][:200]}"
        for found in axe.run(page).response["violations"]
        for node in found["nodes"]
    ]
