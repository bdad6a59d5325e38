"""The examples that read, search and sort: each answers correctly on real text, some small ones on each push, all in full size each night."""

from __future__ import annotations

import ast
import datetime
import importlib
import os
import re
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dspy_rlm import TextFile
from dspy_rlm.sources import load
from dspy_rlm.testing import Models, PolicyServer

PROJECT = Path(__file__).parents[1]
EXAMPLES = PROJECT / "examples"
RECIPES = PROJECT / "docs" / "recipes"

NAMES = (
    "transcripts",
    "bulletin",
    "big_log",
    "code_tree",
    "code_review",
    "multi_hop",
    "categorise",
    "unknown_dates",
    "fuzzy_filter",
)


def page_of(name: str) -> Path:
    """Returns the page of an example."""
    return RECIPES / f"{name.replace('_', '-')}.md"


@pytest.fixture
def example(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], tuple[ModuleType, Models]]]:
    """Imports an example, and serves its scripted models."""
    monkeypatch.syspath_prepend(EXAMPLES)
    servers: list[PolicyServer] = []

    def imported(name: str) -> tuple[ModuleType, Models]:
        module: Any = importlib.import_module(name)
        server = PolicyServer({"root": module.root, "sub": module.sub})
        servers.append(server)
        return module, Models(server.lm("root"), server.lm("sub"), server)

    yield imported
    for server in servers:
        server.close()


def test_moments_of_transcripts_are_lines_of_them(example, tmp_path):
    """A moment with an invented time is refused; those that are accepted are whole lines, with file and number."""
    transcripts, models = example("transcripts")
    transcripts.write_transcripts(tmp_path, 30_000)

    prediction = transcripts.ask(tmp_path, "What do they say about `assignment`?", models)

    assert "not verbatim" in prediction.run.steps[2].output
    assert len(prediction.moments) >= 3
    for moment in prediction.moments:
        lines = (tmp_path / moment.path).read_text("utf-8").splitlines()
        assert lines[moment.line - 1] == moment.text
        assert "assignment" in moment.text


@pytest.mark.nightly
def test_pages_of_a_bulletin_are_those_of_its_quotes(example, tmp_path):
    """Pages that are counted from 0 are refused, and the accepted ones have the quotes, in the PDF itself."""
    pytest.importorskip("pypdfium2")
    import pypdfium2

    bulletin, models = example("bulletin")
    bulletin.write_pdf(tmp_path / "small.pdf", 120)

    prediction = bulletin.ask(tmp_path / "small.pdf", "What is the rule for `assignment`?", models)

    assert "is not on page" in prediction.run.steps[2].output
    assert len(prediction.pages) == 3
    pdf = pypdfium2.PdfDocument(tmp_path / "small.pdf")
    for page, quote in zip(prediction.pages, prediction.evidence, strict=True):
        text = pdf[page - 1].get_textpage().get_text_range()
        assert quote.text in text.replace("\ufffe", "-")
    pdf.close()


@pytest.mark.nightly
def test_incidents_of_a_log_are_counted_exactly(example, tmp_path):
    """The counts are those of the log, beyond the limit of one search."""
    big_log, models = example("big_log")
    counts = big_log.write_log(tmp_path / "service.log", 2, errors=6_000)

    prediction = big_log.ask(TextFile(tmp_path / "service.log"), models)

    assert prediction.errors == counts.total() > 5_000
    found = [incident.count for incident in prediction.incidents]
    assert found == sorted(found, reverse=True)
    assert found[0] == counts.most_common(1)[0][1]


@pytest.mark.nightly
def test_files_for_a_feature_are_in_the_tree(example):
    """The files that define the feature are found, each with a reason, and those that import them."""
    code_tree, models = example("code_tree")
    tree = code_tree.python_files("http", "json")

    prediction = code_tree.ask(tree, "parse cookie headers with quoted values", models)

    assert "http/cookiejar.py" in prediction.files
    assert set(prediction.why) == set(prediction.files) <= set(tree)


def test_a_review_finds_what_the_diff_broke(example):
    """Each mistake of the diff is found, at its line in the new file."""
    code_review, models = example("code_review")
    diff, code = code_review.make_diff()

    prediction = code_review.ask(diff, code, models)

    assert {finding.path for finding in prediction.findings} == set(code_review.CHANGES)
    assert [finding.severity for finding in prediction.findings] == ["bug", "risk", "risk", "style"]
    for finding in prediction.findings:
        assert finding.code.text in code[finding.path].splitlines()[finding.line - 1]


def test_hops_lead_to_the_oldest_ancestor(example):
    """The answer is that of the running Python, and each hop is quoted from the document that it names."""
    multi_hop, models = example("multi_hop")
    documents = {"smtplib.py": Path(smtplib.__file__).read_text("utf-8")}

    prediction = multi_hop.ask(documents, "SMTPAuthenticationError", models)

    assert prediction.answer == multi_hop.oldest_ancestor(smtplib.SMTPAuthenticationError)
    assert [hop.fact.split()[0] for hop in prediction.hops] == [
        "SMTPAuthenticationError",
        "SMTPResponseException",
        "SMTPException",
    ]


@pytest.mark.nightly
def test_every_item_has_one_category(example):
    """Items that a sub-LM left out are noticed by the validator and asked for again."""
    categorise, models = example("categorise")
    items = categorise.docstrings("email", "http")

    prediction = categorise.ask(items, "by subject", models)

    indexes = sorted(index for own in prediction.categories.values() for index in own)
    assert indexes == list(range(len(items)))
    assert "in no category" in prediction.run.steps[2].output


def test_dates_are_read_in_the_order_of_their_source(example):
    """All dates are right, and what is no date is None."""
    unknown_dates, models = example("unknown_dates")
    rows, truth = unknown_dates.make_rows(360)

    prediction = unknown_dates.ask(rows, models)

    assert prediction.dates == truth
    assert isinstance(prediction.dates[0], datetime.date)
    assert prediction.order["archive"] == "day first"
    assert prediction.order["shop"] == "month first"


@pytest.mark.nightly
def test_reviews_that_contradict_their_stars_are_found(example):
    """The outliers are those whose stars were turned round, and no review is both decided and left open."""
    fuzzy_filter, models = example("fuzzy_filter")
    reviews, wrong = fuzzy_filter.make_reviews("email", "json")

    prediction = fuzzy_filter.ask(reviews, "says that something is slow", models)

    assert {outlier.index for outlier in prediction.outliers} == wrong
    assert prediction.matches
    assert all(m.because.text in reviews[m.index]["text"] for m in prediction.matches)


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_the_command_runs_in_its_full_size(name):
    """`python examples/NAME.py` needs no argument, no key and no network."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DSPY_RLM_")}
    command = [sys.executable, EXAMPLES / f"{name}.py"]
    ended = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr[-2_000:]
    assert "Scripted policies, no language models" in ended.stderr
    assert len(ended.stdout.splitlines()) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_code_that_runs(name):
    """Each Python block of a recipe's page is in its example, word for word, and the index links to the page."""
    page = page_of(name).read_text("utf-8")
    code = (EXAMPLES / f"{name}.py").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)

    assert blocks
    for block in blocks:
        ast.parse(block)
        assert block.strip() in code
    assert f"python examples/{name}.py" in page
    assert f"({page_of(name).name})" in (RECIPES / "index.md").read_text("utf-8")


@pytest.mark.nightly
def test_a_pdf_is_read_page_by_page(example, tmp_path):
    """The marks of the pages are those that the example relies on, and hyphens at line ends are hyphens."""
    pytest.importorskip("pypdfium2")
    bulletin, _ = example("bulletin")
    bulletin.write_pdf(tmp_path / "three.pdf", 3)

    text = load(tmp_path / "three.pdf")

    assert re.findall(r"^\[page (\d+)\]$", text, re.MULTILINE) == ["1", "2", "3"]
    assert "-" in text
    assert re.findall(r"[\x00-\x08\ufffe]", text) == []
