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
# # 1. Quickstart
#
# A language model reads a long text badly, and a very long one not at all. A **Recursive Language Model** does not read it:
# the text is a variable in a sandboxed Python REPL, and the model writes code that searches it and sends only the interesting
# pieces to a cheaper model.
#
# This notebook asks one question about a book of 200 pages: the reference manual that every Python carries along. It takes a few seconds and needs
# neither a key nor a network, because a script plays the models. The last section replaces the script by a real model.

# %%
from pydoc_data.topics import topics as manual

import dspy

import dspy_rlm

print(f"{len(manual)} sections, {sum(map(len, manual.values())):,} characters")
print(manual["yield"][:260])

# %% [markdown]
# ## The stand-in for a model
#
# *Skip this cell at first.* The generator below is what a model would write, turn by turn: a thought, and code. It does not know the answer; it sees the same prompts
# as a model, and its code runs in the real sandbox. The sub-LM is one rule: it answers with a sentence that has the word in question.

# %%
import re

from dspy_rlm.testing import Action, choose_models, policy, rules


@policy
def root(task):
    yield Action(
        "I do not know this manual. How large is it, and what are its sections called?",
        """
print(len(manual), 'sections,', sum(map(len, manual.values())), 'characters')
print(*list(manual)[:8])
""",
    )
    yield Action(
        "Too long to read. I count the word in each section instead.",
        r"""
import re
word = re.search(r'`(\w+)`', question)[1]
counts = {name: len(re.findall(rf'\b{word}\b', text)) for name, text in manual.items()}
best = sorted((name for name in counts if counts[name] >= 3), key=counts.get, reverse=True)
print([(name, counts[name]) for name in best])
""",
    )
    yield Action(
        "A few sections are worth reading. The sub-LM reads them, all at the same time.",
        r"""
task = f'In one sentence: what does this text say about `{word}`?'
notes = sub_llm_batched([f'{task}\n\n{manual[name]}' for name in best])
for name, note in zip(best, notes):
    print(f'{name}: {note}')
""",
    )
    yield Action(
        "The note on the section with most mentions answers the question.",
        "SUBMIT(answer=notes[0], sections=best)",
    )


def a_sentence_with_the_word(match):
    """A poor reader: of the sentences with the word, it likes one that says what something causes."""
    word, text = match.groups()
    sentences = re.split(r"(?<=[.:])\s+", " ".join(text.split()))
    prose = [
        s for s in sentences if re.search(rf"\b{word}\b", s) and not re.search(r"\*\*|::=|<", s)
    ]
    return next(
        (s for s in prose if re.search("cause|create", s)), max(prose, key=len, default="Nothing.")
    )


sub = rules(
    [
        (
            re.compile(r"what does this text say about `(\w+)`\?\s+(.*)", re.S),
            a_sentence_with_the_word,
        )
    ]
)

lms = choose_models(root, sub)

# %% [markdown]
# ## Ask
#
# The signature says what goes in and what must come out, with types. `live=True` shows the run while it goes on, and its last state stays in the notebook:
# each step is the model's thought, the code that it wrote, and what the code printed.

# %%
dspy.configure(lm=lms.root)

rlm = dspy_rlm.RLM(
    "manual: dict[str, str], question -> answer: str, sections: list[str]",
    sub_lm=lms.sub,
    max_iterations=10,
    live=True,
)
prediction = rlm(manual=manual, question="What is `yield` for, and which sections explain it?")

# %% [markdown]
# The outputs have the declared types. They are ordinary fields of a `dspy.Prediction`.

# %%
print(prediction.answer)
prediction.sections

# %% [markdown]
# ## What did it cost?
#
# The report of the run says what was sent where. The point of the method is in the last lines: the root LM answered a question about the whole manual
# without ever seeing more than a small part of it.

# %%
report = prediction.run
manual_chars = sum(map(len, manual.values()))
largest_prompt = max(sum(len(m["content"]) for m in call["messages"]) for call in lms.root.history)

print(f"turns of the root LM    {report.iterations}")
print(f"calls of the sub-LM     {len(report.sub_calls)}")
print(f"ended by                {report.stopped_by}")
print(f"the manual              {manual_chars:,} characters")
print(f"largest root prompt     {largest_prompt:,} characters, of which most are instructions")

assert report.status == "submitted"
assert "yield" in prediction.sections
assert largest_prompt < manual_chars / 10
if lms.scripted:
    # Python computes the list of sections without any model, to check the run.
    counts = {name: len(re.findall(r"\byield\b", text)) for name, text in manual.items()}
    assert set(prediction.sections) == {name for name, count in counts.items() if count >= 3}
    assert report.iterations == 4

# %% [markdown]
# ## With a real model
#
# Start Jupyter with a model and its key in the environment, and run the notebook again. The first is the root LM, which writes code; the second is the sub-LM, which
# reads pieces and may be much cheaper:
#
# ```bash
# export OPENAI_API_KEY=...
# DSPY_RLM_MODEL=openai/gpt-5 DSPY_RLM_SUB_MODEL=openai/gpt-5-mini jupyter lab notebooks/
# ```
#
# In a program of your own there is nothing but the two cells under *Ask*:
#
# ```python
# dspy.configure(lm=dspy.LM("openai/gpt-5"))
# rlm = dspy_rlm.RLM("manual: dict[str, str], question -> answer: str", sub_lm=dspy.LM("openai/gpt-5-mini"))
# rlm(manual=manual, question="What is `yield` for?").answer
# ```
#
# **Next:** [2. What the model sees](02_what_the_model_sees.ipynb)
