"""The page in a real browser, at length: every view against axe-core, on a phone, on paper, long runs, and other hostile texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browsed_runs import hostile, long, rich, write_page

pytestmark = pytest.mark.nightly

RUN_VIEWS = ("", "/steps", "/timeline", "/calls", "/inputs", "/outputs", "/variables", "/budget", "/setup")  # fmt: skip
VIEWS = (
    *(f"r0{view}" for view in RUN_VIEWS),
    "r1", "r0-s1", "r0-s2", "r0-s4", "r0-s3/prompt", "r0-s1/calls", "c2", "t0", "w0", "r0/inputs/pages/[1]/20",
)  # fmt: skip


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two runs with something for each view."""
    folder = tmp_path_factory.mktemp("page")
    journals = [rich(folder / name) for name in ("run.jsonl", "other.jsonl")]
    return write_page(folder / "run.html", *journals)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_in_any_view(opened: Any, page_file: Path, theme: str, width: int):
    """Contrast, names, roles and order are right in both themes, on a desktop and on a phone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    view = opened(page_file, color_scheme=theme)
    page = view.go()
    page.set_viewport_size({"width": width, "height": 800})
    for fragment in (*VIEWS, "compare", "b-r0-s2"):
        found = axe.run(view.go(fragment)).response["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found] == [], fragment
    for key in ("/", "?"):
        page.keyboard.press(key)
        found = axe.run(page).response["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found] == [], key
        page.keyboard.press("Escape")


def test_a_phone_shows_all_without_sideways_scrolling(opened: Any, page_file: Path):
    """No view is wider than a phone; the tree is behind a button and goes away once a step is chosen."""
    view = opened(page_file)
    page = view.go()
    page.set_viewport_size({"width": 390, "height": 800})
    for fragment in (*VIEWS, "compare"):
        page = view.go(fragment)
        wide = "() => Math.max(document.documentElement.scrollWidth, document.querySelector('main').scrollWidth)"
        assert page.evaluate(wide) <= 390, fragment
    tree = page.locator("[role=tree]")
    assert not tree.is_visible()
    page.get_by_role("button", name="Runs and steps").click()
    tree.get_by_text("Step 2").first.click()
    page.locator("h1", has_text="Step 2").wait_for()
    assert not tree.is_visible()


def test_print_is_light_and_has_the_whole_view(opened: Any, page_file: Path):
    """Paper has no tree and no buttons, and all steps of the view."""
    view = opened(page_file, color_scheme="dark")
    page = view.go("r0/steps")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")

    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert not page.locator(".side").is_visible()
    assert page.locator(".transcript-step .block").count() >= 5
    assert page.evaluate("document.querySelector('main').scrollHeight") > 800
    page = view.go("r0/calls")
    page.set_viewport_size({"width": 800, "height": 200})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".grid-rows [role=row]").count() == 7
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_thousands_of_steps_are_a_few_rows(opened: Any, tmp_path: Path):
    """Of a long tree and a long grid only what is in sight exists, and the search finds the last step."""
    journal = long(tmp_path / "run.jsonl", 2_000)
    view = opened(write_page(tmp_path / "run.html", journal))
    page = view.go("r0-s1500")

    assert page.locator("[role=treeitem]").count() < 120
    assert page.locator("[role=treeitem][aria-selected=true]", has_text="Step 1500").is_visible()
    page.locator("[role=tree]").evaluate("tree => { tree.scrollTop = tree.scrollHeight }")
    page.get_by_text("Step 2000").wait_for()
    page = view.go("r0/calls")
    assert page.locator(".grid-rows [role=row]").count() < 120
    page = view.go("r0/timeline")
    assert page.locator(".waterfall-row").count() < 120
    page.keyboard.press("/")
    page.keyboard.type("Sub 1999.")
    page.get_by_text("1 match", exact=True).wait_for()
    page.keyboard.press("Enter")
    assert "Sub 1999." in page.locator(".detail .role-user").inner_text()


@pytest.mark.parametrize(
    "text",
    [
        "__proto__", "constructor", "</style></title></textarea></noscript><plaintext>", "<!--", "]]>",
        "\ud800", "%00%zz#../..", "e\u0301" * 500 + "a" + "\u0300" * 5_000, "\u05d0\u05d1 123 \u0645",
        "x" * 3_000_000, "\n" * 60_000, "a\rb\r\nc\u2028d\u2029e\x85f",
    ],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_no_text_breaks_a_view(opened: Any, tmp_path: Path, text: str):
    """Names of JavaScript, ends of elements, lone surrogates, towers of accents, huge lines and very many lines are shown."""
    view = opened(write_page(tmp_path / "page.html", hostile(tmp_path / "run.jsonl", text)))
    for fragment in VIEWS:
        page = view.go(fragment)
        assert page.locator("h1").count() == 1
        assert page.evaluate("document.querySelector('main').scrollWidth") <= 1280


def test_a_damaged_page_keeps_its_outline(browser: Any, page_file: Path, tmp_path: Path):
    """If the document cannot be read, the page says so above the run in words."""
    damaged = tmp_path / "damaged.html"
    text = page_file.read_text(encoding="utf-8")
    damaged.write_text(re.sub('(id="document">)....', r"\1AAAA", text), encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto(damaged.as_uri())
    page.locator("#outline .bad").wait_for()
    shown = page.locator("#outline").inner_text()
    context.close()

    assert "At noon." in shown


def test_a_redacted_page_has_figures_and_no_words(opened: Any, tmp_path: Path):
    """After `--redact` all views open, and none has a text of the run."""
    journal = rich(tmp_path / "run.jsonl")
    view = opened(write_page(tmp_path / "run.html", journal, redact=True))
    for fragment in VIEWS:
        text = view.go(fragment).locator("#app").inner_text()
        for secret in ("At noon", "valve", "print(hits", "Does it leak", "You write code"):
            assert secret not in text, fragment
