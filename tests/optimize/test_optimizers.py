"""Every optimizer end to end: what it writes reaches the LM, and nothing it does can break the contract.

Scores are those of the scripted policy of `benchmarks.counting`; they are nobody's accuracy.
"""

from __future__ import annotations

import pickle

import dspy
import pytest
from dspy.teleprompt.simba_utils import append_a_rule, wrap_program

from benchmarks.counting import COUNT, KEYWORD, WAVERING, metric, score
from benchmarks.optimizers import CASES
from dspy_rlm import RLM, TextFile

BEFORE, AFTER = 50.0, 100.0


def student(**options):
    """An RLM for the task, in an interpreter that starts faster than our sandbox."""
    options = {"interpreter_factory": dspy.LocalInterpreter, "max_iterations": 3, **options}
    return RLM(COUNT, **options)


def peek(line: int) -> str:
    """Looks up a line of the archive."""
    return str(line)


def test_the_policy_needs_help():
    """Before compiling, only the easy example is counted correctly."""
    assert score(student()) == BEFORE


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", CASES)
def test_an_optimizer_makes_the_program_better(server, tmp_path, name):
    """A compiled program is better, also when loaded into a new RLM or one with other tools and budgets."""
    compiled = CASES[name](student(), server)
    assert score(compiled) == AFTER

    compiled.save(tmp_path / "compiled.json")
    fresh, other = student(), student(tools=[peek], max_iterations=5, max_llm_calls=7)
    for loaded in [fresh, other]:
        loaded.load(tmp_path / "compiled.json")
        loaded.set_lm(None)
        assert score(loaded) == AFTER

    prompt = other.action_signature().instructions
    assert "- `peek(line: int) -> str`\n    Looks up a line" in prompt
    assert "Budget: 5 turns, 7 sub-LM prompts" in prompt


@pytest.mark.parametrize("name", ["GEPA, replaces", "COPRO, replaces"])
def test_a_replacement_is_all_there_is_of_the_block(server, name):
    """The optimizer's text is stored as it is; the contract is added when the LM is called."""
    compiled = CASES[name](student(), server)

    assert compiled.generate_action.signature.instructions == f"Work by {KEYWORD}."
    assert score(compiled) == AFTER
    assert "SUBMIT(count: int)" in server.requests_to("root")[-1].request.system


def test_bootstrapped_demos_are_steps(server):
    """A bootstrapped demo stores only the LM's steps, nothing else of the training set."""
    compiled = CASES["BootstrapFewShot"](student(), server)

    assert compiled.generate_action.demos
    assert all(demo["code"] and demo["output"] for demo in compiled.generate_action.demos)


def test_in_our_sandbox(server):
    """A program compiled in a faster interpreter works as well in our sandbox."""
    sandboxed = student(interpreter_factory=None)
    sandboxed.load_state(CASES["COPRO, replaces"](student(), server).dump_state())

    assert score(sandboxed) == AFTER


def test_large_inputs_stay_out_of_the_proposers_prompts(server, tmp_path):
    """SIMBA and MIPROv2 paste the inputs of examples; what stays on the host cannot be pasted."""
    (small,) = WAVERING[:1]
    path = tmp_path / "large.log"
    path.write_text(small.log + "nothing to see here\n" * 50_000)
    example = dspy.Example(log=TextFile(path), count=small.count).with_inputs("log")
    program = student(interpreter_factory=None)
    run = wrap_program(program, metric)
    append_a_rule(
        [run(example), run(example)],  # the policy is right the first time only
        program,
        predictor2name={id(program.generate_action): "generate_action"},
        batch_10p_score=0.0,
        batch_90p_score=1.0,
        prompt_model=server.lm("replace"),
    )
    (exchange,) = server.requests_to("replace")

    assert KEYWORD in program.generate_action.signature.instructions
    assert len(exchange.prompt) < 50_000
    assert len(repr([example])) < 200  # what MIPROv2 pastes


def test_a_compiled_program_is_pickled_whole(server):
    """Attributes that optimizers attach to a program are pickled with it."""
    compiled = CASES["COPRO, replaces"](student(), server)
    loaded = pickle.loads(pickle.dumps(compiled))

    assert score(loaded) == AFTER
    assert score(loaded.candidate_programs[0]["program"]) == AFTER
