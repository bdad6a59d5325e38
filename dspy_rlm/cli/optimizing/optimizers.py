"""DSPy's optimizers with settings that suit runs of minutes; see docs/optimizers.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy

from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError
from dspy_rlm.cli.optimizing.metrics import Metric
from dspy_rlm.cli.optimizing.plan import CANDIDATES, REFLECTED, Parts, Runs
from dspy_rlm.optimize import instruction_proposer, no_stragglers
from dspy_rlm.rlm import RLM

# Errors of runs after which DSPy would end an evaluation: a run that fails scores nothing, and the optimizer continues.
MAX_ERRORS = 1_000_000


def compiled(
    name: str,
    module: RLM,
    parts: Parts[dspy.Example],
    runs: Runs,
    metric: Metric,
    reflection: dspy.LM,
    stop: Callable[[], bool],
    *,
    threads: int,
    seed: int,
) -> RLM:
    """Returns the optimized RLM.

    Args:
        name: `gepa` or `mipro`.
        module: The RLM.
        parts: The examples.
        runs: The runs that it may do.
        metric: The score of a prediction, with its reasons.
        reflection: The LM that writes instructions.
        stop: Returns True once nothing new may be begun.
        threads: Runs at once.
        seed: The seed of its choices.

    Raises:
        CommandError: A package is missing.
    """
    with no_stragglers():
        if name == "gepa":
            return _gepa(module, parts, runs, metric, reflection, stop, threads, seed)
        return _mipro(module, parts, runs, metric, reflection, threads, seed)


def _gepa(
    module: RLM,
    parts: Parts[dspy.Example],
    runs: Runs,
    metric: Metric,
    reflection: dspy.LM,
    stop: Callable[[], bool],
    threads: int,
    seed: int,
) -> RLM:
    optimizer = dspy.GEPA(
        metric=metric,
        max_metric_calls=runs.steps,
        reflection_lm=reflection,
        reflection_minibatch_size=REFLECTED,
        instruction_proposer=instruction_proposer(),
        add_format_failure_as_feedback=True,
        use_merge=False,  # there is one instruction
        num_threads=threads,
        seed=seed,
        gepa_kwargs={"stop_callbacks": [lambda _: stop()]},
    )
    found: RLM = optimizer.compile(module, trainset=[*parts.train], valset=[*parts.validation])
    return found


def _mipro(
    module: RLM,
    parts: Parts[dspy.Example],
    runs: Runs,
    metric: Metric,
    reflection: dspy.LM,
    threads: int,
    seed: int,
) -> RLM:
    def plain_metric(*arguments: Any, **options: Any) -> float:
        return float(metric(*arguments, **options))

    optimizer = dspy.MIPROv2(
        metric=plain_metric,
        prompt_model=reflection,
        auto=None,
        num_candidates=CANDIDATES,
        max_bootstrapped_demos=1,  # a demo is a whole history
        max_labeled_demos=0,  # has no effect on an RLM
        max_errors=MAX_ERRORS,
        num_threads=threads,
        seed=seed,
    )
    try:
        found: RLM = optimizer.compile(
            module,
            trainset=[*parts.train],
            valset=[*parts.validation],
            num_trials=runs.steps,
            minibatch=False,
            data_aware_proposer=False,  # it pastes inputs into prompts
        )
    except ImportError as error:
        raise CommandError(
            f"MIPROv2 needs a package that is not installed: {error}. Install it with `pip install optuna`, or use "
            "--optimizer gepa.",
            CONFIGURATION,
        ) from error
    return found
