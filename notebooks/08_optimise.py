# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8. Optimise with GEPA and MIPROv2
#
# An RLM has one instruction, and DSPy's optimizers can rewrite it. Only the *policy block* is theirs: what the task is and how to go about it. The contract (variables, functions, limits, how to submit) is
# computed at each call and cannot be lost.
#
# **What this notebook can show, and what it cannot:** the models are scripts. It shows the way of a piece of knowledge, from a metric's feedback through a reflecting model into the instruction and from there into
# the behaviour of the next run. How much a *language model* improves on *your* task, only a run with one can say.

# %%
import random

import dspy

import dspy_rlm
from dspy_rlm.optimize import feedback, instruction_proposer, no_stragglers
from dspy_rlm.testing import Action, choose_models, policy
from dspy_rlm.testing.prompts import read_prompt, write_answer

# %% [markdown]
# ## The task
#
# Ledgers of an archive have dates such as `03/04/1987`. Which comes first, the day or the month? In this archive it is the day, but nothing in a ledger says so: the model has to be told.


# %%
def ledger(number: int) -> dspy.Example:
    """Returns a ledger and the month with the highest payment."""
    chance = random.Random(number)
    rows = [(*chance.sample(range(1, 13), 2), chance.randint(100, 999)) for _ in range(40)]
    text = "\n".join(f"{day:02}/{month:02}/1987  paid {amount}" for day, month, amount in rows)
    month = max(rows, key=lambda row: row[2])[1]
    return dspy.Example(ledger=text, month=month).with_inputs("ledger")


examples = [ledger(number) for number in range(10)]
trainset, valset, testset = examples[:3], examples[3:6], examples[6:]
print(examples[0].ledger[:66], "\n...\nmonth of the highest payment:", examples[0].month)

# %% [markdown]
# ## The metric says why
#
# `feedback` returns a score that carries a text: the note that you write, how the run ended, and what was wasted in it. GEPA shows this text to the reflecting model.


# %%
def metric(gold, pred, trace=None, pred_name=None, pred_trace=None):
    right = pred.month == gold.month
    note = (
        "Right."
        if right
        else f"Expected month {gold.month}. In this archive the day comes first: 03/04 is 3 April."
    )
    return feedback(float(right), pred, example=gold, trace=trace, pred_trace=pred_trace, note=note)


# %% [markdown]
# ## The stand-in for the models
#
# The task model takes the first number for the month, as it is in the United States, unless its instruction says that the day comes first. The reflecting model reads the turns with their feedback, and adds the sentence
# that it finds there to the policy.

# %%
READ = """
import re
rows = [(int(a), int(b), int(paid)) for a, b, paid in re.findall(r'(\\d+)/(\\d+)/\\d+  paid (\\d+)', ledger)]
best = max(rows, key=lambda row: row[2])
print(len(rows), best)
"""


@policy
def task_model(task):
    yield Action("Parse the rows.", READ)
    informed = "the day comes first" in task.system
    yield Action(
        "The day comes first here." if informed else "I suppose that the month comes first.",
        f"SUBMIT(month=best[{int(informed)}])",
    )


def reflecting_model(request):
    """Answers any prompt of an optimizer: it copies the lesson of the feedback, if there is one, into the policy."""
    prompt = read_prompt(request)
    everything = "\n".join(prompt.inputs.values()) + request.system
    lesson = "In this archive the day comes first: 03/04 is 3 April."
    known = lesson if lesson in everything else "Work carefully."
    current = prompt.inputs.get("current_policy", "Find the month of the highest payment.")
    answers = {
        name: f"{current}\n\n{known}" if "policy" in name else known for name in prompt.outputs
    }
    return write_answer(answers, in_json=prompt.in_json)


lms = choose_models(task_model, reflecting_model)
dspy.configure(lm=lms.root)

# %% [markdown]
# ## Before

# %%
signature = dspy.Signature("ledger -> month: int", "Find the month of the highest payment.")
rlm = dspy_rlm.RLM(signature, max_iterations=4)


def scores(program, dataset):
    """Returns the score of each example."""
    return [float(metric(example, program(**example.inputs()))) for example in dataset]


before = scores(rlm, testset)
print(f"right: {sum(before):.0f} of {len(before)}")
print(metric(testset[0], rlm(**testset[0].inputs())).feedback)

# %% [markdown]
# ## GEPA
#
# `reflection_minibatch_size=3` is enough: a run says more than an answer. `no_stragglers()` keeps DSPy from starting slow runs twice, and `instruction_proposer()` shows the reflecting model what it may rewrite.

# %%
import contextlib
import io
import logging


@contextlib.contextmanager
def quietly():
    """Keeps the progress of optimizers out of the notebook; leave it out to watch them."""
    logging.disable(logging.INFO)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        no_stragglers(),
    ):
        yield
    logging.disable(logging.NOTSET)


gepa = dspy.GEPA(
    metric=metric,
    reflection_lm=lms.sub,
    instruction_proposer=instruction_proposer(),
    max_metric_calls=12,
    reflection_minibatch_size=3,
    num_threads=1,
    track_stats=True,
)
with quietly():
    by_gepa = gepa.compile(rlm, trainset=trainset, valset=valset)

print(by_gepa.generate_action.signature.instructions)

# %% [markdown]
# The last sentence came from the metric's note. It is now part of every prompt, and the contract still follows it:

# %%
after_gepa = scores(by_gepa, testset)
system = lms.root.history[-1]["messages"][0]["content"]
print("lesson in the prompt:  ", "the day comes first" in system)
print("contract in the prompt:", "SUBMIT(month: int)" in system)
print(f"right: {sum(after_gepa):.0f} of {len(after_gepa)}")

# %% [markdown]
# ## MIPROv2
#
# It proposes several instructions, bootstraps demonstrations (each a step of a good run), and searches the combinations. It sees the task and the data, not the feedback, so here it has nothing to learn the rule from: unless a demonstration
# contains it. That is no weakness of MIPROv2 but a matter of what the metric knows and can say. (`pip install optuna`)

# %%
mipro = dspy.MIPROv2(
    metric=metric,
    prompt_model=lms.sub,
    task_model=lms.root,
    auto=None,
    num_candidates=2,
    max_bootstrapped_demos=1,
    max_labeled_demos=0,
    num_threads=1,
)
with quietly():
    by_mipro = mipro.compile(
        rlm,
        trainset=trainset,
        valset=valset,
        num_trials=2,
        minibatch=False,
        data_aware_proposer=False,
    )
after_mipro = scores(by_mipro, testset)
print(f"right: {sum(after_mipro):.0f} of {len(after_mipro)}")
print(f"demonstrations: {len(by_mipro.generate_action.demos)}")

# %%
import matplotlib.pyplot as plt

results = {"before": before, "MIPROv2": after_mipro, "GEPA with feedback": after_gepa}
figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
bars = axes.barh(
    list(results), [sum(r) / len(r) for r in results.values()], color=["grey", "#b8860b", "#3b82c4"]
)
axes.bar_label(bars, [f"{sum(r):.0f} of {len(r)}" for r in results.values()], padding=4)
axes.set(
    xlim=(0, 1.15),
    xlabel="share of the test set that the scripted policy got right",
    title="Scripted policy: the instruction decides",
)
plt.show()

# %% [markdown]
# ## Save and load
#
# A compiled state is the instruction and the demonstrations. It can be loaded into an RLM with other tools, another budget, or another model.

# %%
import tempfile
from pathlib import Path

path = Path(tempfile.mkdtemp()) / "month.json"
by_gepa.save(path)
loaded = dspy_rlm.RLM(signature, max_iterations=8)
loaded.load(path)
after_loading = scores(loaded, testset)
print(
    f"{path.name}: {path.stat().st_size:,} bytes; right: {sum(after_loading):.0f} of {len(testset)}"
)

if lms.scripted:
    assert sum(before) < len(testset) / 2 and sum(after_gepa) == len(testset)
    assert after_loading == after_gepa
assert "SUBMIT(month: int)" in system

# %% [markdown]
# ## With a real model
#
# - Compile with a small budget (`max_iterations`, `max_llm_calls`), use with a larger one. `num_threads=4` runs four sandboxes at once.
# - Put what you know into `note`: what was expected, and *why* the answer is wrong. The rest of the feedback comes from the run itself. `feedback(..., diagnose=True)` adds what its journal says about wasted turns.
# - From the shell: `dspy-rlm optimize program.py:rlm --trainset train.jsonl` says first what it can cost, and measures before and after on held-out examples with an interval.
#
# [docs/optimizers.md](../docs/optimizers.md) has the others: SIMBA, COPRO, BetterTogether, `optimize_anything`. **Next:** [9. Very large inputs](09_very_large_inputs.ipynb)
