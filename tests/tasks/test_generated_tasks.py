"""The generated tasks: the same bytes everywhere, answers that two ways agree on, lengths as requested."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import dspy
import pytest

from dspy_rlm import tasks
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators import browsecomp, labelled_lines, no_overlap, oolong_pairs
from dspy_rlm.tasks.loading import KINDS
from dspy_rlm.tasks.task import INPUTS

# The beginning of each hash at 8,000 tokens, three examples, seed 0. It changes when a generator does, or when the sandbox's
# Python does, whose library most tasks quote; and with no version of the Python that runs here.
HASHES = {
    "s-niah": "5bc4494fca37a6c0",
    "mk-niah": "9ca6af4e481c5e43",
    "mv-niah": "8bcc5cb55a5dc777",
    "niah-no-overlap": "54be5dcea30ff073",
    "variable-tracking": "9a2cf0a547787f43",
    "common-words": "a4aa889896fbf536",
    "oolong-counting": "9f46f4921f353bcc",
    "oolong-users": "d236faccdb7140eb",
    "oolong-timeline": "9ed0a52d603d5aad",
    "oolong-pairs": "97b6b2af1c969878",
    "code-qa": "0f942344f71be5b3",
    "function-search": "7a67c2f1c6c95935",
    "mrcr": "e308546c2d126aea",
    "graphwalks": "8d1cce17d620ec2e",
    "browsecomp": "04d9cb946ac1e175",
    "browsecomp-fetch": "6482361ed857332a",
}


def _second_way(name: str, context: str, question: str, tokens: int, seed: int) -> Any:
    if name in KINDS:
        return KINDS[name].solve(context, question)
    _, documents = browsecomp.corpus(Draws(name, seed, tokens), tokens * 4)
    return browsecomp.solve(browsecomp.text_of(documents), question)


def _check(name: str, tokens: int, n: int, seed: int) -> tasks.Task:
    task = tasks.load(name, tokens=tokens, n=n, seed=seed)
    for example in task.examples:
        found = _second_way(name, example.context, example.question, tokens, seed)
        assert found == example.answer, (example.id, example.question)
        assert task.metric(example, example) == task.official_metric(example, example) == 1.0
    return task


def test_every_task_has_a_hash():
    """A new task is in the table of hashes."""
    assert set(HASHES) == set(tasks.names())


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", HASHES)
def test_a_task_is_the_same_everywhere(name):
    """The bytes depend on the arguments only; the two ways to the answer agree, and both metrics accept it."""
    task = _check(name, 8_000, 3, 0)

    assert task.manifest.sha256.startswith(HASHES[name])
    assert (task.name, task.manifest.seed, task.manifest.tokens) == (name, 0, 8_000)
    assert len({example.id for example in task.examples}) == task.manifest.n == 3
    assert tuple(task.signature.input_fields) == INPUTS
    assert tuple(task.signature.output_fields) == ("answer",)
    assert task.examples[0].inputs().keys() == list(INPUTS)
    assert json.loads(json.dumps(task.manifest.as_dict()))["sha256"] == task.manifest.sha256
    if name != "browsecomp-fetch":
        assert all(0.9 * 32_000 < chars < 1.05 * 32_000 for chars in task.manifest.chars)


@pytest.mark.nightly
@pytest.mark.parametrize("name", HASHES)
@pytest.mark.parametrize("tokens", [16_000, 250_000])
def test_the_two_ways_agree_at_greater_lengths(name, tokens):
    """Many examples, another seed, and contexts of a million characters; pairs take the square of their users."""
    many = tokens < 100_000
    if name == "oolong-pairs":
        tokens = 16_000 if many else 48_000
    _check(name, tokens, 40 if many else 4, seed=7)


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in HASHES if name != "oolong-pairs"])
def test_four_million_tokens(name):
    """The greatest length: 16 million characters, which repeat the library."""
    task = _check(name, 4_000_000, 1, 0)

    if name != "browsecomp-fetch":
        assert task.manifest.chars[0] > 0.9 * 16_000_000


def test_another_seed_gives_another_task():
    """The seed matters, and loading twice does not."""
    one, same, other = (tasks.load("s-niah", tokens=4_000, n=1, seed=seed) for seed in (1, 1, 2))

    assert one.manifest == same.manifest
    assert one.manifest.sha256 != other.manifest.sha256


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "niah"}, "There is no task 'niah'. Choose one of: s-niah"),
        ({"name": "s-niah", "tokens": 100}, "not between 4,000 and 4,000,000"),
        ({"name": "s-niah", "n": 0}, "not a number of examples"),
    ],
)
def test_what_cannot_be_generated_is_refused(arguments, complaint):
    """The message says what would be possible."""
    with pytest.raises(ValueError, match=complaint):
        tasks.load(**arguments)


def test_labels_are_never_balanced_and_never_tied():
    """No two labels are equally frequent, and the most frequent one comes more than twice as often as the least."""
    for seed in range(5):
        counts = labelled_lines.counts_of(labelled_lines.lines(Draws(seed), 40_000))

        assert len(set(counts.values())) == len(labelled_lines.LABELS)
        assert max(counts.values()) > 2 * min(counts.values())


def test_the_label_of_each_question_follows_from_its_form():
    """The templates are unambiguous: what a line was drawn as is what it reads as."""
    lines = labelled_lines.lines(Draws("labels"), 120_000)

    assert [line.label for line in lines] == [labelled_lines.label_of(line.text) for line in lines]


def test_the_first_word_does_not_tell_the_label():
    """A search for "What" finds questions of every label."""
    lines = labelled_lines.lines(Draws("words"), 120_000)

    assert {line.label for line in lines if line.text.startswith("What")} == set(
        labelled_lines.LABELS
    )


def test_twenty_conditions_of_the_paper():
    """Ten are about both users alike, ten about one user and the other; their questions differ."""
    kinds = Counter(type(condition).__name__ for condition in oolong_pairs.CONDITIONS)

    assert kinds == {"Both": 10, "OneAndOther": 10}
    assert len({oolong_pairs.question_of(condition) for condition in oolong_pairs.CONDITIONS}) == 20


def test_the_number_of_users_can_be_chosen():
    """262 users who all qualify are the 34,191 pairs of the paper's longest inputs."""
    task = tasks.load("oolong-pairs", tokens=100_000, n=1, users=262, conditions=(1,), seed=1)

    assert len({line.user for line in labelled_lines.read(task.examples[0].context)}) == 262
    assert len(task.examples[0].answer) <= 34_191


def test_a_needle_without_overlap_shares_no_word_with_its_question():
    """Neither the needle nor any other paragraph has a content word of the question."""
    task = tasks.load("niah-no-overlap", tokens=8_000, n=5, seed=2)

    for example in task.examples:
        asked = no_overlap.content_words(example.question) - {"character", "certainly"}
        assert asked
        assert asked.isdisjoint(no_overlap.content_words(example.context))


def test_documents_are_fetched_by_their_id():
    """The tool of the task returns a document, and refuses an ID that does not exist."""
    task = tasks.load("browsecomp-fetch", tokens=4_000, n=1)
    (fetch,) = task.tools
    first = task.examples[0].context.split(":")[0]

    assert len(fetch(first)) > 100
    with pytest.raises(KeyError, match="no document 'doc-0'"):
        fetch("doc-0")


def test_metrics_never_raise():
    """An answer of another type, or none, scores 0 by both metrics of every task."""
    for name in ("s-niah", "oolong-pairs", "oolong-counting", "graphwalks", "mrcr"):
        task = tasks.load(name, tokens=4_000, n=1)
        for answer in (None, 3.5, {"a": 1}, [[1]], [(1, 2, 3)], object()):
            prediction = dspy.Prediction(answer=answer)
            assert task.metric(task.examples[0], prediction) == 0.0
            assert 0.0 <= task.official_metric(task.examples[0], prediction) < 1.0
        assert task.metric(task.examples[0], dspy.Prediction()) == 0.0


def test_importing_the_package_imports_no_dspy():
    """`dspy_rlm.tasks` is cheap to import: a command that only lists the tasks need not wait for DSPy."""
    code = "import sys; from dspy_rlm import tasks; tasks.names(); sys.exit('dspy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
