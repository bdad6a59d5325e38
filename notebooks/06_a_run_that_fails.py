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
# # 6. A run that fails, and how to debug it
#
# A run is a program that a model writes while it runs, so it fails in two ways: it ends without an answer, or it ends with a wrong one. In both cases everything that
# happened is in its journal. This notebook breaks a run, finds the reason in four steps, and continues the same run from the point where it went wrong, without paying for the first part again.
#
# The task: *how many days lie between the first and the last release in this changelog?*

# %%
import tempfile
from pathlib import Path

import dspy

import dspy_rlm
from dspy_rlm.testing import Action, choose_models, policy

changelog = "\n\n".join(
    f"## {major}.{minor}.0 - 20{20 + major:02}-{1 + minor * 3:02}-1{minor}\n\nFixes of {major}.{minor}, as reported."
    for major in range(1, 7)
    for minor in range(4)
).replace("2024-04-11", "11 April 2024")
print(changelog[:120], "\n...\n", changelog[1000:1100])

# %% [markdown]
# ## The stand-in for a model
#
# It makes a common mistake: it assumes that all dates have the form of the first few, wastes a turn on prose and a turn on a repetition, and gives up. This notebook always
# uses the script, whatever `DSPY_RLM_MODEL` says, so that the run fails as described.

# %%
from dspy_rlm.testing import Raw

PARSE = r"""
import datetime, re
texts = re.findall(r'^## \S+ - (.*)$', changelog, re.M)
days = [datetime.date.fromisoformat(text) for text in texts]
print(len(days))
"""


@policy
def root(task):
    yield Action("Look first.", "print(len(changelog), changelog[:100])")
    yield Raw("I will now read the dates of all releases and subtract the first from the last.")
    yield Action("The dates are in ISO format.", PARSE)
    yield Action("Again.", PARSE)
    yield Action("Still no luck; how many texts are there?", "print(len(texts))")


lms = choose_models(root, always_scripted=True)
dspy.configure(lm=lms.root)
folder = Path(tempfile.mkdtemp())
rlm = dspy_rlm.RLM(
    "changelog -> days: int",
    max_iterations=5,
    on_exhausted="raise",
    journal=folder / "releases.jsonl",
)

# %% [markdown]
# ## 1. The error
#
# A run that ends without an answer raises one exception, whatever the reason, and the exception has the report. (`rlm.run(...)` returns the same without raising.)

# %%
report = None
try:
    report = rlm(changelog=changelog).run
except dspy_rlm.RunFailedError as error:
    report = error.run
    print(error)

print(
    f"\n{report.status}, stopped by {report.stopped_by}, {report.iterations} steps, turns lost: {dict(report.turns_lost)}"
)

# %% [markdown]
# ## 2. The diagnosis
#
# `diagnose` looks for waste in recorded runs, and says what to do about each kind: turns that were lost, cells that failed or were repeated, prompts sent twice, inputs that nothing has read. In a
# terminal it is `dspy-rlm runs diagnose releases.jsonl`.

# %%
from dspy_rlm.diagnosis import diagnose
from dspy_rlm.journal import load

record = load(report.journal)
for finding in diagnose([record]):
    print(f"{finding.kind:16} {finding.text}")
    print(f"{'':16} -> {finding.advice}\n")

# %% [markdown]
# ## 3. The viewer
#
# `dspy-rlm view releases.jsonl` opens the run in the browser, as one HTML file. Here is step 3, which failed: the tree of steps on the left, the failing line in the code, and the traceback
# beside it.
#
# ![Step 3 of this run in the viewer: the failing line of the code is marked, and the traceback is shown](pictures/viewer_failed_step.png)
#
# The same page can be written from Python, to keep it or to send it:

# %%
import subprocess
import sys

page = folder / "releases.html"
command = [sys.executable, "-m", "dspy_rlm", "view", report.journal, "--html", str(page)]
subprocess.run(command, check=True, capture_output=True)
print(f"{page.name}: {page.stat().st_size // 1000} kB, one file, no network")

# %% [markdown]
# ## 4. The REPL, as it was
#
# The traceback says that a date could not be parsed, not how many. `open_repl` restores the variables as they were after a step, without calling any model.

# %%
with dspy_rlm.open_repl(report.journal, step=3) as repl:
    print(repl.variables(), "\n")
    print(
        repl.run(
            "print([text for text in texts if not re.fullmatch(r'\\d{4}-\\d\\d-\\d\\d', text)])"
        ).output
    )

# %% [markdown]
# One of 24 dates is written differently. The model assumed, where it should have looked.
#
# ## Go on from there
#
# `fork` repeats a recorded run up to a step, with the recorded answers, then replaces the code of that step and lets the model go on. The first steps cost nothing.

# %%
FIXED = PARSE.replace(
    "days = [datetime.date.fromisoformat(text) for text in texts]",
    """def day(text):
    form = '%Y-%m-%d' if text[:4].isdigit() else '%d %B %Y'
    return datetime.datetime.strptime(text, form).date()
days = [day(text) for text in texts]""",
)


@policy
def goes_on(task):
    yield Action("", "")
    yield Action("", "")
    yield Action("", "")
    yield Action("All dates are parsed: subtract.", "SUBMIT(days=(max(days) - min(days)).days)")


lms_after = choose_models(goes_on, quiet=True, always_scripted=True)
sent = len(lms_after.root.history)
fixed = dspy_rlm.fork(
    report.journal, step=3, rlm=rlm, lm=lms_after.root, edit=FIXED, to=folder / "fixed.jsonl"
)
print(fixed.days, "days;", len(lms_after.root.history) - sent, "new request of the root LM")

# %%
comparison = dspy_rlm.compare(folder / "releases.jsonl", folder / "fixed.jsonl")
print(comparison)

# %%
import datetime

assert report.status == "failed"
kinds = {finding.kind for finding in diagnose([record])}
assert {"turns_lost", "failed_cells"} <= kinds, kinds
assert page.stat().st_size > 50_000
assert fixed.days == (datetime.date(2026, 10, 13) - datetime.date(2021, 1, 10)).days
assert len(lms_after.root.history) - sent == 1

# %% [markdown]
# ## Which tool for which symptom
#
# | symptom | look at |
# |---|---|
# | no answer | the exception and its `run`; `run.stopped_by` names the limit or the error |
# | a wrong answer | the viewer: outputs with the steps they came from (`track_coverage=True` adds what was read) |
# | slow or expensive | the viewer's timeline and calls; `diagnose` over many runs |
# | "what if the model had known ..." | `fork` with `edit=`; `branches` for several continuations |
# | it worked yesterday | `replay` of yesterday's journal says where today's program differs |
# | the process was killed | `rlm.resume(path)`: see [9](09_very_large_inputs.ipynb) |
#
# **Next:** [7. Tools, MCP and the limits of the sandbox](07_tools_mcp_and_the_sandbox.ipynb)
