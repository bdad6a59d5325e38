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
# # 2. What the model sees
#
# The root LM never gets the inputs. It gets a description of them, the rules of the REPL, and what its own code has printed so far. This notebook prints these prompts,
# and measures the claim that everything else rests on: **the prompt stays the same size while the input grows**.

# %%
import dspy

import dspy_rlm
from dspy_rlm.testing import Action, asks_for, choose_models, route, scripted

moves = scripted(
    Action("Look at the end of the log.", "print(log[-120:])"),
    Action("Count the errors by host.", r"""
import collections, re
hosts = collections.Counter(re.findall(r'ERROR \[(\w+)\]', log))
print(hosts.most_common(3))
"""),
    Action("That answers it.", "SUBMIT(host=hosts.most_common(1)[0][0])"),
)  # fmt: skip
# The last section sends prompts of another form, which a policy does not read.
other_form = lambda request: "```repl\nSUBMIT(host='web3')\n```"
lms = choose_models(route((asks_for("code"), moves), otherwise=other_form))
dspy.configure(lm=lms.root)


def make_log(lines: int) -> str:
    """Returns a log with an error in every 50th line, most of them on the host `web3`."""
    written = []
    for i in range(lines):
        what = "INFO [web1] request served"
        if i % 50 == 0:
            what = f"ERROR [web{i // 100 % 3 if i % 100 == 0 else 3}] request failed"
        written.append(f"2026-11-28T10:{i // 60 % 60:02}:{i % 60:02} {what}")
    return "\n".join(written)


log = make_log(20_000)
print(f"{len(log):,} characters")

# %% [markdown]
# ## The first prompt
#
# `dspy.LM` keeps its calls in `history`. This is the very first request of a run: a system message and a user message.

# %%
rlm = dspy_rlm.RLM("log, question -> host: str", max_iterations=5)
prediction = rlm(log=log, question="Which host has most errors?")
first, *later = lms.root.history[-prediction.run.iterations :]
system, user = (message["content"] for message in first["messages"])

print(user)

# %% [markdown]
# Of the log there is the name, the type, the size, the first and the last characters. There are also the turns and the calls that are left, and the history of the run, which is still empty.
#
# ## The rules
#
# The system message has two parts. The **policy block** says what the task is and how to go about it; [optimizers](08_optimise.ipynb) may rewrite it. The **contract** lists what
# exists in this very call: variables, functions, limits, the way to submit. It is computed each time, so no rewrite can break it.

# %%
import textwrap

for line in textwrap.dedent(system[system.index("Given the fields") - 8 :]).splitlines():
    print(textwrap.fill(line, 130, subsequent_indent="  "))

# %% [markdown]
# ## The second prompt
#
# It is the first one, and the first step: the reasoning, the code, and what the code printed. A cell's output is cut at `max_output_chars` (10,000), so printing the whole
# log would not have helped.

# %%
second = later[0]["messages"][-1]["content"]
print(second[second.index("=== Step 1") : second.index("=== Step 1") + 420])

# %% [markdown]
# ## The measurement
#
# The same question for logs from 2 kB to 60 MB. The last one would fill the windows of some seventy models of 200,000 tokens each.

# %%
sizes, prompts = [], []
for lines in (40, 400, 4_000, 40_000, 400_000, 1_200_000):
    longer = make_log(lines)
    lms.root.history.clear()
    rlm(log=longer, question="Which host has most errors?")
    sizes.append(len(longer))
    prompts.append([sum(len(m["content"]) for m in call["messages"]) for call in lms.root.history])

for size, chars in zip(sizes, prompts, strict=True):
    print(f"log of {size:>12,} characters: prompts of {', '.join(f'{n:,}' for n in chars)}")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
axes.loglog(sizes, sizes, "o--", color="#b8860b", label="the whole log in a prompt")
axes.loglog(
    sizes,
    [max(chars) for chars in prompts],
    "o-",
    color="#3b82c4",
    label="largest prompt of the RLM",
)
axes.axhline(800_000, color="#d9534f", linewidth=1)
axes.annotate("window of 200,000 tokens, about", (sizes[0], 1e6), color="#d9534f", fontsize=9)
axes.set(
    ylim=(1e3, 3e9),
    xlabel="characters of the log",
    ylabel="characters of the prompt",
    title="Input and prompt",
)
axes.legend(loc="upper left")
plt.show()

# %%
if lms.scripted:
    assert prediction.host == "web3"
    # Numbers in the size line have more digits; nothing else of the prompt grows with the input.
    assert max(map(max, prompts)) - min(map(max, prompts)) < 100
assert max(map(max, prompts)) < sizes[-1] / 1_000
assert "request served" not in system

# %% [markdown]
# ## Other forms of the same prompt
#
# Three settings change what is shown; the engine below stays the same.
#
# | setting | effect |
# |---|---|
# | `style="paper"`, `style="tools"` | the conversation of the paper with `repl` blocks and `FINAL`; or tool calls |
# | `observations="opaque"` | the model sees the shape of an output, never its text |
# | `history_tokens=`, `compaction=` | how long runs are shortened before they reach the model's window |

# %%
styles = {}
for style in ("default", "paper", "tools"):
    lms.root.history.clear()
    dspy_rlm.RLM("log, question -> host: str", style=style)(
        log=log, question="Which host has most errors?"
    )
    messages = lms.root.history[0]["messages"]
    styles[style] = sum(len(str(m["content"])) for m in messages)
    print(f"{style:8} {styles[style]:,} characters in {len(messages)} messages")

# %% [markdown]
# [docs/prompt.md](../docs/prompt.md) has the whole prompt with the reason for each sentence. **Next:** [3. Typed inputs and outputs](03_typed_inputs_and_outputs.ipynb)
