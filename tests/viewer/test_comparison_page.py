"""The page of a comparison in a real browser: nothing runs, nothing is fetched, everything can be read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from dspy_rlm.comparing.result import ComparisonResult
from dspy_rlm.comparing.rows import Row

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def comparison_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of five systems at three lengths, with failures and hostile texts."""
    rng = random.Random(1)
    rows = []
    names = ("rlm", "direct", "retrieval", "compaction", "a system with a long name <b>")
    for number in range(75):
        length = (1_000, 20_000, 200_000)[number % 3]
        for place, name in enumerate(names):
            failure = "ContextWindowExceededError" if name == "direct" and length > 100_000 else ""
            rows.append(
                Row(
                    f"item{number}", number, name, "setup", length,
                    score=0.0 if failure else float(rng.random() < 0.9 - place / 10),
                    seconds=rng.random() * 9, cost=0.001 * (place + 1) * rng.random(), calls=3,
                    input_tokens=length, output_tokens=100, turns=4 if place == 0 else None,
                    failure=failure, error="<script>alert(1)</script>\u202e" if failure else "",
                    outputs={"answer": '"><img src=https://example.com/x onerror=alert(1)>'},
                )
            )  # fmt: skip
    path = tmp_path_factory.mktemp("comparison") / "page.html"
    models = {"rlm": "openai/root, openai/sub", "direct": "openai/root"}
    ComparisonResult(names, tuple(rows), 100, "oolong", "f1", "max_cost", models=models).save(path)
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_comparison_can_be_read(opened: Any, comparison_file: Path, theme: str, width: int):
    """The rules of axe-core hold in both themes, on a desktop and on a phone; only tables scroll sideways."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(comparison_file, color_scheme=theme).page
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(comparison_file.as_uri())
    page.click("summary")

    found = axe.run(page).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("svg .dot").count() == 5 + 3 * 5
    assert page.locator("img, script").count() == 0
