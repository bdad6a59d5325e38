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
# # 5. Recursion and budgets
#
# A part of an input may be too large for one call as well. `sub_rlm` gives it to a **nested run**: the sub-LM gets a REPL of its own and explores that part by code, as the root does with
# the whole. What recursion multiplies, budgets bound: one ledger counts every turn, call, token and dollar of a run and of everything below it.
#
# The task: *what is the longest function of each of these packages?* The inputs are five packages of Python's own library.

# %%
import sysconfig
import tempfile
from pathlib import Path

import dspy

import dspy_rlm
from dspy_rlm.journal import load
from dspy_rlm.testing import Action, Fault, asks_for, choose_models, fields, policy, route

library = Path(sysconfig.get_path("stdlib"))
packages = {
    name: {path.name: path.read_text("utf-8") for path in sorted((library / name).glob("*.py"))}
    for name in ("asyncio", "email", "http", "json", "logging")
}
for name, files in packages.items():
    print(f"{name:8} {len(files):2} files, {sum(map(len, files.values())):>9,} characters")

# %% [markdown]
# ## The stand-in for the models
#
# Two policies: the root hands out the packages, and the nested runs parse their files. Each reply takes 0.2 s, so that the picture below looks like one of a real run.

# %%


@policy
def root(task):
    yield Action(
        "Five packages. How many files?",
        "print({name: len(files) for name, files in packages.items()})",
    )
    yield Action(
        "Each needs a look of its own: one nested run for each.",
        """
runs = sub_rlm_batched(
    'files: dict[str, str] -> function: str, lines: int', [{'files': files} for files in packages.values()]
)
longest = {name: f'{run.function} ({run.lines} lines)' for name, run in zip(packages, runs)}
print(longest)
""",
    )
    yield Action("All five are there.", "SUBMIT(longest=longest)")


@policy
def nested(task):
    yield Action("Which files?", "print({name: len(text) for name, text in files.items()})")
    yield Action(
        "The syntax tree knows where functions end.",
        """
import ast
found = [
    (node.end_lineno - node.lineno + 1, f'{name}:{node.name}')
    for name, text in files.items() for node in ast.walk(ast.parse(text))
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
]
print(sorted(found)[-3:])
""",
    )
    yield Action(
        "The last one.", "lines, function = max(found)\nSUBMIT(function=function, lines=lines)"
    )


slow = Fault(delay_seconds=0.2, times=None)
lms = choose_models(root, nested, faults={"root": slow, "sub": slow})
dspy.configure(lm=lms.root)

# %%
rlm = dspy_rlm.RLM(
    "packages: dict[str, dict[str, str]] -> longest: dict[str, str]",
    sub_lm=lms.sub,
    journal=Path(tempfile.mkdtemp()),
    prices={lms.root.model: (2.0, 8.0), lms.sub.model: (0.25, 2.0)},  # dollars per million tokens
    max_cost=0.50,
    live=True,
)
prediction = rlm(packages=packages)

# %% [markdown]
# ## The tree of runs
#
# The journal has all runs with their calls. Each bar below is one call of an LM, in the row of the run that it belongs to:

# %%
import matplotlib.pyplot as plt

record = load(prediction.run.journal)
runs = list(record.walk())
begin = min(call.started_at for call in record.calls())

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
for row, run in enumerate(runs):
    for call in record.calls():
        if call.run_id == run.run_id:
            for attempt in call.attempts:
                color = ["#3b82c4", "#2f9e5b"][min(call.depth, 1)]
                axes.barh(
                    row,
                    attempt.seconds,
                    left=attempt.started_at - begin,
                    color=color,
                    edgecolor="white",
                )
names = ["root run"] + [f"nested run {number}" for number in range(1, len(runs))]
axes.set_yticks(range(len(runs)), names)
axes.invert_yaxis()
axes.set(
    xlabel="seconds", title="One root run, one nested run for each package; at most four at a time"
)
plt.show()

# %% [markdown]
# What each level spent is in the report, as is the total. The prices are those that were passed to the constructor.

# %%
print(f"{'depth':6}{'model':14}{'calls':>6}{'tokens in':>11}{'tokens out':>11}{'dollars':>9}")
for usage in prediction.run.usage:
    tokens = f"{usage.input_tokens:>11,}{usage.output_tokens:>11,}"
    print(f"{usage.depth:<6}{usage.model:14}{usage.calls:>6}{tokens}{usage.cost:>9.4f}")
print(f"{'all':20}{sum(u.calls for u in prediction.run.usage):>6}{prediction.run.cost:>31.4f}")

# %%
import ast


def longest_function(files):
    """Computes the same on the host, to check the runs."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [
        node
        for text in files.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, functions)
    ]
    return max(node.end_lineno - node.lineno + 1 for node in nodes)


for name, answer in prediction.longest.items():
    print(f"{name:8} {answer}")
    assert f"({longest_function(packages[name])} lines)" in answer
if lms.scripted:
    assert len(runs) == 6
    assert {usage.depth: usage.calls for usage in prediction.run.usage} == {0: 3, 1: 15}

# %% [markdown]
# ## A budget that is too small
#
# Each turn of a nested run is a call, and one more is held back to extract its outputs if its turns run out. With `max_llm_calls=7` there is room for two runs of three turns. The code is not killed: it gets an exception for what did not fit, keeps
# the rest, and the model reads what happened.


# %%
@policy
def careful(task):
    yield Action("How much may I spend?", "print(BUDGET())")
    yield Action(
        "One nested run at a time, as far as it goes.",
        """
longest = {}
for name, files in packages.items():
    try:
        longest[name] = sub_rlm('files: dict[str, str] -> function: str, lines: int', files=files).function
    except Exception as error:
        print(name, '-', type(error).__name__, '-', error)
        break
""",
    )
    yield Action("I submit what there is.", "SUBMIT(longest=longest)")


lms = choose_models(careful, nested, quiet=True)
small = dspy_rlm.RLM(rlm.signature, sub_lm=lms.sub, max_llm_calls=7)
with dspy.context(lm=lms.root):
    part = small(packages=packages)

for step in part.run.steps[:2]:
    print(step.output, "\n")
print(part.longest)
assert part.run.llm_calls <= 7
if lms.scripted:
    assert list(part.longest) == ["asyncio", "email"]

# %% [markdown]
# ## No turn left
#
# What happens when the turns are used up and nothing was submitted is a setting. The policy below computes an answer but never submits it.


# %%
@policy
def never_submits(task):
    yield Action("I count.", "count = len(packages)\nprint(count)")
    yield Action("I think about it.", "print('hm')")
    yield Action("And more.", "print('hm')")


reads_the_steps = fields(lambda inputs: {"count": 5})
lms = choose_models(route((asks_for("code"), never_submits), otherwise=reads_the_steps), quiet=True)
print(f"{'on_exhausted':14}{'status':11}{'stopped by':16}{'calls':>6}  outputs")
for on_exhausted in ("extract", "partial", "raise"):
    rlm = dspy_rlm.RLM("packages: dict -> count: int", max_iterations=2, on_exhausted=on_exhausted)
    with dspy.context(lm=lms.root):
        result = rlm.run(
            packages=packages
        )  # like a call, but returns errors instead of raising them
    calls = sum(usage.calls for usage in result.run.usage)
    print(f"{on_exhausted:14}{result.status:11}{result.stopped_by:16}{calls:>6}  {result.outputs}")
    if lms.scripted:
        assert result.stopped_by == "max_iterations"
        assert result.ok == (on_exhausted != "raise")

# %% [markdown]
# `"extract"` spends one more call on reading the steps; `"partial"` takes the variable `count`, because it has the name and the type of the output; `"raise"` leaves the decision to you, and the report with all
# steps is on the exception.
#
# ## All limits
#
# | parameter | default | bounds |
# |---|---|---|
# | `max_iterations` | 20 | turns of the root LM |
# | `max_llm_calls` | 50 | calls that code makes, nested runs included |
# | `max_depth` | 1 | levels of nested runs; 0 allows none |
# | `max_cost`, `max_tokens` | none | dollars and tokens of everything together; the most that a request can cost is reserved before it is sent |
# | `max_seconds` | none | wall time |
# | `max_errors` | 5 of the same code | failures in a row |
#
# [docs/sub-calls.md](../docs/sub-calls.md#budgets) has the details. **Next:** [6. A run that fails](06_a_run_that_fails.ipynb)
