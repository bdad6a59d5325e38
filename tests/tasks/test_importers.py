"""The importers, on small files of the published forms. The rows are made up; their columns are those of the data sets."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_rlm import InputError, tasks
from dspy_rlm.tasks.__main__ import main

OOLONG = {
    "id": 17000206,
    "context_len": 1024,
    "dataset": "trec_coarse",
    "context_window_id": 3,
    "context_window_text": "Date: Jan 05, 2023 || User: 20 || Instance: Who was Ada ?\n"
    "Date: Feb 02, 2023 || User: 10 || Instance: Where is Rome ?\n"
    "Date: Mar 09, 2023 || User: 30 || Instance: What is NATO ?",
    "context_window_text_with_labels": "Date: Jan 05, 2023 || User: 20 || Instance: Who was Ada ? || Label: human being\n"
    "Date: Feb 02, 2023 || User: 10 || Instance: Where is Rome ? || Label: location\n"
    "Date: Mar 09, 2023 || User: 30 || Instance: What is NATO ? || Label: abbreviation",
    "question": "How many data points should be classified as label 'location'?",
    "task_group": "counting",
    "task": "TASK_TYPE.NUMERIC_ONE_CLASS",
    "answer": "[1]",
    "answer_type": "ANSWER_TYPE.NUMERIC",
}
BROWSECOMP = {
    "query_id": "769",
    "query": "Which town is meant?",
    "answer": "Upwell",
    "gold_docs": [{"docid": "5", "text": "It is Upwell.", "url": "http://a"}],
    "evidence_docs": [{"docid": "5", "text": "It is Upwell.", "url": "http://a"}],
    "negative_docs": [{"docid": "9", "text": "Nothing here.", "url": "http://b"}],
}
LONGBENCH = {
    "_id": "66fcffd9bb02136c067c94c5",
    "domain": "Code Repository Understanding",
    "sub_domain": "Code repo QA",
    "difficulty": "hard",
    "length": "long",
    "question": "What does main() return?",
    "choice_A": "0",
    "choice_B": "1",
    "choice_C": "None",
    "choice_D": "an exit code",
    "answer": "D",
    "context": "def main(): return run()",
}
RULER = {
    "index": 4,
    "input": "A special magic number is hidden within the following text.\nOne of the special magic numbers for jittery-hospital is: 5437923.\n"
    "What is the special magic number for jittery-hospital mentioned in the provided text?",
    "outputs": ["5437923"],
    "length": 4096,
}
LONGCOT = {"question_id": "Math_easy_1", "prompt": "Compute it.", "problem": None, "answer": "42"}


def _write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "row", "answer", "id_", "question", "part"),
    [
        ("oolong", OOLONG, 1, "17000206", "How many data points", "|| User: 10 ||"),
        ("browsecomp-plus", BROWSECOMP, "Upwell", "769", "Which town is meant?", "DOCUMENT 9 ########\nNothing here."),
        ("longbench-v2", LONGBENCH, "D", LONGBENCH["_id"], "(D) an exit code", "def main()"),
        ("ruler", RULER, ["5437923"], "4", "What is the special", "jittery-hospital is: 5437923."),
        ("longcot", LONGCOT, "42", "Math_easy_1", "Compute it.", ""),
    ],
)  # fmt: skip
def test_a_row_becomes_an_example(tmp_path, name, row, answer, id_, question, part):
    """Context, question, typed truth and ID are taken from the columns of the data set; both metrics accept the truth."""
    task = tasks.read(name, _write(tmp_path / "rows.jsonl", row))

    (example,) = task.examples
    assert (example.answer, example.id) == (answer, id_)
    assert question in example.question
    assert part in example.context
    assert task.metric(example, example) == task.official_metric(example, example) == 1.0
    assert (task.manifest.seed, task.manifest.n) == (None, 1)
    assert len(task.manifest.sources[name].sha256) == 64


def test_every_format_is_tested():
    """A new format needs a row above."""
    formats = {"oolong", "browsecomp-plus", "longbench-v2", "ruler", "longcot", "oolong-pairs"}

    assert set(tasks.formats()) == formats


def test_the_twenty_conditions_are_asked_about_the_real_lines(tmp_path):
    """OOLONG's own file has the labels in a second text, from which the pairs are computed; the context does not show them."""
    task = tasks.read(
        "oolong-pairs", _write(tmp_path / "rows.jsonl", OOLONG, {**OOLONG, "dataset": "spam"})
    )

    answers = {example.id: example.answer for example in task.examples}
    assert len(answers) == 20
    assert answers["3-condition-4"] == []  # the only user with a human being asked before January 6
    assert answers["3-condition-6"] == [(10, 30)]
    assert not any("Label: " in example.context for example in task.examples)


def test_pairs_are_read_from_a_column_too(tmp_path):
    """A file of rows with their own question and pairs, as text or as lists."""
    rows = [
        {"id": "a", "context": "lines", "question": "Which?", "answer": "(3, 1)\n(4, 5)"},
        {"id": "b", "context": "lines", "question": "Which?", "answer": [[1, 2]]},
    ]
    task = tasks.read("oolong-pairs", _write(tmp_path / "rows.jsonl", *rows))

    assert [example.answer for example in task.examples] == [[(1, 3), (4, 5)], [(1, 2)]]


@pytest.mark.parametrize(
    ("text", "answer", "scores"),
    [
        ("[datetime.date(2023, 1, 6)]", "2023-01-06", (1, 1)),
        ("[datetime.date(2023, 1, 6)]", "Jan 06, 2023", (0, 1)),
        ("['more common than']", "Answer: it is more common than that", (0, 1)),
        ("['spam']", "Label: spam", (1, 1)),
        ("[12]", "14", (0, 0.5625)),
    ],
)
def test_answers_of_oolong(tmp_path, text, answer, scores):
    """Answers are lists as text: of a number, a word or a date."""
    task = tasks.read("oolong", _write(tmp_path / "rows.jsonl", {**OOLONG, "answer": text}))

    prediction = dspy.Prediction(answer=answer)
    found = (
        task.metric(task.examples[0], prediction),
        task.official_metric(task.examples[0], prediction),
    )
    assert found == scores
    if "date" in text:
        assert task.examples[0].answer == date(2023, 1, 6)


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_other_kinds_of_files(tmp_path, suffix):
    """JSON, CSV and Parquet hold the same rows as JSON lines."""
    path = tmp_path / f"rows{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps({"questions": [LONGBENCH]}), "utf-8")
    elif suffix == ".csv":
        path.write_text(",".join(LONGBENCH) + "\n" + ",".join(LONGBENCH.values()) + "\n", "utf-8")
    else:
        duckdb = pytest.importorskip("duckdb")
        source = _write(tmp_path / "source.jsonl", LONGBENCH)
        duckdb.sql(f"COPY (SELECT * FROM read_json('{source}')) TO '{path}' (FORMAT parquet)")

    assert tasks.read("longbench-v2", path).examples[0].answer == "D"


def test_the_limit_is_the_number_of_rows(tmp_path):
    """No row after the limit is read, so a large file costs nothing."""
    path = _write(tmp_path / "rows.jsonl", LONGBENCH, {**LONGBENCH, "_id": "2"})
    path.write_text(path.read_text("utf-8") + "no JSON", "utf-8")

    assert len(tasks.read("longbench-v2", path, limit=2).examples) == 2
    with pytest.raises(InputError, match=r"Cannot read .*rows\.jsonl"):
        tasks.read("longbench-v2", path)


@pytest.mark.parametrize(
    ("name", "row", "complaint"),
    [
        ("oolong", {"question": "?"}, "no column 'context_window_text'; it has: question"),
        ("oolong", {**OOLONG, "answer": "a{"}, "This answer is not a list"),
        ("oolong-pairs", {**OOLONG, "context_window_text_with_labels": "none"}, "Row 1 has no labelled lines"),
        ("browsecomp-plus", {**BROWSECOMP, "gold_docs": [], "evidence_docs": [], "negative_docs": []}, "decrypt the file"),
        ("longbench-v2", {**LONGBENCH, "domain": "Single-Document QA"}, "has no example of longbench-v2"),
        ("ruler", {**RULER, "input": "one line"}, "one line only"),
        ("longcot", {**LONGCOT, "answer": None}, "has no example of longcot"),
    ],
)  # fmt: skip
def test_rows_of_another_form_are_refused(tmp_path, name, row, complaint):
    """The message says which column is missing and which there are."""
    with pytest.raises(InputError, match=complaint):
        tasks.read(name, _write(tmp_path / "rows.jsonl", row))


def test_files_that_are_none_are_refused(tmp_path):
    """An unknown format, another kind of file, rows that are no objects, a file that is not there."""
    with pytest.raises(ValueError, match=r"There is no format 'x'\. Choose one of: oolong"):
        tasks.read("x", tmp_path)
    with pytest.raises(
        InputError, match=r"is not a file of rows: \.csv, \.json, \.jsonl, \.parquet can be read"
    ):
        tasks.read("oolong", tmp_path / "rows.txt")
    with pytest.raises(InputError, match="Cannot read"):
        tasks.read("oolong", tmp_path / "missing.jsonl")
    (tmp_path / "list.jsonl").write_text("[1]\n", "utf-8")
    with pytest.raises(InputError, match="row 1 is not an object"):
        tasks.read("oolong", tmp_path / "list.jsonl")


def test_the_command_reads_and_makes_tasks(tmp_path, capsys):
    """It prints the manifest, writes the examples, and says on stderr why it cannot."""
    out = tmp_path / "out.jsonl"
    assert (
        main(["read", "ruler", str(_write(tmp_path / "rows.jsonl", RULER)), "--out", str(out)]) == 0
    )
    assert json.loads(capsys.readouterr().out)["name"] == "ruler"
    assert json.loads(out.read_text("utf-8"))["answer"] == ["5437923"]

    assert main(["make", "graphwalks", "--tokens", "4000", "--n", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2
    assert main(["make", "graphwalks", "--tokens", "1"]) == 1
    assert "is not between" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert "oolong-pairs" in capsys.readouterr().out
