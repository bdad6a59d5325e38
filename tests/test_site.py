"""The documentation site, without building it: navigation, the reference, messages that pages quote, adapted links."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from doc_blocks import PROJECT

import dspy_rlm
import sandbox_runtime
from website.__main__ import check_navigation, read_config, source_pages
from website.links import broken_links
from website.navigation import entries, problems
from website.reference import DSPY_RLM, PAGES, SANDBOX_RUNTIME, sections
from website.staging import adapt, with_code


def test_every_page_has_one_place_in_the_navigation():
    """A new page without a section fails here, and in the build, with what to do."""
    assert check_navigation(read_config()) == []


def test_a_page_without_a_section_is_named():
    """The check finds pages that nav lacks, pages that do not exist, and pages that it has twice."""
    nav = [{"A": "a.md"}, {"More": [{"B": "b.md"}, {"Again": "a.md"}]}]
    assert list(entries(nav)) == [("A", "a.md"), ("B", "b.md"), ("Again", "a.md")]
    assert problems(nav, ["a.md", "c.md"]) == [
        "c.md is in no section: add it to nav in website/zensical.toml",
        "nav names b.md, which does not exist",
        "nav names a.md 2 times",
    ]


# The programs that are not called as their page.
EXAMPLES = {"evaluation-and-ci": "evaluation", "web-service": "service"}


@pytest.mark.parametrize(
    ("module", "groups"),
    [(dspy_rlm, DSPY_RLM), (sandbox_runtime, SANDBOX_RUNTIME)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_public_name_is_in_the_reference(module, groups):
    """Each name of `__all__` has one heading, and each name of a heading is public."""
    listed = [name for names in sections(module.__all__, groups).values() for name in names]
    assert sorted(listed) == sorted(module.__all__)
    assert {name for names in groups.values() for name in names} <= set(module.__all__)


def literals() -> str:
    """Returns the source of both packages, with literals that Python joins written as one."""
    texts = [
        path.read_text("utf-8")
        for package in ("dspy_rlm", "sandbox_runtime")
        for path in sorted((PROJECT / package).rglob("*.py"))
    ]
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(texts))


def test_the_messages_of_troubleshooting_exist():
    """Each message that the page quotes is in the code, word for word; `...` stands for what differs."""
    page = (PROJECT / "docs" / "troubleshooting.md").read_text("utf-8")
    quoted = re.findall(r'"([^"\n]{15,})"', re.sub(r"`[^`]*`", "", page))
    source = literals()
    missing = [
        message
        for message in quoted
        for part in message.split("...")
        if part.strip(" .,:()") and part.strip(" .") not in source
    ]

    assert len(quoted) >= 25
    assert missing == []


def test_the_support_matrix_is_that_of_the_project():
    """The extras, their oldest versions, DSPy's range and the Pythons of CI are those that the project states."""
    page = (PROJECT / "docs" / "platforms.md").read_text("utf-8")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    for extra, needs in project["optional-dependencies"].items():
        if extra in {"dev", "integrations"}:  # for the tests
            continue
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{extra}` |")]
        stated = sorted(row.rstrip(" |").rpartition(" | ")[2].split(", "))
        assert stated == sorted(one.replace(">=", " ") for one in needs if "dspy-rlm[" not in one)
    assert "dspy>=3.4.1,<3.5" in project["dependencies"]
    assert "3.4.1 or newer, below 3.5" in page
    workflow = (PROJECT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert 'python: ["3.11", "3.12", "3.13", "3.14"]' in workflow
    assert "lists 3.11 to 3.14" in page


@pytest.mark.parametrize(
    "recipe",
    sorted(page for page in (PROJECT / "docs" / "recipes").glob("*.md") if page.stem != "index"),
    ids=lambda recipe: recipe.stem,
)
def test_a_recipe_has_its_command_and_says_what_only_a_model_shows(recipe: Path):
    """Each page has the one command that runs it, and says that policies made its output."""
    page = recipe.read_text("utf-8")
    program = f"examples/{EXAMPLES.get(recipe.stem, recipe.stem.replace('-', '_'))}.py"
    assert f"python {program}" in page
    assert (PROJECT / program).is_file()
    assert re.search(r"scripted polic(y|ies)", page, re.IGNORECASE)
    assert re.search(r"nothing about quality|a question about the model|needs a model", page)


def test_links_between_files_become_links_between_pages():
    """Pages, other files, anchors and addresses: each link leads to where it led in the repository."""
    text = "[a](b.md#c) [d](../SECURITY.md) [e](../x.py) [f](https://g) [h](#i) [j](../gone.py) [k](../l/)\n"
    pages = {"docs/b.md": "b.md", "SECURITY.md": "security.md"}
    attached = {"x.py": "files/x.py"}
    assert adapt(text, "docs/recipes/../a.md", "a.md", pages, attached.get) == text.replace(
        "../SECURITY.md", "security.md"
    ).replace("../x.py", "files/x.py").replace("[k](../l/)", "k")
    deep = adapt("[k](../b.md)\n", "docs/recipes/l.md", "recipes/l.md", pages, attached.get)
    assert deep == "[k](../b.md)\n"


def test_blocks_stay_and_marks_become_notes():
    """Links in code are text; a list directly below a paragraph gets the empty line that it needs."""
    text = (
        "A list:\n- [x](y.md)\n- z\n\n<!-- not run: needs `a` & b -->\n```python\n[x](y.md)\n```\n"
    )
    assert adapt(text, "docs/a.md", "a.md", {"docs/y.md": "y2.md"}, lambda _: None) == (
        "A list:\n\n- [x](y2.md)\n- z\n\n"
        '<p class="block-note">Not run by the tests: needs <code>a</code> &amp; b.</p>\n\n'
        "```python\n[x](y.md)\n```\n"
    )
    assert with_code("# A\n", {"examples/x.py": "x = 1\n"}) == (
        '# A\n\n??? example "examples/x.py"\n\n    ```python\n    x = 1\n    ```\n'
    )


def test_pages_outside_of_docs_are_pages():
    """The security policy, the figures and the changelog are pages, and exist."""
    pages = source_pages(read_config())
    assert pages["SECURITY.md"] == "security.md"
    assert all((PROJECT / source).is_file() for source in pages)
    assert len(set(pages.values()) | set(PAGES)) == len(pages) + len(PAGES)


def test_broken_links_of_built_pages_are_found(tmp_path: Path):
    """Pages, anchors and pictures that do not exist are named; addresses of other hosts are not looked at."""
    (tmp_path / "a.html").write_text(
        '<h1 id="x"></h1><a href="b.html#y">1</a><a href="b.html#z">2</a><a href="#x">3</a><a href="#w">4</a>'
        '<img src="c.png"><a href="https://example.org/q">5</a><a href="sub/">6</a>'
    )
    (tmp_path / "b.html").write_text('<p id="y"></p>')
    assert broken_links(tmp_path) == [
        "a.html: #w",
        "a.html: b.html#z",
        "a.html: c.png",
        "a.html: sub/",
    ]
