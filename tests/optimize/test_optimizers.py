"""Every optimizer end to end: what it writes reaches the LM, and nothing it does can break the contract.

Scores are those of the scripted policy of `benchmarks.counting`; they are nobody's accuracy.
"""

from __future__ import annotations

import pickle

import dspy
import pytest

from benchmarks.counting import COUNT, DEVSET, KEYWORD, TRAINSET, WAVERING, metric, score
from dspy_rlm import RLM

BEFORE, AFTER = 50.0, 100.0


def student(**options):
    """An RLM for the task, in an interpreter that starts faster than our sandbox."""
    options = {"interpreter_factory": dspy.LocalInterpreter, "max_iterations": 3, **options}
    return RLM(COUNT, **options)


def peek(line: int) -> str:
    """Looks up a line of the archive."""
    return str(line)


def check(compiled, tmp_path, **others):
    """The compiled program is better; saved, it is as good in a fresh RLM and in one of another kind."""
    assert score(compiled) == AFTER
    path = tmp_path / "compiled.json"
    compiled.save(path)
    other = {"tools": [peek], "max_iterations": 5, "max_llm_calls": 7, **others}
    for loaded in [student(), student(**other)]:
        loaded.load(path)
        loaded.set_lm(None)
        assert score(loaded) == AFTER
    assert "- `peek(line: int) -> str`\n    Looks up" in loaded.action_signature().instructions
    assert "Budget: 5 turns and 7 prompts" in loaded.action_signature().instructions


def test_the_policy_needs_help(server):
    """What the others start from: without an optimizer, only the easy example is counted rightly."""
    assert score(student()) == BEFORE


@pytest.mark.parametrize("selector", ["round_robin", "all"])
@pytest.mark.parametrize("proposal", ["append", "replace"])
def test_gepa(server, tmp_path, selector, proposal):
    """GEPA's instruction reaches the LM, appended or as a replacement that drops the whole block."""
    gepa = dspy.GEPA(
        metric=metric,
        max_metric_calls=8,
        reflection_lm=server.lm(proposal),
        reflection_minibatch_size=2,
        component_selector=selector,
        num_threads=1,
    )
    compiled = gepa.compile(student(), trainset=TRAINSET[:2], valset=DEVSET)

    assert KEYWORD in compiled.generate_action.signature.instructions
    check(compiled, tmp_path)


@pytest.mark.parametrize("demos", [0, 1])
def test_mipro(server, tmp_path, demos):
    """MIPROv2 chooses its instruction without demos, and instruction and demos together."""
    mipro = dspy.MIPROv2(
        metric=metric,
        prompt_model=server.lm("replace"),
        task_model=server.lm("root"),
        auto=None,
        num_candidates=2,
        max_bootstrapped_demos=demos,
        max_labeled_demos=demos,
        num_threads=1,
    )
    compiled = mipro.compile(
        student(), trainset=TRAINSET[:2], valset=DEVSET, num_trials=2, minibatch=False
    )

    check(compiled, tmp_path)


def test_bootstrap_few_shot(server, tmp_path):
    """A run that went well is a demo for those that do not; examples without code are none."""
    optimizer = dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=4)
    compiled = optimizer.compile(student(), trainset=TRAINSET)

    assert compiled.generate_action.demos
    assert all(demo["code"] for demo in compiled.generate_action.demos)
    check(compiled, tmp_path, interpreter_factory=None)  # our sandbox


def test_bootstrap_with_random_search(server, tmp_path):
    """Random search finds the demos that help."""
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=metric,
        max_bootstrapped_demos=2,
        max_labeled_demos=2,
        num_candidate_programs=1,
        num_threads=1,
        stop_at_score=AFTER,
    )
    check(optimizer.compile(student(), trainset=TRAINSET, valset=DEVSET), tmp_path)


@pytest.mark.parametrize("max_demos", [0, 2])
def test_simba(server, tmp_path, max_demos):
    """SIMBA's rules and demos, made of the traces of good and bad runs, reach the LM."""
    optimizer = dspy.SIMBA(
        metric=metric,
        bsize=2,
        num_candidates=2,
        max_steps=1,
        max_demos=max_demos,
        prompt_model=server.lm("replace"),
        num_threads=1,
    )
    check(optimizer.compile(student(), trainset=WAVERING), tmp_path)


@pytest.mark.parametrize("proposal", ["append", "replace"])
def test_copro(server, tmp_path, proposal):
    """COPRO's instruction reaches the LM, appended or as a replacement."""
    optimizer = dspy.COPRO(metric=metric, prompt_model=server.lm(proposal), breadth=2, depth=1)
    compiled = optimizer.compile(student(), trainset=DEVSET, eval_kwargs={"num_threads": 1})

    check(compiled, tmp_path)


def test_better_together(server, tmp_path):
    """One optimizer goes on where the other stopped."""
    together = dspy.BetterTogether(
        metric=metric,
        demos=dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=1, max_labeled_demos=0),
        text=dspy.COPRO(metric=metric, prompt_model=server.lm("replace"), breadth=2, depth=1),
    )
    program = student()
    program.set_lm(server.lm("root"))
    compiled = together.compile(
        program,
        trainset=TRAINSET,
        valset=DEVSET,
        strategy="text -> demos",
        optimizer_compile_args={"text": {"eval_kwargs": {"num_threads": 1}}},
    )

    assert not compiled.flag_compilation_error_occurred
    check(compiled, tmp_path)


def test_a_compiled_program_is_pickled_whole(server):
    """What optimizers attach to a program is saved with it."""
    optimizer = dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=1, max_labeled_demos=0)
    compiled = optimizer.compile(student(), trainset=TRAINSET[:1])

    assert score(pickle.loads(pickle.dumps(compiled))) == AFTER
