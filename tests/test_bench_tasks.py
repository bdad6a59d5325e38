"""The scripted policies of `benchmarks.tasks`: honest ones reach their ceiling, and the engine reacts to the ways to fail."""

from __future__ import annotations

import pytest

from benchmarks.task_policies.failing import FAILURES, extract, reactions
from benchmarks.task_policies.honest import CEILING, HONEST
from benchmarks.task_policies.running import Outcome, run
from benchmarks.task_policies.tables import (
    FailedRow,
    Row,
    honest_table,
    tokens_table,
    ways_table,
)
from benchmarks.tasks import failing_task, main, row_of
from dspy_rlm import tasks

TOKENS = 8_000


def test_every_task_has_an_honest_policy():
    """A new task needs one."""
    assert set(HONEST) == set(tasks.names())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "oolong-counting" else pytest.mark.nightly)
        for name in HONEST
    ],
)
def test_an_honest_policy_reaches_its_ceiling(name):
    """The answer is right by both rules, through the real engine and a real server."""
    task = tasks.load(name, tokens=TOKENS, n=1, seed=3)

    (outcome,) = run(task, HONEST[name])

    assert (outcome.score, outcome.official) == (CEILING, 1.0)
    assert outcome.ended == "submitted (SUBMIT)"


# How each run ends, and the reactions of the engine in the run and in the record.
ENDINGS = {
    "answers from memory": ("submitted (SUBMIT)", [], ["unread_inputs"]),
    "answers from memory, coverage required": ("extracted (max_errors)", ["refused", "warned"], ["unread_inputs"]),
    "never reads": ("extracted (max_iterations)", ["warned"], ["repeated_cells"]),
    "loops on slow code": ("extracted (max_errors)", ["stopped", "warned"], ["failed_cells"]),
    "trusts what is shown": ("submitted (SUBMIT)", ["warned"], []),
    "trusts what is shown, coverage tracked": ("submitted (SUBMIT)", ["warned"], ["unread_inputs"]),
    "finds it five times, submits another": ("submitted (SUBMIT)", ["warned"], ["repeated_cells", "repeated_prompts"]),
    "one call per line": ("submitted (SUBMIT)", ["refused", "warned"], ["failed_cells"]),
    "one call per line, no budget": ("submitted (SUBMIT)", ["warned"], []),
    "asks five times": ("submitted (SUBMIT)", [], ["repeated_prompts"]),
    "cuts lines in half": ("submitted (SUBMIT)", [], []),
}  # fmt: skip


@pytest.mark.nightly
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
def test_the_engine_reacts_to_a_way_to_fail(failure, tmp_path):
    """The run ends as documented, and what the engine says about the mistake is in the output or in the diagnosis."""
    task = failing_task("oolong-counting")

    (outcome,) = run(
        task,
        failure.make(task.name),
        extract=extract(task.name),
        journal=tmp_path,
        **failure.settings,
    )

    ended, in_run, in_record = ENDINGS[failure.name]
    low, high = failure.known(task.name)
    assert low <= outcome.score <= high
    assert outcome.ended == ended
    assert [reaction.split(":")[0] for reaction in reactions(outcome.outputs)] == in_run
    assert set(in_record) <= set(outcome.reported)


def test_a_table_has_the_means_of_a_task():
    """Tokens of the root are per turn of all examples together, the other figures means of the examples."""
    task = tasks.load("graphwalks", tokens=4_000, n=2)
    outcomes = [
        Outcome(1.0, 0.5, "submitted (SUBMIT)", turns, calls, turns * 1_000, 50, 2.0)
        for turns, calls in ((2, 0), (4, 1))
    ]

    row = row_of(task, 4_000, outcomes)

    assert row == Row("graphwalks", 4_000, 2, 1.0, 0.5, 3.0, 0.5, 1_000.0, 50.0, 2.0)
    assert (
        honest_table([row])[-1] == "| graphwalks | 4,000 | 1 | 0.5 | 3 | 0.5 | 1,000 | 50 | 2.0 |"
    )


def test_tables_of_the_ways_to_fail_have_what_the_tasks_share_and_where_they_differ():
    """A cell has one value if all tasks agree, and otherwise each with the number of tasks."""

    def row(task: str, failure: str, tokens: int, *reactions: str) -> FailedRow:
        return FailedRow(
            task, failure, 0.0, (0.0, 0.1), 0.0, "submitted", 3, 0, tokens, 1_000, list(reactions), []
        )  # fmt: skip

    rows = [
        row("code-qa", "guesses", 100),
        row("code-qa", "prints", 2_000, "warned: cut", "refused: no"),
        row("mrcr", "guesses", 100),
        row("mrcr", "prints", 2_500),
    ]

    assert ways_table(rows)[2:] == [
        "| guesses | 2 | 0 | submitted | 3 | 0 | 0.1x | nothing | nothing |",
        "| prints | 2 | 0 | submitted | 3 | 0 | 2 to 2.5x | warned, refused (1); nothing (1) | nothing |",
    ]
    assert tokens_table(rows[:3])[2:] == [
        "| code-qa | 1,000 | 0.1x | 2x |",
        "| mrcr | 1,000 | 0.1x |  |",
    ]


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_millions_of_pairs_pass_through_submit(capsys):
    """34,191 pairs, and 4,000,206 of them over a million tokens, are submitted without a fault."""
    assert main(["--part", "pairs"]) == 0
    assert "Pairs through SUBMIT: 34,191, 4,000,206." in capsys.readouterr().out
