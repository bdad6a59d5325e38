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
# # 9. Very large inputs, the journal, and resuming
#
# An input may be larger than the sandbox, or than the memory of your machine. It then stays on disk, and cells read ranges and matches of it. A run over such an input may take an hour and pay for hundreds of calls, so losing
# it half-way would be expensive: with a journal, nothing that was answered is ever paid for twice.
#
# This notebook writes a log of 170 MB, starts a run, lets the model's server fail in the middle, and continues.

# %%
import random
import tempfile
from pathlib import Path

import dspy

import dspy_rlm
from dspy_rlm import TextFile
from dspy_rlm.testing import Action, Fault, choose_models, policy, rules

folder = Path(tempfile.mkdtemp())
log = folder / "service.log"

# %% [markdown]
# ## 170 MB of log
#
# Two million requests, of which one in fifty thousand fails with a message worth reading.

# %%
chance = random.Random(7)
causes = ("disk full on db2", "certificate of the gateway expired", "no route to cache4")
failing = set(chance.sample(range(2_000_000), 40))
with log.open("w") as file:
    for number in range(2_000_000):
        stamp = f"2026-11-{1 + number // 70_000:02}T{number // 2_920 % 24:02}:{number // 49 % 60:02}:{number % 60:02}"
        line = f"{stamp} INFO request {number:08} served by web{number % 9} in {number * 7 % 400} ms; trace {number * 97:010x}"
        if number in failing:
            line = f"{stamp} ERROR request {number:08} failed: {chance.choice(causes)}"
        file.write(line + "\n")
print(f"{log.stat().st_size / 1e6:.0f} MB")

# %% [markdown]
# ## The stand-in for the models
#
# The root greps, and lets the sub-LM sum up each error; it must not matter how large the file is. The sub-LM names the machine in a line.

# %%


@policy
def root(task):
    yield Action(
        "How large is it, and what do lines look like?", "print(f'{len(log):,}')\nprint(log[:240])"
    )
    yield Action(
        "Far too large to read; the host can search it.",
        "hits = log.grep(r' ERROR ', limit=1000)\nprint(len(hits), hits[0].line_number, hits[0].line)",
    )
    yield Action(
        "The sub-LM says which machine each one is about.",
        """
machines = sub_llm_batched([f'Which machine is this about? {hit.line}' for hit in hits])
print(sorted(set(machines)))
""",
    )
    yield Action(
        "Count them.",
        "from collections import Counter\ncounts = Counter(machines)\nSUBMIT(counts=dict(counts), first=hits[0].line_number)",
    )


lms = choose_models(root, rules([(r"(db2|gateway|cache4)", lambda match: match[1])], "unknown"))
dspy.configure(lm=lms.root)
rlm = dspy_rlm.RLM(
    "log, question -> counts: dict[str, int], first: int",
    sub_lm=lms.sub,
    max_llm_calls=100,
    journal=folder / "run.jsonl",
)

# %% [markdown]
# ## A run that is cut off
#
# `TextFile(path)` is the input. In the fourth turn the server of the root LM fails, as if the network had gone. The 40 sub-calls are paid by then.

# %%
if lms.scripted:
    lms.server.fail("root", Fault(after=3, status=503, times=1))

question = "Which machines cause the errors, and where is the first one?"
try:
    prediction = rlm(log=TextFile(log), question=question)
except dspy_rlm.RunFailedError as error:
    report = error.run
    print(str(error).split(" It is paused")[0].splitlines()[0])
    print(f"{report.iterations} steps, {report.llm_calls} sub-calls paid")

# %% [markdown]
# What is on disk now:

# %%
for path in sorted(folder.iterdir()):
    print(f"{path.stat().st_size:>12,}  {path.name}")

# %%
from dspy_rlm.journal import load

record = load(folder / "run.jsonl")
for number, step in enumerate(record.steps, 1):
    print(
        f"[{number}] {len(step.calls):2} LM calls; the model saw {str(record.value(step.shown))[:64]!r}"
    )

# %% [markdown]
# ## Resume
#
# In another process, next week, on another machine with the same file: the same RLM and the path of the journal. Requests that were answered come from the journal; the cells run again, or their saved state is loaded.

# %%
before = (
    {model: len(lms.server.requests_to(model)) for model in ("root", "sub")} if lms.scripted else {}
)
prediction = rlm.resume(folder / "run.jsonl")
after = (
    {model: len(lms.server.requests_to(model)) for model in ("root", "sub")} if lms.scripted else {}
)

print(prediction.counts, "first at line", f"{prediction.first:,}")

# %%
import matplotlib.pyplot as plt

if lms.scripted:
    figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
    for row, model in enumerate(("root", "sub")):
        new = after[model] - before[model]
        axes.barh(row, before[model], color="#b8860b")
        axes.barh(row, new, left=before[model], color="#3b82c4")
        axes.text(
            after[model] + 0.6, row, f"{before[model]} before the failure, {new} after", va="center"
        )
    axes.set_yticks([0, 1], ["root LM", "sub-LM"])
    axes.invert_yaxis()
    axes.set(
        xlim=(0, 65),
        xlabel="requests that reached the server",
        title="Nothing that was answered is paid again",
    )
    plt.show()

# %%
truth = [number + 1 for number, line in enumerate(log.open()) if " ERROR " in line]
assert prediction.first == truth[0] and sum(prediction.counts.values()) == len(truth) == 40
if lms.scripted:
    assert after["sub"] == before["sub"] == 40  # no sub-call was sent twice
    assert after["root"] == before["root"] + 1

# %% [markdown]
# ## The memory of it
#
# The sandbox never held the log: it asked the host for a length, for matches, and for a range. Positions and lines are those of the whole file.

# %%
from sandbox_runtime import open_session

with open_session() as session:
    session.assign("log", TextFile(log))
    seen = session.run_cell(
        f"line = log.line({truth[0]})\n"
        "middle = log[100_000_000:100_000_060]\n"
        "print(line)\nprint(repr(middle))\nprint(log.count('ERROR'), 'errors;', log.line_number(100_000_000))"
    )
    print(seen.output)

assert f"{len(truth)} errors" in seen.output
log.unlink()

# %% [markdown]
# ## What else can be this large
#
# | input | on the host | in a cell |
# |---|---|---|
# | `TextFile(path)` | a file, also gzip, bzip2, xz | slices, lines, `find`, `grep`, `search`, `chunks` |
# | `Directory(path, "**/*.py")` | a folder, by the ignore rules of Git | `d[path]`, `d.grep(pattern, glob)`, `d.paths(glob)` |
# | `TextStream(pieces)` | anything iterable: rows of a query, a download | read as far as cells read |
#
# And with the same journal: `replay` repeats a run without any model and reports the first difference; `fork` goes on from a step with other code or another model; `dspy-rlm view run.jsonl` shows it. See
# [docs/resume.md](../docs/resume.md) and [docs/any-size.md](../docs/any-size.md), where files of 20 GB are measured.
#
# **Next:** [10. Bring your own model](10_bring_your_own_model.ipynb)
