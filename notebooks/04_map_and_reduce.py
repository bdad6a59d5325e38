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
# # 4. Map and reduce with batched sub-calls
#
# Some questions need every part of a text to be *understood*, not only searched. Then code splits the text (map), a cheap sub-LM reads each part on its own, and code again
# combines what came back (reduce). The model writes three lines for it. This notebook shows what these three lines cost, in calls and in time.
#
# The question: *which exceptions does the Python manual talk about, and what raises them?*

# %%
import tempfile
from pathlib import Path
from pydoc_data.topics import topics as manual

import dspy

import dspy_rlm
from dspy_rlm.testing import Action, Fault, choose_models, fields, policy

# %% [markdown]
# ## The stand-in for the models
#
# The root first does what a beginner does, a loop with one call after another, for ten sections. Then it does all sections in one batch. The sub-LM reads a section
# and lists the exceptions in it. The server waits 0.15 s before each of its replies, as a fast real one would.

# %%
import re


@policy
def root(task):
    yield Action(
        "I try ten sections, one after the other.",
        """
first = list(manual)[:10]
notes = [predict('section: str -> exceptions: list[str], cause: str', section=manual[n]) for n in first]
for name, note in zip(first, notes):
    print(name, note.exceptions)
""",
    )
    yield Action(
        "That works. Now all sections, in one batch.",
        """
names = list(manual)
rows = predict_batched(
    'section: str -> exceptions: list[str], cause: str', [{'section': manual[n]} for n in names]
)
print(len(rows.ok), 'read,', len(rows.failed), 'failed')
""",
    )
    yield Action(
        "Reduce: count by exception, and keep the sections of each.",
        """
from collections import defaultdict
sections = defaultdict(list)
for name, row in zip(names, rows):
    for exception in row.exceptions if row in rows.ok else []:
        sections[exception].append(name)
common = dict(sorted(sections.items(), key=lambda item: -len(item[1])))
for exception, found in list(common.items())[:6]:
    print(exception, len(found), found[:4])
""",
    )
    yield Action("Submit it from the variable.", "SUBMIT(sections=common)")


@fields
def sub(inputs):
    text = inputs["section"]
    names = sorted(set(re.findall(r"\b[A-Z]\w+(?:Error|Exception|Iteration|Interrupt)\b", text)))
    cause = next((sentence for sentence in text.split(". ") if "raise" in sentence), "none")
    return {"exceptions": names, "cause": cause.strip()}


lms = choose_models(root, sub, faults={"sub": Fault(delay_seconds=0.15, times=None)})
dspy.configure(lm=lms.root)

# %% [markdown]
# ## Run it
#
# `journal=` records the run in a file, from which the times of all calls can be read afterwards.

# %%
folder = Path(tempfile.mkdtemp())
rlm = dspy_rlm.RLM(
    "manual: dict[str, str] -> sections: dict[str, list[str]]",
    sub_lm=lms.sub,
    max_llm_calls=200,
    journal=folder,
    live=True,
)
prediction = rlm(manual=manual)

# %% [markdown]
# In the live view, the loop is ten single calls and the batch is one bar. Now look at the times. Each line is a call of the sub-LM:

# %%
import matplotlib.pyplot as plt
from dspy_rlm.journal import load

record = load(prediction.run.journal)
calls = sorted(
    (attempt.started_at, attempt.seconds, call.iteration)
    for call in record.calls()
    if call.is_sub_call
    for attempt in call.attempts
)
begin = calls[0][0]

figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
for number, (started, seconds, step) in enumerate(calls):
    axes.barh(
        number, seconds, left=started - begin, color={1: "#b8860b", 2: "#3b82c4"}.get(step, "grey")
    )
axes.invert_yaxis()
axes.set(
    xlabel="seconds",
    ylabel="calls of the sub-LM",
    title="Ten calls in a loop, then one batch of all sections",
)
axes.annotate("loop: one at a time", (calls[4][0] - begin + 0.4, 3), color="#b8860b")
axes.annotate("batch: 16 at a time", (calls[10][0] - begin, 58), color="#3b82c4", ha="right")
plt.show()


# %%
def together(calls):
    """Returns the largest number of calls that were under way at one time."""
    return max(
        sum(start <= moment < start + seconds for start, seconds, _ in calls)
        for moment, *_ in calls
    )


loop = [call for call in calls if call[2] == 1]
batch = [call for call in calls if call[2] == 2]
for name, part in ("loop", loop), ("batch", batch):
    wall = max(start + seconds for start, seconds, _ in part) - part[0][0]
    waited = sum(seconds for _, seconds, _ in part)
    print(
        f"{name:6} {len(part):3} calls, {waited:5.1f} s of waiting in {wall:4.1f} s; {together(part)} at a time"
    )

# %% [markdown]
# `predict_batched` takes about as long as its slowest rows, not as long as their sum. Rows of equal texts
# are sent once: the manual has sections that appear under two names.
#
# ## The result
#
# The reduce step was plain Python over typed rows, so the counts are exact: they are those of what the sub-LM said.

# %%
for exception, sections in list(prediction.sections.items())[:8]:
    print(f"{exception:24} in {len(sections):2} sections: {', '.join(sections[:5])}")

assert prediction.run.status == "submitted"
if lms.scripted:
    truth = [name for name in manual if re.search(r"\bTypeError\b", manual[name])]
    assert prediction.sections["TypeError"] == truth
    assert len(loop) == 10 and len(batch) == len(set(manual.values()))
    assert together(loop) == 1 and 2 <= together(batch) <= 16

# %% [markdown]
# ## When rows fail
#
# In a hundred calls, some go wrong: a server refuses, a reply does not fit the types. A failed row costs that row alone. The model is told how many failed and why, even if its code never looks.

# %%
SIGNATURE = "section: str -> exceptions: list[str], cause: str"


@policy
def root(task):
    yield Action(
        "Some of these will be refused.",
        f"rows = predict_batched('{SIGNATURE}', list(manual.values()))",
    )
    yield Action(
        "The others are good.",
        "SUBMIT(read=len(rows.ok), failed=[str(error) for error in rows.failed.values()])",
    )


broken = Fault(status=400, message="content policy", times=3)
lms = choose_models(root, sub, faults={"sub": broken}, quiet=True)
rlm = dspy_rlm.RLM("manual -> read: int, failed: list[str]", sub_lm=lms.sub, max_llm_calls=200)
with dspy.context(lm=lms.root):
    result = rlm(manual={name: manual[name] for name in list(manual)[:20]})

print(result.run.steps[0].output)
print(f"{result.read} rows are there")
if lms.scripted:
    assert (result.read, len(result.failed)) == (17, 3)

# %% [markdown]
# ## Choosing the tool
#
# | the parts need | in a cell | calls |
# |---|---|---|
# | a yes or no, a sentence | `sub_llm_batched([prompt, ...])` | one for each prompt; equal ones once |
# | fields with types | `predict_batched("text -> day: date", rows)` | one for each row, and up to two more if it does not fit |
# | exploration of their own | `sub_rlm_batched(signature, rows)`: see [5](05_recursion_and_budgets.ipynb) | several for each row |
# | counting, sorting, joining | plain Python | none |
#
# Put several short items into one prompt where the sub-LM can keep them apart: twenty in one call cost little more than one.
#
# **Next:** [5. Recursion and budgets](05_recursion_and_budgets.ipynb)
