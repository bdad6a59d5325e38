"""An RLM as texts for `gepa.optimize_anything`: the policy and every tool's description."""

from __future__ import annotations

import dspy
import pytest
from gepa.optimize_anything import EngineConfig, GEPAConfig, ReflectionConfig, optimize_anything

from benchmarks.counting import COUNT, DEVSET, KEYWORD, metric, score
from dspy_rlm import RLM
from dspy_rlm.optimize import components, evaluator, with_components
from dspy_rlm.testing import PolicyServer, scripted


def peek(line: int) -> str:
    """Looks up a line."""
    return str(line)


@pytest.fixture
def rlm():
    return RLM(COUNT, interpreter_factory=dspy.LocalInterpreter, max_iterations=3, tools=[peek])


def test_the_texts_are_the_policy_and_the_tools(rlm):
    """A tool's description is in its own text only."""
    texts = components(rlm)

    assert texts.keys() == {"policy", "tool:peek"}
    assert texts["policy"].startswith("Count the errors in the log.")
    assert "peek" not in texts["policy"]
    assert texts["tool:peek"] == "Looks up a line."


def test_new_texts_reach_the_prompt_and_leave_the_original_alone(rlm):
    """The prompt has the new description, once, and the old one nowhere."""
    before = rlm.action_signature().instructions
    new = with_components(rlm, {"tool:peek": "Finds a line by number."})
    prompt = new.action_signature().instructions

    assert prompt.count("Finds a line by number.") == 1
    assert "Looks up a line." not in prompt
    assert components(with_components(rlm, components(rlm))) == components(rlm)
    assert rlm.action_signature().instructions == before


def test_a_text_for_no_tool_is_a_mistake(rlm):
    """A text for an unknown tool is an error; it would be optimized in vain."""
    with pytest.raises(KeyError, match="The RLM has no tool:poke"):
        with_components(rlm, {"tool:poke": "?"})


def test_optimize_anything_finds_a_better_policy(server, rlm):
    """Scores are the scripted policy's. The reflection LM is a function here."""
    prompts = []

    def reflect(prompt):
        prompts.append(str(prompt))
        return f"```\nWork by {KEYWORD}.\n```"

    result = optimize_anything(
        seed_candidate=components(rlm),
        evaluator=evaluator(rlm, metric),
        dataset=DEVSET,
        config=GEPAConfig(
            engine=EngineConfig(max_metric_calls=8, parallel=False),
            reflection=ReflectionConfig(reflection_lm=reflect, reflection_minibatch_size=2),
        ),
    )

    assert score(rlm) == 50.0
    assert score(with_components(rlm, result.best_candidate)) == 100.0
    assert "The run ended by SUBMIT, after 2 steps" in prompts[0]


def test_a_run_that_fails_scores_nothing(rlm):
    """A failed run scores nothing, and its feedback says why."""
    with PolicyServer({"out": scripted()}) as server:
        lm = server.lm("out")
    with dspy.context(lm=lm):  # the server is gone
        value, info = evaluator(rlm, metric)(components(rlm), DEVSET[0])

    assert value == 0.0
    assert info["error"].startswith("The run failed after 0 step(s)")
