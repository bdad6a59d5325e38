"""The recipes: each page names its program, and each night each program runs, as its page says (`test_docs.py`)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import PROJECT, blocks

RECIPES = sorted(
    path for path in (PROJECT / "docs" / "recipes").glob("*.md") if path.stem != "index"
)
EXAMPLES = PROJECT / "examples"


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.stem)
def test_a_recipe_is_one_command(page: Path):
    """A recipe links its program, runs it by one command on the page, and says what its figures are about."""
    text = page.read_text("utf-8")
    (program, *_) = re.findall(r"\bexamples/\w+\.py\b", text)
    assert any(f"python {program}" in block.code for block in blocks(page))
    assert "polic" in text.lower()
    tree = ast.parse((PROJECT / program).read_text("utf-8"))
    assert f"python {program}" in (ast.get_docstring(tree) or "")


def test_every_recipe_is_listed():
    """The index of the recipes names each page."""
    index = (PROJECT / "docs" / "recipes" / "index.md").read_text("utf-8")
    assert [page.name for page in RECIPES if f"({page.name})" not in index] == []


@pytest.mark.nightly  # Streamlit takes seconds to import, and is not installed on each push
def test_the_streamlit_page_shows_steps_and_answer():
    """The page sends the question to the service, and shows its steps and its answer."""
    testing = pytest.importorskip("streamlit.testing.v1", reason="pip install streamlit")
    pytest.importorskip("fastapi", reason="pip install fastapi")
    service = subprocess.Popen(
        [sys.executable, "service.py", "--serve", "0"],
        cwd=EXAMPLES,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert service.stderr is not None
        address = next(
            found[0]
            for line in service.stderr
            if (found := re.search(r"http://127.0.0.1:\d+", line))
        )
        app = testing.AppTest.from_file(str(EXAMPLES / "page.py"), default_timeout=120)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RLM_SERVICE", address)
            app.run()
            app.button[0].click().run()
        shown = [element.value for element in app.text]
    finally:
        service.terminate()
        service.communicate()
    assert not app.exception
    assert any("asking the LM" in text for text in shown)
    assert any("type hierarchy" in text for text in shown)
